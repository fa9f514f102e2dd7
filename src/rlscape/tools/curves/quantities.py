"""What ``rlscape compare`` measures of one recipe, and of two together: values, limits, and what runs share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import least_squares

from rlscape.scaling.arm_comparison import reach_level
from rlscape.scaling.lattice import B_LIMITS, log_C_mid_limits
from rlscape.scaling.sigmoid import FloatArray, sigmoid
from rlscape.scaling.sigmoid_fit import EDGE, SigmoidFit, fit_fixed_ceiling
from rlscape.tools.curves.differences import (
    Difference,
    Measured,
    Shared,
    estimates_cosine,
    measure_shared,
    names_pair,
    residuals_on_common,
    subtract,
)
from rlscape.tools.curves.intervals import Points, predict, quantile
from rlscape.tools.curves.log_fit import FitOptions, Report, fit_runs
from rlscape.tools.curves.logs import Log
from rlscape.tools.curves.seeds import PooledRuns, binned, to_points

LEVEL_POINTS = 80
"""Compute values at which the band is evaluated to find where it reaches the level."""


@dataclass(frozen=True)
class Fitted:
    """A recipe's log and fits, on the scale from 0 to 1."""

    name: str
    log: Log
    report: Report
    pooled: PooledRuns | None
    """None if there are too few points."""

    @classmethod
    def of(cls, name: str, log: Log, options: FitOptions) -> Self:
        """Fit a log."""
        report, pooled = fit_runs(log, options)
        return cls(name, log, report, pooled)

    @property
    def fits(self) -> tuple[SigmoidFit, ...]:
        """One per run."""
        return () if self.pooled is None else self.pooled.runs or (self.pooled.profile.fit,)

    def of_runs(self, value: Callable[[SigmoidFit], float]) -> dict[str, float]:
        """A function of every run's own fit."""
        return {run.name: float(value(fit)) for run, fit in zip(self.log.series, self.fits, strict=True)}


def first_compute(pooled: PooledRuns) -> float:
    """The lowest compute above zero."""
    compute = pooled.profile.points.compute
    return float(compute[compute > 0].min())


def curve_at(one: Fitted, pooled: PooledRuns, compute: float) -> Measured:
    """The curve at a compute; at infinity A."""
    profile = pooled.profile
    return Measured(
        float(predict(profile.fit, compute)),
        *profile.curve(compute, pooled.confidence),
        one.of_runs(lambda fit: float(predict(fit, compute))),
        profile.degrees,
    )


def log_compute_to(one: Fitted, pooled: PooledRuns, level: float) -> tuple[Measured, bool]:
    """The logarithm of the compute at which the curve reaches a level, and whether it is censored.

    The limits are where the curve's band reaches the level, infinite where it does not within the data.
    """
    profile, last = pooled.profile, pooled.last
    grid = np.geomspace(first_compute(pooled) / 10, last, LEVEL_POINTS)
    low, high = np.transpose([profile.curve(float(compute), pooled.confidence) for compute in grid])

    def reaches(band: FloatArray) -> float:
        band = np.maximum.accumulate(band)
        if band[0] >= level:
            return -np.inf
        return float(np.interp(level, band, np.log(grid))) if band[-1] >= level else np.inf

    overall = reach_level(profile.fit, level, last)
    lasts = {run.name: float(run.x.max()) for run in one.log.series}
    reached = {
        run.name: reach_level(fit, level, lasts[run.name]) for run, fit in zip(one.log.series, one.fits, strict=True)
    }
    censored = overall.censored or any(run.censored for run in reached.values())
    estimate = float(np.log(overall.compute))
    measured = Measured(
        estimate,
        min(reaches(high), estimate),
        max(reaches(low), estimate),
        {name: float(np.log(run.compute)) for name, run in reached.items()},
        profile.degrees,
    )
    return measured, censored


