"""Differences of recipes: their intervals against known truth, seeds, censoring and refusals."""

import numpy as np
import pytest
from scipy.stats import binom, nct, ttest_ind, ttest_rel
from scipy.stats import t as student_t

from rlscape.errors import MetricsError
from rlscape.scaling.sigmoid import compute_to_reach, sigmoid
from rlscape.tools.curves.differences import Measured, Shared, measure_shared, names_pair, subtract
from rlscape.tools.curves.log_comparison import Quantity, compare_logs
from rlscape.tools.curves.log_fit import FitOptions
from rlscape.tools.curves.logs import Log, Series
from tests.two_recipes import R_0, compared, quantity, simulated

INDEPENDENT = Shared(np.nan, np.nan, np.nan, 0.0)


def covers(found: Quantity, truth: float) -> bool:
    return found.difference.low <= truth <= found.difference.high


def assert_covers(found: list[Quantity], truth: float) -> None:
    """At least as often as all but 1% of samples of intervals that cover in 95% of cases."""
    assert sum(covers(one, truth) for one in found) >= binom.ppf(0.01, len(found), 0.95)


# Intervals


def test_paired_and_welch_are_the_textbooks() -> None:
    first, second = np.array([0.70, 0.74, 0.71, 0.75]), np.array([0.66, 0.69, 0.69, 0.70])
    for names, test in (
        ("abcd", ttest_rel(first, second)),
        ("efgh", ttest_ind(first, second, equal_var=False)),
    ):
        parts = [
            Measured(values.mean(), values.mean(), values.mean(), dict(zip(of, values, strict=True)), 20)
            for values, of in ((first, names), (second, "abcd"))
        ]
        found = subtract(*parts, INDEPENDENT, 0.0, 0.95)
        expected = test.confidence_interval(0.95)
        assert found.estimate.low == pytest.approx(expected.low)
        assert found.estimate.high == pytest.approx(expected.high)
        error = float(np.ptp(expected)) / 2 / student_t.ppf(0.975, test.df)
        assert found.detectable == pytest.approx(error * (student_t.ppf(0.975, test.df) + student_t.ppf(0.8, test.df)))


def test_the_power_at_the_detectable_difference() -> None:
    """80%, from the exact power of the t test; the formula is an approximation that errs little from ten runs on."""
    degrees = 9
    limit = student_t.ppf(0.975, degrees)
    assert nct.sf(limit, degrees, limit + student_t.ppf(0.8, degrees)) == pytest.approx(0.8, abs=0.02)


def test_runs_are_paired_by_their_names() -> None:
    assert names_pair(["seed 0", "seed 1", "seed 2"], ["seed 2", "seed 0"]) == ["seed 0", "seed 2"]
    assert names_pair(["a", "b"], ["a", "c"]) == []
    assert names_pair(["a"], ["a"]) == []


def test_limits_within_runs_keep_their_skew_and_lose_what_is_shared() -> None:
    first, second = Measured(0.7, 0.67, 0.80, {"a": 0.7}, 27), Measured(0.6, 0.56, 0.61, {"b": 0.6}, 27)
    apart = subtract(first, second, INDEPENDENT, 0.0, 0.95)
    assert apart.estimate.low == pytest.approx(0.1 - np.hypot(0.03, 0.01))
    assert apart.estimate.high == pytest.approx(0.1 + np.hypot(0.10, 0.04))
    together = subtract(first, second, INDEPENDENT, 0.5, 0.95)
    assert together.estimate.low > apart.estimate.low and together.estimate.high < apart.estimate.high


def test_open_limits_stay_open() -> None:
    found = subtract(
        Measured(1.0, 0.5, np.inf, {"a": 1.0}, 27), Measured(0.0, -0.1, 0.1, {"b": 0.0}, 27), INDEPENDENT, 0.3, 0.95
    )
    assert np.isfinite(found.estimate.low) and np.isinf(found.estimate.high) and np.isnan(found.detectable)


