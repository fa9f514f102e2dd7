"""Whether the data of a recipe allow a forecast; if not, why, and how much more compute would do.

In this order:

1. ``refused`` if the run falls, as a whole or over the second half of its compute, beyond the noise and by more than
   the improvement that counts.
2. ``flat`` if straight lines in compute and in log compute do not rise beyond the noise: nothing has been learnt yet,
   or the run has been on its plateau throughout.
3. ``refused`` by the pipeline's rule (:mod:`rlscape.scaling.forecast`): the data have to reach ``minimum_reach`` fitted
   C_mid, and the upper confidence limit of C_mid has to lie within them.
4. ``refused`` if one of the lines fits as well as the sigmoid, by the F test for its two further parameters: no
   saturation has been seen.

All on the scale from 0 to 1.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import fdtri

from rlscape.tools.curves.intervals import Line, Points, noise_level, predict, quantile
from rlscape.tools.curves.seeds import Estimate, PooledRuns, between_runs

Verdict = Literal["forecast", "refused", "flat"]

LONGER = 2.0
"""Times the compute that is advised where the data do not say how much would do."""


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason."""

    verdict: Verdict
    reason: str
    compute_needed: float = np.nan
    """At which a forecast may be made; NaN if there is one or the data do not say."""
    falls: bool = False
    """Whether it is refused because the run falls: then the sigmoid describes nothing."""


@dataclass(frozen=True)
class _Trend:
    """A straight line with what its slope is worth."""

    line: Line
    noise: float
    degrees: int

    @classmethod
    def of(cls, points: Points, inflation: float, on_log: bool) -> "_Trend":
        line, degrees = Line.through(points, on_log), len(points) - 2
        return cls(line, noise_level(line.sse, degrees, points) * inflation, degrees)

    def error(self) -> float:
        """Standard error of the slope."""
        return float(np.sqrt(self.noise * self.line.slope_variance))

    def sign(self, confidence: float) -> int:
        """1 if the line rises beyond the noise, -1 if it falls, else 0."""
        far = abs(self.line.slope) > quantile(confidence, self.degrees) * self.error()
        return int(np.sign(self.line.slope)) * far


def _trends(points: Points, inflation: float) -> tuple[_Trend, _Trend]:
    """In compute and in log compute."""
    return _Trend.of(points, inflation, on_log=False), _Trend.of(points, inflation, on_log=True)


def _later(pooled: PooledRuns) -> Points:
    points = pooled.profile.points
    return points.where(points.compute > 0)


def fewest_points(initial: float | None) -> int:
    """Points per run at positive compute that a fit needs: one more than it has parameters."""
    return 5 if initial is None else 4


def judge(pooled: PooledRuns, margin: float, minimum_reach: float) -> Judgement:
    """The verdict on a recipe.

    Args:
        margin: the improvement that counts.
        minimum_reach: C_mid that the data have to reach.
    """
    later = _later(pooled)
    if fall := _fall(pooled, later, margin):
        return Judgement("refused", f"{fall}; the sigmoid describes a rise", falls=True)
    if all(trend.sign(pooled.confidence) <= 0 for trend in _trends(later, pooled.inflation)):
        return Judgement("flat", "no rise beyond the noise")
    reason, needed = _too_early(pooled, minimum_reach)
    straight = _straight(pooled, later)
    if straight:
        reason = f"{straight}: " + (reason or f"train up to {LONGER:g} times the compute and fit again")
    if reason:
        return Judgement("refused", reason, needed)
    reach = pooled.last / pooled.profile.fit.C_mid
    return Judgement("forecast", f"the data reach {reach:.2g} C_mid and bound C_mid")


def flat_level(pooled: PooledRuns, within: float) -> tuple[Estimate, Estimate]:
    """Of a flat run: its mean, and its change until ``within`` times the last compute.

    The change is that of the straight line in log compute: the sigmoid cannot exclude a rise after the data's end.
    """
    later, confidence = _later(pooled), pooled.confidence
    trend = _Trend.of(later, pooled.inflation, on_log=True)
    t, line = quantile(confidence, trend.degrees), trend.line
    levels = [float(predict(fit, later.compute).mean()) for fit in pooled.runs]
    within_runs = t * float(np.sqrt(trend.noise * line.level_variance))
    half = max(within_runs, between_runs(levels, pooled.correlation, confidence))
    level = Estimate(line.level, max(line.level - half, 0.0), min(line.level + half, 1.0))
    step, half = float(np.log(within)), t * trend.error()
    return level, Estimate(step * line.slope, step * (line.slope - half), step * (line.slope + half))


def _fall(pooled: PooledRuns, later: Points, margin: float) -> str:
    """How the run falls; empty if it does not."""
    confidence = pooled.confidence
    rises = any(trend.sign(confidence) > 0 for trend in _trends(later, pooled.inflation))
    if not rises and _drop(later, pooled) > margin:
        return "the run falls"
    half = later.where(later.compute > later.compute.max() / 2)
    if len(half) >= fewest_points(None) and _drop(half, pooled) > margin:
        return "the run falls in the second half of its compute"
    return ""


def _drop(points: Points, pooled: PooledRuns) -> float:
    """How far the straight line in compute falls; 0 if no line falls beyond the noise.

    Without the inflation by neighbouring residuals: a sigmoid leaves such residuals of any run that falls.
    """
    trends = _trends(points, pooled.shared_inflation)
    if not any(trend.sign(pooled.confidence) < 0 for trend in trends):
        return 0.0
    return -trends[0].line.slope * float(np.ptp(points.compute))


def _straight(pooled: PooledRuns, later: Points) -> str:
    """Whether a straight line fits as well as the sigmoid; empty if none does."""
    profile = pooled.profile
    residuals = (later.rate - predict(profile.fit, later.compute)) * np.sqrt(later.weights)
    allowed = float(residuals @ residuals) + 2 * profile.noise * fdtri(2, profile.degrees, pooled.confidence)
    best = min((trend.line for trend in _trends(later, 1.0)), key=lambda line: line.sse)
    if best.sse > allowed:
        return ""
    return f"a straight line in {'log ' if best.on_log else ''}compute fits as well as the sigmoid, no ceiling is seen"


def _too_early(pooled: PooledRuns, minimum_reach: float) -> tuple[str, float]:
    """Why the data end too early and how much more compute would do; empty if they do not."""
    last, C_mid = pooled.last, pooled.profile.fit.C_mid
    limit = pooled.C_mid(2 * pooled.confidence - 1).high  # one-sided
    if np.isnan(C_mid):
        return f"the sigmoid finds no rise; train up to {LONGER:g} times the compute and fit again", np.nan
    reaches = last >= minimum_reach * C_mid
    if reaches and limit <= last:
        return "", np.nan
    enough = minimum_reach * (limit if reaches else C_mid)
    if not np.isfinite(enough):
        return f"the data do not bound C_mid; train up to {LONGER:g} times the compute and fit again", np.nan
    remedy = f"train up to compute {enough:.4g}, {enough / last:.2g} times as much"
    if reaches:
        return f"C_mid is not settled, it may lie beyond the data (up to {limit:.4g}): {remedy}", enough
    bound = "no upper limit"
    if np.isfinite(limit):
        bound = f"{100 * pooled.confidence:g}% upper limit {minimum_reach * limit:.4g}"
    return f"the data end at {last / C_mid:.2g} C_mid, before {minimum_reach:g}: {remedy} ({bound})", enough
