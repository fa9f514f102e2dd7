"""The table of arms from the fits of runs: ``python -m rlscape.cli.summarise_fits --fits FILE... ...``."""

import argparse
from pathlib import Path

from rlscape.cli.common import fail_clearly, parse_settings
from rlscape.config import FitSettings
from rlscape.files import write_parquet
from rlscape.scaling.arms import read_ends, read_fit, summarise_arms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", required=True, nargs="+", type=Path, help="JSON files of rlscape.cli.fit")
    parser.add_argument("--metrics", required=True, nargs="+", type=Path, help="metrics.parquet of the runs")
    parser.add_argument("--settings", required=True, help="FitSettings as JSON")
    parser.add_argument("--reference-arm", help="arm whose A sets the level of C_tau; without it no C_tau")
    parser.add_argument("--output", required=True, type=Path, help="parquet file")
    arguments = parser.parse_args()

    settings = parse_settings(FitSettings, arguments.settings)
    runs = [read_fit(path) for path in arguments.fits]
    ends = read_ends(arguments.metrics)
    write_parquet(arguments.output, summarise_arms(runs, ends, arguments.reference_arm, settings.confidence))


if __name__ == "__main__":
    fail_clearly(main)
