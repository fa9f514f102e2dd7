"""Forecast a run from its first part, then fit all of it: ``python -m rlscape.cli.fit --metrics FILE ...``.

Of the later part only the compute column is read until the forecast is on disk: no pass rate after the cutoff can
enter it.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np

from rlscape.cli.common import fail_clearly, parse_settings
from rlscape.config import FitSettings
from rlscape.files import write_json
from rlscape.scaling.curves import read_curve, read_identity, read_initial, total_compute
from rlscape.scaling.forecast import fit_curve, make_forecast, score_forecast
from rlscape.scaling.records import plain
from rlscape.scaling.windows import fit_windows
from rlscape.settings import COLUMN_PREFIX

FORECAST_SEED, FIT_SEED = 0, 1
"""Of the bootstraps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", required=True, type=Path, help="metrics.parquet of the run")
    parser.add_argument("--base-evaluation", required=True, type=Path, help="evaluation.json of its base")
    parser.add_argument("--task", choices=tuple(COLUMN_PREFIX), default="math", help="whose pass rates (default: math)")
    parser.add_argument("--settings", required=True, help="FitSettings as JSON")
    parser.add_argument("--forecast", required=True, type=Path, help="JSON file of the forecast, written first")
    parser.add_argument("--output", required=True, type=Path, help="JSON file of the fit and the forecast's score")
    arguments = parser.parse_args()

    settings = parse_settings(FitSettings, arguments.settings)
    initial = read_initial(arguments.base_evaluation, arguments.task)
    total = total_compute(arguments.metrics)
    common = read_identity(arguments.metrics) | {
        "task": arguments.task,
        "settings": settings.model_dump(mode="json"),
        "initial": asdict(initial),
    }

    seen = read_curve(arguments.metrics, arguments.task, up_to=settings.fit_fraction * total)
    forecast = make_forecast(seen, initial, total, settings, np.random.default_rng(FORECAST_SEED))
    write_json(arguments.forecast, plain(common) | forecast.to_dict())

    curve = read_curve(arguments.metrics, arguments.task)
    record = common | {
        "total_compute": total,
        "fitted": asdict(fit_curve(curve, initial, total, settings, np.random.default_rng(FIT_SEED))),
        "score": score_forecast(forecast, curve),
        "windows": [fit.to_dict() for fit in fit_windows(curve, initial, total)],
    }
    write_json(arguments.output, plain(record))


if __name__ == "__main__":
    fail_clearly(main)
