"""Train one run, RL or SFT: ``python -m rlscape.cli.train --settings JSON --base DIR ...``.

Writes ``metrics.parquet``, ``updates.parquet`` (RL), ``model/`` and, last, ``run.json``.
"""

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from rlscape.catalogue import RunSettings
from rlscape.cli.common import add_device, fail_clearly, on_device, parse_settings, start_logging
from rlscape.files import provenance, write_json, write_parquet
from rlscape.models.build import as_decoder, load_decoder, save_trained
from rlscape.settings import Device


def train_with_rl(
    settings: RunSettings, base: Path, scratch: Path, output: Path
) -> tuple[torch.nn.Module, pd.DataFrame, dict]:
    """Run (or resume) an RL run; writes ``updates.parquet``."""
    from rlscape.rl.trainer import RLTrainer

    trainer = RLTrainer(settings, load_decoder(base))
    trainer.run(scratch / "checkpoint.pt")
    updates = trainer.updates_frame()
    write_parquet(output / "updates.parquet", updates)
    on_policy = updates[updates.staleness_max == 0].log_ratio_mean
    # Mean |log rho| while generator and trainer hold equal weights: pure numerical mismatch.
    return trainer.model, trainer.metrics_frame(), {"mismatch": float(on_policy.mean())}


def train_with_sft(
    settings: RunSettings, base: Path, scratch: Path, device: Device
) -> tuple[torch.nn.Module, pd.DataFrame, dict]:
    """Run an SFT run from its start; ``trl`` places its own tensors, the evaluator's need telling."""
    from rlscape.rl.evaluate import Evaluator
    from rlscape.sft import train_sft
    from rlscape.tasks.problems import make_task_sets

    with on_device(device):
        evaluator = Evaluator(
            load_decoder(base),
            make_task_sets(settings.math),
            settings.evaluation,
            settings.rl,
            head="fp32",
            temperature=1.0,
        )

    def evaluate(model: Any, step: int) -> dict:
        last = settings.sft is not None and step == settings.sft.steps
        with on_device(device):
            return evaluator.evaluate(
                as_decoder(model),
                seed=(settings.seed, 2, step),
                factor=settings.evaluation.final_factor if last else 1,
            )

    model, rows = train_sft(settings, base, scratch, evaluate, device)
    metrics = pd.DataFrame(rows)
    metrics.insert(0, "run", settings.name)
    metrics.insert(1, "arm", settings.arm)
    metrics.insert(2, "seed", settings.seed)
    return model, metrics, {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="RunSettings as JSON")
    parser.add_argument("--base", required=True, type=Path, help="directory of the base model")
    parser.add_argument("--claims", required=True, type=Path, help="the claims file, whose hash is recorded")
    parser.add_argument("--scratch", required=True, type=Path, help="directory for resumable checkpoints")
    parser.add_argument("--output", required=True, type=Path, help="directory of the run")
    add_device(parser)
    arguments = parser.parse_args()

    start_logging()
    settings = parse_settings(RunSettings, arguments.settings)
    # Read before the run: what the criteria and the code were when it started.
    origin = {
        "claims_sha256": hashlib.sha256(arguments.claims.read_bytes()).hexdigest(),
        "provenance": provenance(),
    }
    started = time.monotonic()
    if settings.method == "rl":
        with on_device(arguments.device):
            model, metrics, extra = train_with_rl(settings, arguments.base, arguments.scratch, arguments.output)
    else:
        model, metrics, extra = train_with_sft(settings, arguments.base, arguments.scratch, arguments.device)
    save_trained(model, arguments.base, arguments.output / "model")
    write_parquet(arguments.output / "metrics.parquet", metrics)
    record = {
        "run": settings.name,
        "arm": settings.arm,
        "seed": settings.seed,
        "method": settings.method,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "wall_seconds": time.monotonic() - started,
        "settings": settings.model_dump(mode="json"),
    }
    write_json(arguments.output / "run.json", record | origin | extra)
    (arguments.scratch / "checkpoint.pt").unlink(missing_ok=True)


if __name__ == "__main__":
    fail_clearly(main)
