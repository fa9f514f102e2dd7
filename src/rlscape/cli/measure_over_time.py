"""Measure every snapshot of a run: ``python -m rlscape.cli.measure_over_time --base DIR --snapshots FILE ...``.

Writes over_time.parquet and profiles.parquet.
"""

import argparse
from pathlib import Path

import torch

from rlscape.cli.common import fail_clearly, parse_settings, start_logging
from rlscape.config import GeometrySettings
from rlscape.files import write_parquet
from rlscape.geometry.profiles import measure_over_time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, type=Path, help="directory of the model that the run started from")
    parser.add_argument("--snapshots", required=True, type=Path, help="the run's snapshots.safetensors")
    parser.add_argument("--settings", required=True, help="GeometrySettings as JSON")
    parser.add_argument("--output", required=True, type=Path, help="directory")
    arguments = parser.parse_args()

    start_logging()
    torch.set_num_threads(1)
    settings = parse_settings(GeometrySettings, arguments.settings)
    measured = measure_over_time(arguments.base, arguments.snapshots, settings)
    write_parquet(arguments.output / "over_time.parquet", measured.over_time)
    write_parquet(arguments.output / "profiles.parquet", measured.profiles)


if __name__ == "__main__":
    fail_clearly(main)
