"""Change a base model so that it computes the same (P2, Figure 6)."""

from pathlib import Path

import torch

from rlscape.files import write_json
from rlscape.models.build import load_decoder, save_trained, snap_to_bf16_
from rlscape.models.interventions import INTERVENTION_FILE, Gauge, changed_model, logit_differences
from rlscape.pipeline.entry import run
from rlscape.settings.measurement import Intervention

SEQUENCES, LENGTH = 16, 48


def intervene_base(base: Path, settings: Intervention, output: Path) -> None:
    """Write a model directory (weights rounded to bf16 values, as every base's) and intervention.json.

    That is the settings, the edited layers, and how far the logits of random sequences move.
    """
    model = load_decoder(base)
    gauge = Gauge.of(settings, model.config)
    random = torch.Generator().manual_seed(settings.seed)
    ids = torch.randint(model.config.vocab_size, (SEQUENCES, LENGTH), generator=random)
    changed = changed_model(model, gauge)
    snap_to_bf16_(changed)
    save_trained(changed, base, output)
    record = {
        "settings": settings.model_dump(mode="json"),
        "layers": sorted(gauge.edited),
        "sequences": list(ids.shape),
        "logit_differences": logit_differences(model, gauge, ids),
    }
    write_json(output / INTERVENTION_FILE, record)


if __name__ == "__main__":
    run(intervene_base)
