"""Comparison of arms: compute to a common level with censoring, paired differences, and their verdicts.

Conventions of the claims register: the margin is ``0.1 (A - R_0)``; efficiency is compute to the level
``tau = R_0 + 0.7 (A_ref - R_0)`` of a reference arm, since B and C_mid of unequal ceilings do not compare.
A run that does not reach the level within its compute is censored there, never dropped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlscape.scaling.sigmoid import compute_to_reach
from rlscape.scaling.sigmoid_fit import SigmoidFit
from rlscape.scaling.uncertainty import Interval, log_t_interval, paired_differences, t_interval

MARGIN_SHARE = 0.1
LEVEL_SHARE = 0.7
SEEDS_FOR_NEUTRAL = 5
CEILING_REACH = 4.5
"""Fitted C_mid that a run must have seen for its A to be compared with another's."""

Verdict = Literal["above", "below", "neutral", "inconclusive"]


@dataclass(frozen=True)
class Reached:
    """The compute at which a run reaches a level; if censored, it had not by then."""

    compute: float
    censored: bool


@dataclass(frozen=True)
class PairedComparison:
    """A paired difference (or ratio) of two arms, first against second."""

    interval: Interval
    margin: float
    verdict: Verdict


def equivalence_margin(A: float, R_0: float) -> float:
    """delta, the difference in pass rate that counts as none (P1's 0.02 of a rise of 0.21)."""
    return MARGIN_SHARE * (A - R_0)


def common_level(A_reference: float, R_0: float) -> float:
    """tau, the pass rate at which the efficiency of arms is compared."""
    return R_0 + LEVEL_SHARE * (A_reference - R_0)


def reach_level(fit: SigmoidFit, level: float, total_compute: float) -> Reached:
    """Where the fitted curve reaches a level; censored at the run's total compute. NaN if the fit failed."""
    if np.isnan(fit.A):
        return Reached(np.nan, False)
    if fit.A <= level:
        return Reached(total_compute, True)
    compute = float(compute_to_reach(level, fit.A, fit.B, fit.C_mid, fit.R_0))
    return Reached(min(compute, total_compute), compute > total_compute)


def summarise_reached(reached: list[Reached], confidence: float = 0.95) -> Interval:
    """Geometric mean over seeds with t limits; if any seed is censored, a lower bound without upper limit."""
    interval = log_t_interval((run.compute for run in reached), confidence)
    if any(run.censored for run in reached):
        return Interval(interval.estimate, np.nan, np.inf, interval.seeds)
    return interval


def judge(interval: Interval, margin: float = 0.0) -> Verdict:
    """Where an interval lies relative to +-margin.

    "above" and "below": entirely beyond the margin; "neutral": entirely within it, and at least five seeds.
    """
    if interval.low > margin:
        return "above"
    if interval.high < -margin:
        return "below"
    if -margin <= interval.low and interval.high <= margin and interval.seeds >= SEEDS_FOR_NEUTRAL:
        return "neutral"
    return "inconclusive"


def judge_by_share(less: Callable[[float], Interval], share: float) -> Verdict:
    """:func:`judge` by a margin that is a share of something estimated from the same runs.

    Taken for exact, such a margin's own scatter would be missing from the interval, and with many seeds, whose interval
    is narrow, one in twelve differences that equal the margin would count as neutral. A reference that is not positive
    makes no margin: "inconclusive".

    Args:
        less: the interval over seeds of the difference less so many times the reference.
    """
    beyond, within = less(share), less(-share)
    if within.estimate <= beyond.estimate:
        return "inconclusive"
    if beyond.low > 0:
        return "above"
    if within.high < 0:
        return "below"
    if within.low >= 0 >= beyond.high and beyond.seeds >= SEEDS_FOR_NEUTRAL:
        return "neutral"
    return "inconclusive"


def compare_paired(
    first: Mapping[int, float], second: Mapping[int, float], margin: float = 0.0, confidence: float = 0.95
) -> PairedComparison:
    """``first - second`` paired by seed, for example of A; seeds in only one arm are not used."""
    interval = t_interval(paired_differences(first, second), confidence)
    return PairedComparison(interval, margin, judge(interval, margin))


def compare_reached(
    first: Mapping[int, Reached], second: Mapping[int, Reached], confidence: float = 0.95
) -> PairedComparison:
    """The ratio of compute, first over second, paired by seed: "above" means that the first is slower.

    Censored values enter at their bound. A censored numerator then only bounds the ratio from below (no
    upper limit), a censored denominator only from above (lower limit 0).
    """
    log_ratios = paired_differences(
        {seed: float(np.log(run.compute)) for seed, run in first.items()},
        {seed: float(np.log(run.compute)) for seed, run in second.items()},
    )
    on_log = t_interval(log_ratios, confidence)
    paired = first.keys() & second.keys()
    low = -np.inf if any(second[seed].censored for seed in paired) else on_log.low
    high = np.inf if any(first[seed].censored for seed in paired) else on_log.high
    on_log = Interval(on_log.estimate, low, high, on_log.seeds)
    estimate, low, high = (float(np.exp(x)) for x in (on_log.estimate, on_log.low, on_log.high))
    return PairedComparison(Interval(estimate, low, high, on_log.seeds), 0.0, judge(on_log))
