"""Comparisons of arms: verdicts, seeds that share noise, and censoring."""

from functools import partial

import numpy as np
import pytest

from rlscape.scaling.arm_comparison import (
    Reached,
    common_level,
    compare_paired,
    compare_reached,
    judge,
    judge_by_share,
    reach_level,
    summarise_reached,
)
from rlscape.scaling.sigmoid_fit import SigmoidFit
from rlscape.scaling.uncertainty import Interval, t_interval


def test_verdicts() -> None:
    assert judge(Interval(0.05, 0.03, 0.07, 3), 0.02) == "above"
    assert judge(Interval(-0.05, -0.07, -0.03, 3), 0.02) == "below"
    assert judge(Interval(0.0, -0.01, 0.01, 5), 0.02) == "neutral"
    assert judge(Interval(0.0, -0.01, 0.01, 4), 0.02) == "inconclusive"
    assert judge(Interval(0.02, 0.01, 0.03, 5), 0.02) == "inconclusive"
    assert judge(t_interval([0.3]), 0.02) == "inconclusive"


def test_paired_comparison_removes_what_seeds_share() -> None:
    shared = np.array([0.0, 0.2, -0.1, 0.1, -0.2])
    first = {seed: 0.6 + shared[seed] for seed in range(5)}
    second = {seed: 0.5 + shared[seed] + 0.001 * seed for seed in range(5)} | {7: 0.9}
    comparison = compare_paired(first, second, margin=0.02)
    assert comparison.verdict == "above" and comparison.interval.seeds == 5
    assert comparison.interval.estimate == pytest.approx(0.098)


def test_level_that_is_not_reached_is_censored() -> None:
    level = common_level(0.61, 0.4)
    assert level == pytest.approx(0.4 + 0.7 * 0.21)
    good = reach_level(SigmoidFit(0.61, 1.92, 2542, 0.4, 0, 20, "grid"), level, 16_000)
    assert good == Reached(pytest.approx(2542 * (0.7 / 0.3) ** (1 / 1.92)), False)
    low = reach_level(SigmoidFit(0.5, 2, 2000, 0.4, 0, 20, "grid"), level, 16_000)
    late = reach_level(SigmoidFit(0.61, 1.92, 2542, 0.4, 0, 20, "grid"), level, 3000)
    flat = reach_level(SigmoidFit(0.4, np.nan, np.nan, 0.4, 0, 20, "least_squares"), level, 16_000)
    assert (low, late, flat) == (Reached(16_000, True), Reached(3000, True), Reached(16_000, True))
    summary = summarise_reached([good, low])
    assert summary.high == np.inf and np.isnan(summary.low)
    assert summary.estimate == pytest.approx(np.sqrt(good.compute * 16_000))


def test_ratio_of_compute_with_censoring() -> None:
    quick = {seed: Reached(100.0 + seed, False) for seed in range(5)}
    slow = {seed: Reached(160.0 + 2 * seed, False) for seed in range(5)}
    ratio = compare_reached(slow, quick)
    assert ratio.verdict == "above" and ratio.interval.estimate == pytest.approx(1.61, abs=0.02)
    censored = slow | {0: Reached(160.0, True)}
    assert compare_reached(censored, quick).interval.high == np.inf
    assert compare_reached(censored, quick).verdict == "above"
    assert compare_reached(quick, censored).interval.low == 0
    assert compare_reached(quick, censored).verdict == "below"


def test_a_margin_that_scatters_is_part_of_the_interval() -> None:
    """A difference of just a tenth of a reference that is known as well as the tenth of it."""

    def less(difference: np.ndarray, reference: np.ndarray, times: float) -> Interval:
        return t_interval(difference - times * reference)

    random = np.random.default_rng(0)
    called = {"exact": 0, "by share": 0}
    for _ in range(2000):
        reference, difference = random.normal(1, 0.1, 8), random.normal(0.1, 0.01, 8)
        called["exact"] += judge(t_interval(difference), 0.1 * reference.mean()) == "neutral"
        called["by share"] += judge_by_share(partial(less, difference, reference), 0.1) == "neutral"
    assert called["exact"] / 2000 > 0.06
    assert called["by share"] / 2000 < 0.035


@pytest.mark.parametrize(
    ("difference", "expected"), [(0.2, "above"), (-0.2, "below"), (0.0, "neutral"), (0.1, "inconclusive")]
)
def test_a_difference_is_judged_by_a_share_of_a_reference(difference: float, expected: str) -> None:
    noise = np.linspace(-0.01, 0.01, 6)
    assert judge_by_share(lambda times: t_interval(difference - times + noise), 0.1) == expected
    few = judge_by_share(lambda times: t_interval(difference - times + noise[::2]), 0.1)
    assert few == ("inconclusive" if expected == "neutral" else expected)
