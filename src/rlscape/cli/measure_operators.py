"""Measure one update in many ways: ``python -m rlscape.cli.measure_operators --base DIR --model DIR ...``.

Writes operators.parquet (masks and subspaces, over rank and density) and mantissa.parquet (sparsity by precision).
"""

import argparse
from pathlib import Path

import torch

from rlscape.cli.common import fail_clearly, parse_settings, start_logging
from rlscape.config import GeometrySettings
from rlscape.files import write_parquet
from rlscape.geometry.operators import measure_operators


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, type=Path, help="directory of the model that the run started from")
    parser.add_argument("--model", required=True, type=Path, help="directory of the fine-tuned model")
    parser.add_argument("--settings", required=True, help="GeometrySettings as JSON")
    parser.add_argument("--output", required=True, type=Path, help="directory")
    arguments = parser.parse_args()

    start_logging()
    torch.set_num_threads(1)
    settings = parse_settings(GeometrySettings, arguments.settings)
    measured = measure_operators(arguments.base, arguments.model, settings)
    write_parquet(arguments.output / "operators.parquet", measured.operators)
    write_parquet(arguments.output / "mantissa.parquet", measured.mantissa)


if __name__ == "__main__":
    fail_clearly(main)
