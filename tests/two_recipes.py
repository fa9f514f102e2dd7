"""Logs of recipes whose curves are known, and their comparison."""

import numpy as np

from rlscape.scaling.sigmoid import FloatArray, sigmoid
from rlscape.tools.curves.log_comparison import Pair, Quantity, compare_logs
from rlscape.tools.curves.log_fit import FitOptions
from rlscape.tools.curves.logs import Log, Series

R_0 = 0.4


def simulated(
    rng: np.random.Generator,
    A: float = 0.7,
    B: float = 2.0,
    C_mid: float = 20.0,
    runs: int = 1,
    samples: int = 1000,
    last: float = 100.0,
    shared: FloatArray | None = None,
    name: str = "seed {}",
    spread: float = 0.0,
) -> Log:
    """Runs of 31 evaluations with binomial noise, of which 0.8 of the variance is ``shared`` (31,) if that is given.

    Args:
        spread: standard deviation of A between runs.
    """
    compute = np.linspace(0, last, 31)
    series = []
    for run in range(runs):
        rate = sigmoid(compute, A + spread * rng.normal(), B, C_mid, R_0)
        if shared is None:
            seen = rng.binomial(samples, rate) / samples
        else:
            noise = np.sqrt(0.8) * shared + np.sqrt(0.2) * rng.normal(size=31)
            seen = rate + np.sqrt(rate * (1 - rate) / samples) * noise
        series.append(Series(name.format(run), compute, seen, np.full(31, float(samples))))
    return Log(tuple(series), "compute", "pass_rate", ())


def compared(first: Log, second: Log, options: FitOptions | None = None) -> Pair:
    """``second`` against ``first``."""
    return compare_logs({"first": first, "second": second}, options).pairs[0]


def quantity(pair: Pair, name: str) -> Quantity:
    return next(found for found in pair.quantities if found.name == name)
