"""Round a trained model's weights to bf16 values: ``python -m rlscape.cli.snap --model DIR --output DIR``.

What is trained further is a released checkpoint, which is stored in bf16. From weights between two bf16 values rounding
has no dead zone, and the share of unchanged weights could not be compared with that of other runs.
"""

import argparse
from pathlib import Path

import torch

from rlscape.cli.common import fail_clearly
from rlscape.models.build import load_decoder, save_trained, snap_to_bf16_


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="directory of the trained model")
    parser.add_argument("--output", required=True, type=Path, help="directory")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    model = load_decoder(arguments.model)
    snap_to_bf16_(model)
    save_trained(model, arguments.model, arguments.output)


if __name__ == "__main__":
    fail_clearly(main)
