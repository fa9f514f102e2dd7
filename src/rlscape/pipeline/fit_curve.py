"""Forecast a run from its first part, then fit all of it.

Of the later part only the compute column is read until the forecast is on disk: no pass rate after the cutoff can
enter it.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from rlscape.files import write_json
from rlscape.pipeline.entry import run
from rlscape.scaling.curves import read_curve, read_identity, read_initial, total_compute
from rlscape.scaling.forecast import fit_curve as fit_whole
from rlscape.scaling.forecast import make_forecast, score_forecast
from rlscape.scaling.records import plain
from rlscape.scaling.windows import fit_windows
from rlscape.settings.measurement import FitSettings
from rlscape.tasks.base import column_prefix

FORECAST_SEED, FIT_SEED = 0, 1
"""Of the bootstraps."""


def fit_curve(
    metrics: Path, base_evaluation: Path, task: str, prefix: str, settings: FitSettings, forecast: Path, output: Path
) -> None:
    """Write the forecast, then the fit and the forecast's score, as JSON files.

    Args:
        prefix: of the task's columns in ``metrics``.
    """
    initial = read_initial(base_evaluation, column_prefix(task))
    total = total_compute(metrics)
    common = read_identity(metrics) | {
        "task": task,
        "settings": settings.model_dump(mode="json"),
        "initial": asdict(initial),
    }

    seen = read_curve(metrics, prefix, up_to=settings.fit_fraction * total)
    made = make_forecast(seen, initial, total, settings, np.random.default_rng(FORECAST_SEED))
    write_json(forecast, plain(common) | made.to_dict())

    curve = read_curve(metrics, prefix)
    record = common | {
        "total_compute": total,
        "fitted": asdict(fit_whole(curve, initial, total, settings, np.random.default_rng(FIT_SEED))),
        "score": score_forecast(made, curve),
        "windows": [fit.to_dict() for fit in fit_windows(curve, initial, total)],
    }
    write_json(output, plain(record))


if __name__ == "__main__":
    run(fit_curve)
