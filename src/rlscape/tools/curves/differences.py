"""The difference of one quantity between two recipes, with an interval over seeds or within the runs.

Conventions, those of :mod:`rlscape.tools.curves.seeds` carried over to differences:

1. The estimate is the difference of the pooled fits, which ``rlscape fit`` shows.
2. With two runs or more of both recipes: Student's t, paired by the runs' names where those of one recipe are all
   among the other's, otherwise Welch's. Runs that share prompts and their order look falsely alike: the variance of a
   mean is multiplied by ``(1 + (n - 1) rho) / (1 - rho)``, for pairs with the correlation rho of the differences of
   their residuals, in which what the two runs of a pair share has already gone.
3. Limits within the runs are combined as ``d - sqrt((b - b_low)^2 + (a_high - a)^2 - 2 r (b - b_low) (a_high - a))``,
   likewise above, which keeps the skew of likelihood limits (method of variance estimates recovery, Zou and Donner
   2008). r is what the two estimates share: the correlation of the recipes' mean residuals, at its lower 95% limit and
   never below 0, times the cosine between the weights that the two estimates give to the points.
4. The interval is the wider of 2 and 3 on either side. Where a recipe has one run, it is 3 alone (with the interval of
   :mod:`rlscape.tools.curves.seeds` for a recipe that has several): it does not hold how much another seed would
   differ.
5. The smallest difference that the data could have shown, at 80% power: ``(t_c + t_80) SE`` with
   ``SE = half the interval / t_c``, and t_c, t_80 Student's t at two-sided confidence and at a probability of 80%.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import expit, stdtrit

from rlscape.scaling.sigmoid import FloatArray, log_compute
from rlscape.scaling.sigmoid_fit import SigmoidFit
from rlscape.tools.curves.intervals import predict, quantile
from rlscape.tools.curves.logs import Series
from rlscape.tools.curves.seeds import (
    COMMON_POINTS,
    LARGEST_CORRELATION,
    MOST_POINTS,
    ONE_SIDED,
    Estimate,
    between_runs,
    pearson,
)

POWER = 0.8


@dataclass(frozen=True)
class Measured:
    """A quantity of one recipe, on the scale on which differences are taken."""

    pooled: float
    """Of the pooled fit."""
    low: float
    """Limits within the runs, possibly infinite."""
    high: float
    runs: Mapping[str, float]
    """Of every run's own fit, by name."""
    degrees: int
    """Of freedom of the pooled fit."""


@dataclass(frozen=True)
class Shared:
    """What the residuals of two recipes have in common; NaN where it cannot be known."""

    of_pairs: float
    """Between the differences of paired runs, over pairs of pairs."""
    of_first: float
    """Between the runs of either recipe."""
    of_second: float
    of_means: float
    """Between the recipes' mean residuals: a lower limit, at least 0."""


@dataclass(frozen=True)
class Difference:
    """First less second."""

    estimate: Estimate
    detectable: float
    """The smallest difference that the data could have shown; NaN if an end of the interval is open."""
    method: str


