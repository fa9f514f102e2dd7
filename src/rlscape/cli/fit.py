"""Fit all of a run and score its forecast: ``python -m rlscape.cli.fit --metrics FILE ...``."""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

from rlscape.cli.common import fail_clearly, parse_settings
from rlscape.config import FitSettings
from rlscape.files import read_json, write_json
from rlscape.scaling.curves import read_curve, read_identity, read_initial, total_compute
from rlscape.scaling.forecast import Forecast, fit_curve, score_forecast
from rlscape.scaling.records import plain

BOOTSTRAP_SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", required=True, type=Path, help="metrics.parquet of the run")
    parser.add_argument("--forecast", required=True, type=Path, help="JSON file of rlscape.cli.forecast")
    parser.add_argument("--base-evaluation", required=True, type=Path, help="evaluation.json of its base")
    parser.add_argument("--settings", required=True, help="FitSettings as JSON")
    parser.add_argument("--output", required=True, type=Path, help="JSON file")
    arguments = parser.parse_args()

    settings = parse_settings(FitSettings, arguments.settings)
    initial = read_initial(arguments.base_evaluation)
    forecast = Forecast.from_dict(read_json(arguments.forecast))
    total = total_compute(arguments.metrics)
    curve = read_curve(arguments.metrics)
    fitted = fit_curve(curve, initial, total, settings, np.random.default_rng(BOOTSTRAP_SEED))
    record = read_identity(arguments.metrics) | {
        "settings": settings.model_dump(mode="json"),
        "initial": asdict(initial),
        "total_compute": total,
        "fitted": asdict(fitted),
        "score": score_forecast(forecast, curve),
    }
    write_json(arguments.output, plain(record))


if __name__ == "__main__":
    fail_clearly(main)
