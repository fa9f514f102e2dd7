"""Change a base model so that it computes the same: ``python -m rlscape.cli.intervene_base --base DIR ...``.

Writes a model directory (weights rounded to bf16 values, as every base's) and intervention.json: the settings, the
edited layers, and how far the logits of random sequences move.
"""

import argparse
from pathlib import Path

import torch

from rlscape.cli.common import fail_clearly, parse_settings, start_logging
from rlscape.config import Intervention
from rlscape.files import write_json
from rlscape.models.build import load_decoder, save_trained, snap_to_bf16_
from rlscape.models.interventions import INTERVENTION_FILE, Gauge, changed_model, logit_differences

SEQUENCES, LENGTH = 16, 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True, type=Path, help="directory of the base model")
    parser.add_argument("--settings", required=True, help="Intervention as JSON")
    parser.add_argument("--output", required=True, type=Path, help="directory")
    arguments = parser.parse_args()

    start_logging()
    torch.set_num_threads(1)
    intervention = parse_settings(Intervention, arguments.settings)
    base = load_decoder(arguments.base)
    gauge = Gauge.of(intervention, base.config)
    random = torch.Generator().manual_seed(intervention.seed)
    ids = torch.randint(base.config.vocab_size, (SEQUENCES, LENGTH), generator=random)
    changed = changed_model(base, gauge)
    snap_to_bf16_(changed)
    save_trained(changed, arguments.base, arguments.output)
    record = {
        "settings": intervention.model_dump(mode="json"),
        "layers": sorted(gauge.edited),
        "sequences": list(ids.shape),
        "logit_differences": logit_differences(base, gauge, ids),
    }
    write_json(arguments.output / INTERVENTION_FILE, record)


if __name__ == "__main__":
    fail_clearly(main)