def _log_B(points: Points, ceiling: float, initial: float | None, start: float) -> tuple[float, float]:
    """log B at a given ceiling, and its standard error for a noise of 1; NaN if it is on the end of its range.

    Args:
        initial: R_0 if it is known; otherwise it is fitted.
        start: R_0 from which the fit starts.
    """
    error = points.weights**-0.5
    first = fit_fixed_ceiling(points.compute, points.rate, start, ceiling, error)
    if first.reason:
        return np.nan, np.nan

    def residuals(parameters: FloatArray) -> FloatArray:
        log_B, log_C_mid = parameters[:2]
        R_0 = parameters[2] if initial is None else initial
        return (points.rate - sigmoid(points.compute, ceiling, np.exp(log_B), np.exp(log_C_mid), R_0)) / error

    limits = log_C_mid_limits(points.compute[points.compute > 0])
    count = 3 if initial is None else 2
    lower = np.array([np.log(B_LIMITS[0]), limits[0], 0.0])[:count]
    upper = np.array([np.log(B_LIMITS[1]), limits[1], ceiling])[:count]
    begin = np.clip([np.log(first.B), np.log(first.C_mid), start][:count], lower, upper)
    fit = least_squares(residuals, begin, bounds=(lower, upper))
    if np.minimum(fit.x - lower, upper - fit.x)[0] < EDGE:
        return np.nan, np.nan
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac)
    return float(fit.x[0]), float(np.sqrt(covariance[0, 0]))


def log_B_at(one: Fitted, pooled: PooledRuns, ceiling: float, options: FitOptions) -> Measured:
    """log B at the common ceiling, of all runs together and of each."""
    initial = options.to_unit(options.initial)
    profile = pooled.profile
    start = profile.fit.R_0
    estimate, error = _log_B(profile.points, ceiling, initial, start)
    half = quantile(pooled.confidence, profile.degrees) * error * float(np.sqrt(profile.noise))
    runs = {}
    for run in one.log.series:
        points = to_points(run, options.bounds)
        points = binned(points if initial is None else points.where(points.compute > 0))
        runs[run.name] = _log_B(points, ceiling, initial, start)[0]
    return Measured(estimate, estimate - half, estimate + half, runs, profile.degrees)


@dataclass(frozen=True)
class Both:
    """Two recipes that could be fitted, and what they share."""

    one: Fitted
    reference: Fitted
    pooled: PooledRuns
    pooled_reference: PooledRuns
    shared: Shared
    common: FloatArray
    """(m,), the compute at which both have residuals."""

    @classmethod
    def of(
        cls, one: Fitted, reference: Fitted, pooled: PooledRuns, pooled_reference: PooledRuns, options: FitOptions
    ) -> Self:
        """Measure what the residuals share."""
        low = options.bounds[0]
        common, (first, second) = residuals_on_common(
            [one.log.series, reference.log.series],
            [one.fits, reference.fits],
            lambda y: (y - low) / options.scale,
        )
        names = [[run.name for run in each.log.series] for each in (one, reference)]
        pairs = [(names[0].index(name), names[1].index(name)) for name in names_pair(*names)]
        shared = measure_shared(first, second, pairs, pooled.correlation, pooled_reference.correlation)
        return cls(one, reference, pooled, pooled_reference, shared, common)

    def subtract(
        self, first: Measured, second: Measured, at: tuple[float, float] | None, options: FitOptions
    ) -> Difference:
        """Recipe less reference.

        Args:
            at: compute at which the two quantities are values of the curves, or follow from them; None if they do not.
        """
        r = 0.0
        if at is not None and self.shared.of_means > 0:
            fits = self.pooled.profile.fit, self.pooled_reference.profile.fit
            r = self.shared.of_means * estimates_cosine(*fits, self.common, at, options.initial is None)
        return subtract(first, second, self.shared, r, options.confidence)

    def at(self, compute: float, options: FitOptions) -> tuple[Measured, Measured, Difference]:
        """Both curves at a compute, and their difference."""
        first = curve_at(self.one, self.pooled, compute)
        second = curve_at(self.reference, self.pooled_reference, compute)
        return first, second, self.subtract(first, second, (compute, compute), options)