def names_pair(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The names by which runs are paired; empty if they are not."""
    common = [name for name in first if name in set(second)]
    return common if len(common) >= 2 and len(common) == min(len(first), len(second)) else []


def subtract(first: Measured, second: Measured, shared: Shared, correlation: float, confidence: float) -> Difference:
    """``first - second``.

    Args:
        correlation: of the two pooled estimates, r of the module's third convention.
    """
    d = first.pooled - second.pooled
    counts = [sum(not np.isnan(value) for value in part.runs.values()) for part in (first, second)]
    over_seeds = min(counts) >= 2
    if over_seeds:
        low, high = _within(first, second, correlation)
        half, degrees, method = _between(first.runs, second.runs, shared, confidence)
        low, high = min(low, d - half), max(high, d + half)
    else:
        first, second = _widened(first, shared.of_first, confidence), _widened(second, shared.of_second, confidence)
        low, high = _within(first, second, correlation)
        degrees, method = float(min(first.degrees, second.degrees)), "within runs"
    ratio = float(stdtrit(degrees, POWER)) / quantile(confidence, degrees)
    detectable = (high - low) / 2 * (1 + ratio) if np.isfinite(high - low) else np.nan
    return Difference(Estimate(d, low, high), detectable, method)


def _widened(part: Measured, rho: float, confidence: float) -> Measured:
    """With the differences between its runs, if there are several."""
    half = between_runs(list(part.runs.values()), rho, confidence)
    low, high = min(part.low, part.pooled - half), max(part.high, part.pooled + half)
    return Measured(part.pooled, low, high, part.runs, part.degrees)


def _within(first: Measured, second: Measured, correlation: float) -> tuple[float, float]:
    d = first.pooled - second.pooled

    def length(a: float, b: float) -> float:
        if not np.isfinite(a + b):
            return np.inf
        return float(np.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0)))

    below = length(first.pooled - first.low, second.high - second.pooled)
    return d - below, d + length(first.high - first.pooled, second.pooled - second.low)


def _between(
    first: Mapping[str, float], second: Mapping[str, float], shared: Shared, confidence: float
) -> tuple[float, float, str]:
    """Half the interval over seeds, its degrees of freedom, and how it was made."""
    names = [
        name
        for name in names_pair(list(first), list(second))
        if not np.isnan(first[name]) and not np.isnan(second[name])
    ]
    if len(names) >= 2:
        differences = [first[name] - second[name] for name in names]
        half = between_runs(differences, shared.of_pairs, confidence)
        return half, len(names) - 1.0, f"paired t over {len(names)} seeds"
    variances, degrees, counts = [], [], []
    for values, rho in ((first, shared.of_first), (second, shared.of_second)):
        known = [value for value in values.values() if not np.isnan(value)]
        n = len(known)
        variances.append((between_runs(known, rho, confidence) / quantile(confidence, n - 1)) ** 2)
        degrees.append(n - 1)
        counts.append(n)
    total = sum(variances)
    parts = sum(variance**2 / freedom for variance, freedom in zip(variances, degrees, strict=True))
    welch = total**2 / parts if parts else float(sum(degrees))
    return (
        quantile(confidence, welch) * float(np.sqrt(total)),
        welch,
        f"Welch's t over {counts[0]} and {counts[1]} seeds",
    )


def residuals_on_common(
    series: Sequence[Sequence[Series]],
    fits: Sequence[Sequence[SigmoidFit]],
    to_unit: Callable[[FloatArray], FloatArray],
) -> tuple[FloatArray, list[FloatArray]]:
    """The compute (m,) of the first run that lies within all runs, of a long run every so many, and the residuals there
    of every run's own fit, an array (runs, m) per recipe; interpolated where a run has no evaluation."""
    all_runs = [run for group in series for run in group]
    low = max(float(run.x[run.x > 0].min()) for run in all_runs)
    high = min(float(run.x.max()) for run in all_runs)
    grid = all_runs[0].x
    grid = grid[(grid >= low) & (grid <= high)]
    grid = grid[:: max(len(grid) // MOST_POINTS, 1)]

    def residuals(run: Series, fit: SigmoidFit) -> FloatArray:
        return np.interp(grid, run.x, to_unit(run.y) - predict(fit, run.x))

    return grid, [
        np.array([residuals(run, fit) for run, fit in zip(group, of_group, strict=True)])
        for group, of_group in zip(series, fits, strict=True)
    ]


def measure_shared(
    first: FloatArray, second: FloatArray, pairs: Sequence[tuple[int, int]], of_first: float, of_second: float
) -> Shared:
    """From residuals (runs, m) at common compute.

    Args:
        pairs: indices of the paired runs.
        of_first, of_second: the correlation between the runs of either recipe.
    """
    differences = [first[i] - second[j] for i, j in pairs]
    found = [pearson(a, b) for a, b in combinations(differences, 2)]
    r = pearson(first.mean(axis=0), second.mean(axis=0))
    points = first.shape[1]
    lower = np.nan
    if points > COMMON_POINTS:
        lower = np.tanh(np.arctanh(min(r, LARGEST_CORRELATION)) - ONE_SIDED / np.sqrt(points - 3))
    return Shared(
        float(np.mean(found)) if found else np.nan,
        of_first,
        of_second,
        0.0 if np.isnan(lower) else max(float(lower), 0.0),
    )


def _gradient(fit: SigmoidFit, compute: FloatArray, free_start: bool) -> FloatArray:
    """Derivatives of the curve by A, log B, log C_mid and, if it is free, R_0: (n, parameters)."""
    distance = log_compute(compute) - np.log(fit.C_mid)
    s = expit(fit.B * distance)
    with np.errstate(invalid="ignore"):
        bend = np.nan_to_num((fit.A - fit.R_0) * s * (1 - s) * fit.B * distance, posinf=0.0, neginf=0.0)
    columns = [s, bend, -(fit.A - fit.R_0) * s * (1 - s) * fit.B]
    return np.column_stack([*columns, 1 - s] if free_start else columns)


def estimates_cosine(
    first: SigmoidFit, second: SigmoidFit, compute: FloatArray, at: tuple[float, float], free_start: bool
) -> float:
    """The cosine between the weights that two fits give to points at ``compute`` (m,) in their curves' values at
    ``at``; 0 if a fit does not rise."""
    if first.reason or second.reason or len(compute) < COMMON_POINTS:
        return 0.0
    weights = [
        _gradient(fit, np.array([value]), free_start)[0] @ np.linalg.pinv(_gradient(fit, compute, free_start))
        for fit, value in zip((first, second), at, strict=True)
    ]
    norm = np.linalg.norm(weights[0]) * np.linalg.norm(weights[1])
    return max(float(weights[0] @ weights[1] / norm), 0.0) if norm else 0.0
