"""Intervals: within a run by parametric bootstrap, over seeds by Student's t on per-seed fits.

A percentile bootstrap over five seeds covers too little (about 83% for a nominal 95%), hence t over seeds.
One seed gives no interval: its limits are NaN.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from rlscape.scaling.curves import Curve, Initial
from rlscape.scaling.lattice import Lattice
from rlscape.scaling.sigmoid import FloatArray
from rlscape.scaling.sigmoid_fit import SigmoidFit

BOOTSTRAP_LATTICE = (300, 120)
"""Values of C_mid and of B."""


@dataclass(frozen=True)
class Interval:
    """An estimate over seeds; the limits are NaN if they cannot be given."""

    estimate: float
    low: float
    high: float
    seeds: int


def t_interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """Mean over seeds with Student's t limits. NaN values (failed fits) are left out and not counted."""
    array = np.asarray([value for value in values if not np.isnan(value)], dtype=float)
    n = len(array)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(array.mean())
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    half = float(stdtrit(n - 1, (1 + confidence) / 2) * array.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def log_t_interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """Geometric mean of positive values with Student's t limits on the logarithm."""
    on_log = t_interval((float(np.log(value)) for value in values), confidence)
    estimate, low, high = (float(np.exp(x)) for x in (on_log.estimate, on_log.low, on_log.high))
    return Interval(estimate, low, high, on_log.seeds)


def paired_differences(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """``first - second`` for every seed in both, in order of seed."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def _binomial(rate: ArrayLike, error: ArrayLike, rng: np.random.Generator) -> FloatArray:
    """Pass rates of as many samples as give this standard error (at least one)."""
    rate = np.asarray(rate)
    samples = np.maximum(np.rint(rate * (1 - rate) / np.asarray(error) ** 2), 1).astype(int)
    return rng.binomial(samples, rate) / samples


def bootstrap_fits(
    fit: SigmoidFit, curve: Curve, initial: Initial, draws: int, rng: np.random.Generator
) -> list[SigmoidFit]:
    """Refits to curves drawn from a fitted one; empty if that fit failed.

    Each draw takes binomial pass rates around the fitted curve, and around R_0 on the base model, with the
    sample sizes that the standard errors imply; scatter of the points beyond their standard errors makes
    these sizes smaller in proportion (dispersion chi^2 / (n - 3), never below 1). The refit is the best point
    of a fine lattice of (C_mid, B) at the best A.

    Args:
        fit: by least squares, with R_0 fixed.
        curve: the n evaluations that were fitted, all at positive compute.
    """
    if fit.reason:
        return []
    dispersion = max(1.0, fit.sse / (fit.points - 3))
    rates = fit.predict(curve.compute)
    error = curve.standard_error * np.sqrt(dispersion)
    lattice = Lattice.over(curve.compute, curve.standard_error**-2, *BOOTSTRAP_LATTICE)
    refits = []
    for _ in range(draws):
        start = float(_binomial(initial.pass_rate, initial.standard_error, rng))
        gain, sse = lattice.profile(_binomial(rates, error, rng) - start, 1 - start)
        c, b = np.unravel_index(sse.argmin(), sse.shape)
        refits.append(
            SigmoidFit(
                A=start + float(gain[c, b]),
                B=float(lattice.B[b]),
                C_mid=float(np.exp(lattice.log_C_mid[c])),
                R_0=start,
                sse=float(sse[c, b]),
                points=len(curve),
                method="lattice",
            )
        )
    return refits


def percentile_interval(values: ArrayLike, confidence: float) -> tuple[float, float]:
    """The central interval of finite values; NaN if there are none."""
    array = np.asarray(values, dtype=float)
    array = array[np.isfinite(array)]
    if not len(array):
        return np.nan, np.nan
    low, high = np.quantile(array, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def parameter_intervals(refits: Iterable[SigmoidFit], confidence: float) -> dict[str, tuple[float, float]]:
    """Percentile intervals of A, B and C_mid over bootstrap refits."""
    refits = list(refits)
    return {
        name: percentile_interval([getattr(refit, name) for refit in refits], confidence)
        for name in ("A", "B", "C_mid")
    }