def test_pairs_that_share_noise_widen_the_interval() -> None:
    """Differences of pairs that move together look falsely alike."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=200)
    first = common + 0.5 * rng.normal(size=(3, 200))
    alike = measure_shared(first, rng.normal(size=(3, 200)) * 0.1, [(0, 0), (1, 1), (2, 2)], 0.8, 0.0)
    assert alike.of_pairs == pytest.approx(0.8, abs=0.1)
    gone = measure_shared(first, first + 0.1 * rng.normal(size=(3, 200)), [(0, 0), (1, 1), (2, 2)], 0.8, 0.8)
    assert abs(gone.of_pairs) < 0.2 and gone.of_means > 0.9
    parts = [Measured(mean, mean, mean, {str(run): mean + 0.01 * run for run in range(3)}, 20) for mean in (0.7, 0.6)]
    parts[0] = Measured(0.7, 0.7, 0.7, {"0": 0.70, "1": 0.73, "2": 0.71}, 20)
    wide, narrow = (subtract(*parts, shared, 0.0, 0.95).estimate for shared in (alike, INDEPENDENT))
    rho = alike.of_pairs
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(np.sqrt((1 + 2 * rho) / (1 - rho)))


@pytest.mark.parametrize("difference", [0.0, 0.05])
@pytest.mark.more
def test_coverage_within_runs(difference: float) -> None:
    """Of A, of the last value, and of ratios where these are 1; the verdict follows the power that is stated."""
    pairs = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        pairs.append(compared(simulated(rng), simulated(rng, A=0.7 + difference)))
    given = [found for pair in pairs if (found := quantity(pair, "A")).verdict != "not compared"]
    assert len(given) >= 23
    assert_covers(given, difference)
    assert_covers([quantity(pair, "value") for pair in pairs], difference * float(sigmoid(100, 1, 2, 20, 0)))
    if difference:
        assert np.median([found.detectable for found in given]) == pytest.approx(0.05, abs=0.01)
        shown = sum(found.verdict == "higher" for found in given)
        assert binom.ppf(0.01, len(given), 0.8) <= shown <= binom.ppf(0.99, len(given), 0.8)
    else:
        assert_covers([quantity(pair, "compute") for pair in pairs], 1.0)
        assert_covers([found for pair in pairs if (found := quantity(pair, "B")).verdict != "not compared"], 1.0)
        assert np.mean([any(crossing.shown for crossing in pair.crossings) for pair in pairs]) <= 0.05


@pytest.mark.more
def test_coverage_over_seeds() -> None:
    """Of recipes whose seeds differ by more than the noise within runs."""
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        found.append(quantity(compared(*(simulated(rng, runs=3, spread=0.03, samples=20000) for _ in "ab")), "A"))
    assert {one.method for one in found} == {"paired t over 3 seeds"}
    assert_covers(found, 0.0)
    within = 0.01  # half an interval within such runs
    assert np.mean([abs(one.difference.estimate) > within for one in found]) > 0.5


def test_shared_prompts_narrow_the_difference() -> None:
    widths: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(4):
        for alike in widths:
            rng = np.random.default_rng(seed)
            first, second = rng.normal(size=(2, 31))
            pair = compared(simulated(rng, shared=first), simulated(rng, shared=first if alike else second))
            found = quantity(pair, "A").difference
            widths[alike].append(found.high - found.low)
    assert np.mean(widths[True]) < 0.85 * np.mean(widths[False])


# What is compared


def test_a_known_difference_is_found() -> None:
    rng = np.random.default_rng(1)
    options = FitOptions(initial=R_0)
    first, second = (simulated(rng, A=A, B=2.0, runs=3, samples=5000) for A in (0.6, 0.7))
    comparison = compare_logs({"first": first, "second": second}, options)
    pair = comparison.pairs[0]
    of_A = quantity(pair, "A")
    assert of_A.verdict == "higher" and covers(of_A, 0.1)
    assert quantity(pair, "value").verdict == "higher"
    level = R_0 + 0.7 * (comparison.recipes[0].A.estimate - R_0)
    assert comparison.level == pytest.approx(level)
    truth = [float(compute_to_reach(level, A, 2.0, 20.0, R_0)) for A in (0.6, 0.7)]
    compute = quantity(pair, "compute")
    assert compute.verdict == "lower" and covers(compute, truth[1] / truth[0])
    assert comparison.ceiling == pytest.approx(np.mean([recipe.A.estimate for recipe in comparison.recipes]))
    assert quantity(pair, "B").verdict == "not compared" and "the A differ" in quantity(pair, "B").reason
    assert not pair.crossings and not pair.caveats


def test_B_at_a_common_ceiling() -> None:
    rng = np.random.default_rng(2)
    pair = compared(*(simulated(rng, B=B, runs=2, samples=5000) for B in (1.5, 3.0)))
    found = quantity(pair, "B")
    assert found.verdict == "higher" and covers(found, 2.0)
    assert (found.recipe, found.reference) == pytest.approx((3.0, 1.5), rel=0.15)


def test_a_crossing_is_found_and_shown() -> None:
    """Slow and high against fast and low: they cross where the shares of the rise are as 2 to 3."""
    rng = np.random.default_rng(3)
    slow, fast = (
        simulated(rng, A=A, C_mid=C_mid, samples=20000, last=200.0) for A, C_mid in ((0.7, 40.0), (0.6, 15.0))
    )
    truth = np.sqrt((0.2 * 40**2 - 0.3 * 15**2) / (0.3 - 0.2))
    (crossing,) = compared(fast, slow).crossings
    assert crossing.compute == pytest.approx(truth, rel=0.1)
    assert crossing.leads_after == "second" and crossing.shown and not crossing.extrapolated


def test_a_crossing_beyond_the_data_is_extrapolated() -> None:
    rng = np.random.default_rng(3)
    slow, fast = (
        simulated(rng, A=A, C_mid=C_mid, samples=200_000, last=100.0) for A, C_mid in ((0.61, 45.0), (0.55, 15.0))
    )
    truth = np.sqrt((0.15 * 45**2 - 0.21 * 15**2) / 0.06)
    crossed = [one for one in compared(fast, slow).crossings if one.compute > 40]
    assert all(one.extrapolated == (one.compute > 100) for one in crossed)
    assert [one.compute for one in crossed] == pytest.approx([truth], rel=0.15)


def test_a_level_that_is_not_reached_is_a_bound() -> None:
    rng = np.random.default_rng(4)
    high, low = simulated(rng, A=0.8, samples=5000), simulated(rng, A=0.5, samples=5000)
    comparison = compare_logs({"high": high, "low": low})
    found = quantity(comparison.pairs[0], "compute")
    assert comparison.recipes[1].censored and comparison.recipes[1].compute_to_level == 100.0
    assert np.isinf(found.difference.high) and found.difference.low > 1 and found.verdict == "higher"
    assert "not reached within the data by low" in found.reason and np.isnan(found.detectable)
    first = quantity(compare_logs({"low": simulated(rng, A=0.5), "high": high}).pairs[0], "compute")
    assert first.verdict == "lower" and np.isfinite(first.difference.high)


def test_a_refused_recipe_is_compared_within_the_data() -> None:
    rng = np.random.default_rng(5)
    early = simulated(rng, C_mid=90.0, samples=5000)
    comparison = compare_logs({"full": simulated(rng, samples=5000), "early": early})
    pair = comparison.pairs[0]
    assert comparison.recipes[1].verdict == "refused" and np.isnan(comparison.recipes[1].A.estimate)
    for name in ("A", "B"):
        assert quantity(pair, name).verdict == "not compared" and "early (refused)" in quantity(pair, name).reason
    assert quantity(pair, "value").verdict == "lower"
    assert quantity(pair, "compute").verdict == "higher"
    assert not any(crossing.extrapolated for crossing in pair.crossings)
    swapped = compare_logs({"early": early, "full": simulated(rng, samples=5000)})
    assert swapped.level < 0.65, "the way to the last value of the reference"
    assert quantity(swapped.pairs[0], "compute").verdict == "lower"


def test_the_same_log_twice() -> None:
    log = simulated(np.random.default_rng(6), runs=2)
    pair = compared(log, log)
    assert {found.verdict for found in pair.quantities} == {"no difference shown"} and not pair.crossings
    assert quantity(pair, "A").difference.estimate == 0


def test_a_flat_run() -> None:
    rng = np.random.default_rng(6)
    flat, rising = simulated(rng, A=R_0), simulated(rng)
    comparison = compare_logs({"rising": rising, "flat": flat})
    assert comparison.recipes[1].verdict == "flat"
    assert quantity(comparison.pairs[0], "value").verdict == "lower"
    assert quantity(comparison.pairs[0], "compute").verdict == "higher", "beyond its data"
    assert "does not rise" in quantity(compared(flat, rising), "compute").reason


def test_a_start_above_the_level() -> None:
    rng = np.random.default_rng(6)
    first, second = simulated(rng, A=0.6), simulated(rng, A=0.7)
    raised = Log(
        tuple(Series(run.name, run.x, run.y + 0.25, run.samples) for run in second.series), "compute", "pass_rate", ()
    )
    pair = compared(first, raised)
    assert "second starts above the level" in quantity(pair, "compute").reason


def test_too_few_points_are_said() -> None:
    rng = np.random.default_rng(6)
    (run,) = simulated(rng).series
    short = Log((Series("short", run.x[:4], run.y[:4], None),), "compute", "pass_rate", ())
    pair = compared(simulated(rng), short)
    assert {found.verdict for found in pair.quantities} == {"not compared"}


def test_one_run_is_said_to_be_too_narrow() -> None:
    rng = np.random.default_rng(7)
    pair = compared(simulated(rng, runs=3), simulated(rng, runs=1))
    assert "one run of second" in pair.caveats[0] and quantity(pair, "A").method == "within runs"


def test_unequal_starts_are_said() -> None:
    rng = np.random.default_rng(8)
    first, second = simulated(rng, samples=20000), simulated(rng, samples=20000)
    raised = Log(
        tuple(Series(run.name, run.x, run.y + 0.1, run.samples) for run in second.series), "compute", "pass_rate", ()
    )
    assert any("unequal R_0" in caveat for caveat in compared(first, raised).caveats)


def test_units_of_the_log() -> None:
    rng = np.random.default_rng(9)
    first, second = simulated(rng, samples=5000), simulated(rng, C_mid=30.0, samples=5000)
    percent = [
        Log(tuple(Series(r.name, r.x, 100 * r.y, r.samples) for r in log.series), "compute", "pass_rate", ())
        for log in (first, second)
    ]
    plain, scaled = compared(first, second), compared(*percent, FitOptions(bounds=(0.0, 100.0)))
    for name, factor in (("A", 100), ("value", 100), ("B", 1), ("compute", 1)):
        one, other = quantity(plain, name), quantity(scaled, name)
        assert other.difference.low == pytest.approx(factor * one.difference.low, rel=1e-6)
        assert other.verdict == one.verdict


def test_recipes_in_other_units_are_refused() -> None:
    rng = np.random.default_rng(10)
    log = simulated(rng)
    other = Log(log.series, "step", "pass_rate", ())
    with pytest.raises(MetricsError, match="'step', but 'compute' in first.*--x COLUMN"):
        compared(log, other)
    far = Log(
        tuple(Series(r.name, r.x[1:] * 1e6, r.y[1:], r.samples[1:]) for r in log.series), "compute", "pass_rate", ()
    )
    with pytest.raises(MetricsError, match="no compute in common"):
        compared(log, far)
    with pytest.raises(MetricsError, match="at least two"):
        compare_logs({"first": log})
