"""Forecast a run from its first part: ``python -m rlscape.cli.forecast --metrics FILE ...``.

Only the compute column is read in full; pass rates are read up to the cutoff and no further, so that the
forecast is on disk before anything reads the rest.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

from rlscape.cli.common import fail_clearly, parse_settings
from rlscape.config import FitSettings
from rlscape.files import write_json
from rlscape.scaling.curves import read_curve, read_identity, read_initial, total_compute
from rlscape.scaling.forecast import make_forecast
from rlscape.scaling.records import plain

BOOTSTRAP_SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", required=True, type=Path, help="metrics.parquet of the run")
    parser.add_argument("--base-evaluation", required=True, type=Path, help="evaluation.json of its base")
    parser.add_argument("--settings", required=True, help="FitSettings as JSON")
    parser.add_argument("--output", required=True, type=Path, help="JSON file")
    arguments = parser.parse_args()

    settings = parse_settings(FitSettings, arguments.settings)
    initial = read_initial(arguments.base_evaluation)
    total = total_compute(arguments.metrics)
    curve = read_curve(arguments.metrics, up_to=settings.fit_fraction * total)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    forecast = make_forecast(curve, initial, total, settings, rng)
    record = read_identity(arguments.metrics) | {
        "settings": settings.model_dump(mode="json"),
        "initial": asdict(initial),
    }
    write_json(arguments.output, plain(record) | forecast.to_dict())


if __name__ == "__main__":
    fail_clearly(main)
