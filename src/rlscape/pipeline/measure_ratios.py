"""Measure how far generator and trainer disagree before the first update: both sides' probabilities of the same tokens.

The batch is the one that a run of the recipe trains on first. Its tokens are sampled by the base model as the generator
computes it, and read again by the same weights as the trainer computes them.
"""

from pathlib import Path

import pandas as pd
import torch

from rlscape.files import write_parquet
from rlscape.models.build import load_decoder
from rlscape.models.decoder import Decoder
from rlscape.pipeline.entry import run
from rlscape.rl.packing import Packing
from rlscape.rl.policy import completion_log_probs
from rlscape.rl.trainer import RLTrainer
from rlscape.settings.run import RunSettings


def first_log_probs(settings: RunSettings, model: Decoder) -> pd.DataFrame:
    """A row per sampled token of the first batch: ``generator`` and ``trainer``, log-probabilities in nats."""
    trainer = RLTrainer(settings, model)
    sides: dict[str, list[torch.Tensor]] = {"generator": [], "trainer": []}
    for group in trainer.schedule.next_batch():
        completions = sorted(group.completions, key=lambda completion: len(completion.ids))
        batch = Packing(
            [trainer.training[group.prompt].prompt_ids],
            [completion.ids for completion in completions],
            torch.zeros(len(completions), dtype=torch.long),
        )
        loss_mask = torch.cat([completion.loss_mask for completion in completions])
        with torch.no_grad():
            log_probs = completion_log_probs(
                model, batch, loss_mask, trainer.recipe.trainer_head, trainer.recipe.temperature
            )
        sides["trainer"].append(log_probs)
        sides["generator"].append(torch.cat([completion.log_probs for completion in completions])[loss_mask])
    return pd.DataFrame({side: torch.cat(values).double().numpy() for side, values in sides.items()})


def measure_ratios(base: Path, settings: RunSettings, output: Path) -> None:
    """Write a table, see :func:`first_log_probs`."""
    write_parquet(output, first_log_probs(settings, load_decoder(base)))


if __name__ == "__main__":
    run(measure_ratios)
