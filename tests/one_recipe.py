"""Logs of one recipe whose curve is known, and their fit."""

import numpy as np

from rlscape.scaling.sigmoid import sigmoid
from rlscape.tools.curves.log_fit import FitOptions, Report, fit_log
from rlscape.tools.curves.logs import Log, Series

TRUE = {"A": 0.61, "B": 1.9, "C_mid": 1000.0, "R_0": 0.40}
SAMPLES = 16000.0


def curve(compute: np.ndarray) -> np.ndarray:
    return sigmoid(compute, **TRUE)


def grid(first: float = 0.3, last: float = 4.0, points: int = 75) -> np.ndarray:
    return np.geomspace(first, last, points) * TRUE["C_mid"]


def log_of(compute: np.ndarray, *rates: np.ndarray, samples: float | None = SAMPLES) -> Log:
    counts = None if samples is None else np.full(len(compute), samples)
    runs = tuple(Series(f"run{number}", compute, rate, counts) for number, rate in enumerate(rates))
    return Log(runs, "compute", "pass_rate", ())


def observed(rates: np.ndarray, seed: int = 0, samples: float = SAMPLES) -> np.ndarray:
    return np.random.default_rng(seed).binomial(int(samples), rates) / samples


def fit(rates: np.ndarray, compute: np.ndarray | None = None, samples: float | None = SAMPLES, **options) -> Report:
    return fit_log(log_of(grid() if compute is None else compute, rates, samples=samples), FitOptions(**options))


def holds(estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high
