"""Compare the updates of several runs: ``python -m rlscape.cli.measure_pairs --runs JSON --settings JSON ...``.

Writes two tables: similarities of every pair of runs, and how far each run's changes cluster in rows and columns.
"""

import argparse
from pathlib import Path

import torch

from rlscape.cli.common import fail_clearly, parse_settings, start_logging
from rlscape.config import GeometrySettings
from rlscape.files import write_parquet
from rlscape.geometry.pairs import ComparedRun, compare_runs
from rlscape.settings import Settings


class ComparedRuns(Settings):
    runs: tuple[ComparedRun, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, help='JSON: {"runs": [{"run": .., "base": .., "model": ..}, ..]}')
    parser.add_argument("--settings", required=True, help="GeometrySettings as JSON")
    parser.add_argument("--seed", required=True, type=int, help="of the null draws")
    parser.add_argument("--pairs", required=True, type=Path, help="parquet file")
    parser.add_argument("--stripes", required=True, type=Path, help="parquet file")
    arguments = parser.parse_args()

    start_logging()
    torch.set_num_threads(1)
    runs = parse_settings(ComparedRuns, arguments.runs).runs
    settings = parse_settings(GeometrySettings, arguments.settings)
    measured = compare_runs(runs, settings, torch.Generator().manual_seed(arguments.seed))
    write_parquet(arguments.pairs, measured.pairs)
    write_parquet(arguments.stripes, measured.stripes)


if __name__ == "__main__":
    fail_clearly(main)
