"""One recipe's runs as one curve, with intervals that hold for the recipe and not only for these runs.

With several runs (seeds) two things widen an interval beyond that of the pooled points:

1. Runs that share prompts and their order move together, so that n of them hold less than n times the information.
   The correlation rho of their residuals is measured: the mean over pairs of runs of the correlation of the residuals
   of each run's own fit at common compute. The variance of the pooled fit is multiplied by ``1 + (n - 1) rho``.
2. Runs differ from each other by more than the noise of their points. With s^2 the sample variance of the runs' own
   estimates, ``Var(mean) = s^2 / n (1 + (n - 1) rho) / (1 - rho)``: correlated runs look falsely alike (the
   expectation of s^2 is the variance times 1 - rho), and their mean is known less well. Limits are the estimate
   plus and minus Student's t for n - 1 degrees of freedom times its root; B and C_mid on the logarithm.

The interval is the wider of the two on either side, hence never narrower than what the noise within the runs gives.
rho is clipped to [0, 0.95] for this.

Residuals of one run may follow each other too (smoothed logs, rewards of training batches, a curve that is no
sigmoid). If their lag-one correlation r is positive beyond chance (one-sided 5%), the variance is multiplied by
``(1 + r) / (1 - r)``, as for a first-order autoregression.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Self

import numpy as np

from rlscape.errors import MetricsError
from rlscape.scaling.sigmoid import FloatArray
from rlscape.scaling.sigmoid_fit import SigmoidFit
from rlscape.tools.curves.intervals import Points, Profile, predict, quantile
from rlscape.tools.curves.logs import Log, Series

MOST_POINTS = 400
"""Points per run that are fitted one by one; more are binned."""
BINS = 300
COMMON_POINTS = 5
"""Fewest points at common compute from which a correlation is taken."""
LARGEST_CORRELATION = 0.95
LAG_DEGREES = 20
ONE_SIDED = 1.645
"""Standard errors beyond which a lag-one correlation is more than chance."""


@dataclass(frozen=True)
class Estimate:
    """A value with its limits; NaN where it cannot be given, infinite where there is no limit."""

    estimate: float
    low: float
    high: float


def check_bounds(log: Log, bounds: tuple[float, float]) -> None:
    """Refuse values that cannot be what the bounds say.

    Raises:
        MetricsError: a value lies outside; the message names the run, the column and the value.
    """
    low, high = bounds
    for series in log.series:
        extreme = next((value for value in (series.y.max(), series.y.min()) if not low <= value <= high), None)
        if extreme is not None:
            raise MetricsError(
                f"{series.name}: column {log.y_column!r} reaches {extreme:.6g}, outside the bounds {low:g} and "
                f"{high:g}; say what range it can have: for percent --bounds 0 100, "
                "for a reward from -1 to 1 --bounds -1 1"
            )


def to_points(series: Series, bounds: tuple[float, float]) -> Points:
    """A run on the scale from 0 to 1, weighed by its samples if these are known; the variances are not known yet."""
    rate = (series.y - bounds[0]) / (bounds[1] - bounds[0])
    weights = np.ones(len(rate)) if series.samples is None else series.samples
    return Points(series.x, rate, weights, known_noise=False)


def with_binomial_noise(points: Points, fit: SigmoidFit) -> Points:
    """Points weighed by their samples, with the binomial variances at the fitted rates.

    A rate p is taken as ``(p N + 1) / (N + 2)``, N all samples: no variance is zero.
    """
    samples, total = points.weights, float(points.weights.sum())
    rate = (predict(fit, points.compute) * total + 1) / (total + 2)
    return replace(points, weights=samples / (rate * (1 - rate)), known_noise=True)


def binned(points: Points) -> Points:
    """Means over log-spaced bins of compute, where there are more than ``MOST_POINTS``; zero compute stays apart."""
    if len(points) <= MOST_POINTS:
        return points
    at_start = points.compute <= 0
    later = points.where(~at_start)
    log_c = np.log(later.compute)
    edges = np.linspace(log_c.min(), log_c.max(), BINS + 1)
    bins = np.clip(np.searchsorted(edges, log_c, side="right") - 1, 0, BINS - 1)
    weight = np.bincount(bins, later.weights, BINS)
    full = weight > 0

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(bins, later.weights * values, BINS)[full] / weight[full]

    start = points.where(at_start)
    return Points(
        np.concatenate([start.compute, np.exp(mean(log_c))]),
        np.concatenate([start.rate, mean(later.rate)]),
        np.concatenate([start.weights, weight[full]]),
        points.known_noise,
    )


def pooled(parts: Sequence[Points]) -> Points:
    """All points of several runs; the noise is known if it is known in all of them."""
    return Points(
        np.concatenate([part.compute for part in parts]),
        np.concatenate([part.rate for part in parts]),
        np.concatenate([part.weights for part in parts]),
        known_noise=all(part.known_noise for part in parts),
    )


def lag_correlation(profiles: Sequence[Profile]) -> float:
    """The correlation of neighbouring residuals within runs, all runs together.

    A fit of p smooth parameters to n independent points leaves residuals that correlate by about -p / n; that is
    added back. NaN for fewer than ``LAG_DEGREES`` residual degrees of freedom: they say nothing of it.
    """
    if sum(profile.degrees for profile in profiles) < LAG_DEGREES:
        return np.nan
    residuals = [profile.residuals()[profile.points.compute > 0] for profile in profiles]
    products = sum(float(part[1:] @ part[:-1]) for part in residuals)
    squares = sum(float(part @ part) for part in residuals) or np.nan
    parameters = sum(len(profile.points) - profile.degrees for profile in profiles)
    return products / squares + parameters / sum(map(len, residuals))


def pearson(first: FloatArray, second: FloatArray) -> float:
    """The correlation of residuals (m,); NaN for fewer than ``COMMON_POINTS``, or if some do not vary."""
    if len(first) < COMMON_POINTS or not (first.std() > 0 and second.std() > 0):
        return np.nan
    return float(np.corrcoef(first, second)[0, 1])


def residual_correlation(profiles: Sequence[Profile]) -> float:
    """The mean correlation between the residuals of pairs of runs; NaN for one run, or if no pair overlaps.

    At the compute that both have; if that is fewer than ``COMMON_POINTS``, the second run's residuals are
    interpolated at the first one's compute.
    """
    found = []
    for first, second in combinations(profiles, 2):
        x_first, x_second = first.points.compute, second.points.compute
        common, i, j = np.intersect1d(x_first, x_second, return_indices=True)
        e_first, e_second = first.residuals()[i], second.residuals()[j]
        if len(common) < COMMON_POINTS:
            inside = (x_first >= x_second.min()) & (x_first <= x_second.max())
            e_first = first.residuals()[inside]
            e_second = np.interp(x_first[inside], x_second, second.residuals())
        if not np.isnan(value := pearson(e_first, e_second)):
            found.append(value)
    return float(np.mean(found)) if found else np.nan


@dataclass(frozen=True)
class PooledRuns:
    """The runs of a recipe, fitted: pooled, and each on its own. Made by :meth:`of`; all on the scale from 0 to 1."""

    profile: Profile
    """Of the pooled points, with the inflation of both correlations."""
    runs: tuple[SigmoidFit, ...]
    """Each run's own fit, if there are several."""
    correlation: float
    """rho as measured; NaN for one run."""
    lag_correlation: float
    """r as measured."""
    lag_inflation: float
    """Of the variance, by r."""
    shared_inflation: float
    """Of the variance, by rho."""
    confidence: float

    @classmethod
    def of(
        cls, series: Sequence[Series], bounds: tuple[float, float], initial: float | None, confidence: float
    ) -> Self:
        """Fit runs.

        Args:
            series: each with enough points for a fit, see :func:`rlscape.tools.curves.verdicts.fewest_points`.
            bounds: of y, in its units.
            initial: R_0 if it is known, on the scale from 0 to 1.
        """
        known = all(run.samples is not None for run in series)
        profiles = []
        for run in series:
            points = binned(to_points(run if known else replace(run, samples=None), bounds))
            if initial is not None:
                points = points.where(points.compute > 0)
            profile = Profile.of(points, initial, confidence)
            if known:
                profile = Profile.of(with_binomial_noise(points, profile.fit), initial, confidence)
            profiles.append(profile)
        parts = [profile.points for profile in profiles]
        lag, rho = lag_correlation(profiles), residual_correlation(profiles)
        by_lag, shared = 1.0, 1 + (len(parts) - 1) * _clipped(rho)
        if lag > ONE_SIDED / np.sqrt(sum(map(len, parts))):
            by_lag = (1 + _clipped(lag)) / (1 - _clipped(lag))
        if len(parts) == 1 and by_lag == 1:
            profile = profiles[0]
        else:
            profile = Profile.of(binned(pooled(parts)), initial, confidence, by_lag * shared)
        runs = tuple(profile.fit for profile in profiles) if len(profiles) > 1 else ()
        return cls(profile, runs, rho, lag, by_lag, shared, confidence)

    @property
    def inflation(self) -> float:
        """Of the variance, by both."""
        return self.lag_inflation * self.shared_inflation

    @property
    def last(self) -> float:
        """The largest compute."""
        return float(self.profile.points.compute.max())

    def _widened(
        self, estimate: float, limits: tuple[float, float], of_runs: Sequence[float], confidence: float
    ) -> Estimate:
        """The wider of the pooled limits and those from the differences between runs."""
        half = between_runs(of_runs, self.correlation, confidence)
        return Estimate(estimate, min(limits[0], estimate - half), max(limits[1], estimate + half))

    def at(self, compute: float, confidence: float | None = None) -> Estimate:
        """The curve at a compute: at zero R_0, at infinity A."""
        confidence = confidence or self.confidence
        of_runs = [float(predict(fit, compute)) for fit in self.runs]
        value = float(predict(self.profile.fit, compute))
        found = self._widened(value, self.profile.curve(compute, confidence), of_runs, confidence)
        return Estimate(value, max(found.low, 0.0), min(found.high, 1.0))

    def change(self, first: float, second: float, confidence: float | None = None) -> Estimate:
        """The curve at the second compute less that at the first."""
        confidence = confidence or self.confidence

        def gain(fit: SigmoidFit) -> float:
            return float(predict(fit, second) - predict(fit, first))

        limits = self.profile.change(first, second, confidence)
        return self._widened(gain(self.profile.fit), limits, [gain(fit) for fit in self.runs], confidence)

    @property
    def A(self) -> Estimate:
        """The asymptote."""
        return self.at(np.inf)

    @property
    def R_0(self) -> Estimate:
        """The initial value."""
        return self.at(0.0)

    @property
    def B(self) -> Estimate:
        """The steepness."""
        return self._positive("B", self.profile.B(self.confidence), self.confidence)

    def C_mid(self, confidence: float | None = None) -> Estimate:
        """The midpoint."""
        confidence = confidence or self.confidence
        return self._positive("C_mid", self.profile.C_mid(confidence), confidence)

    def _positive(self, name: str, limits: tuple[float, float], confidence: float) -> Estimate:
        with np.errstate(divide="ignore"):
            low, high = (float(np.log(limit)) for limit in limits)
        of_runs = [float(np.log(getattr(fit, name))) for fit in self.runs]
        found = self._widened(float(np.log(getattr(self.profile.fit, name))), (low, high), of_runs, confidence)
        return Estimate(*(float(np.exp(value)) for value in (found.estimate, found.low, found.high)))


def _clipped(rho: float) -> float:
    return 0.0 if np.isnan(rho) else float(np.clip(rho, 0.0, LARGEST_CORRELATION))


def between_runs(estimates: Sequence[float], rho: float, confidence: float) -> float:
    """Half the interval of the mean of n correlated estimates, from their differences; 0 for fewer than two.

    ``t sqrt(s^2 / n (1 + (n - 1) rho) / (1 - rho))``, t for n - 1 degrees of freedom. NaN estimates are left out.
    """
    known = np.array([value for value in estimates if not np.isnan(value)])
    n = len(known)
    if n < 2:
        return 0.0
    rho = _clipped(rho)
    variance = known.var(ddof=1) / n * (1 + (n - 1) * rho) / (1 - rho)
    return quantile(confidence, n - 1) * float(np.sqrt(variance))
