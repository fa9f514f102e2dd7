"""``rlscape fit`` as a function: intervals against simulations and a second way of computing them, and verdicts."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.optimize import brentq, least_squares
from scipy.stats import binom

from rlscape.errors import ConfigError, MetricsError
from rlscape.scaling.sigmoid import sigmoid
from rlscape.tools.curves.intervals import Line, Points, Profile, predict, quantile
from rlscape.tools.curves.log_fit import FitOptions, fit_log
from rlscape.tools.curves.logs import Log, Series
from rlscape.tools.curves.seeds import (
    BINS,
    PooledRuns,
    between_runs,
    binned,
    lag_correlation,
    residual_correlation,
    to_points,
)
from tests.one_recipe import SAMPLES, TRUE, curve, fit, grid, holds, log_of, observed

ROOT = Path(__file__).parents[1]
SIMULATIONS = 60


def benchmark() -> ModuleType:
    """benchmarks/coverage.py."""
    spec = importlib.util.spec_from_file_location("coverage_benchmark", ROOT / "benchmarks" / "coverage.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


# Intervals


def test_intervals_are_those_of_a_direct_profile():
    compute = grid()
    rate = observed(curve(compute))
    points = Points(compute, rate, SAMPLES / (rate * (1 - rate)), known_noise=True)
    profile = Profile.of(points, None, 0.95)

    def residuals(parameters: np.ndarray) -> np.ndarray:
        A, log_B, log_C, R_0 = parameters
        return (rate - sigmoid(compute, A, np.exp(log_B), np.exp(log_C), R_0)) * np.sqrt(points.weights)

    best = least_squares(residuals, [0.6, 0.6, np.log(1000), 0.4], x_scale=[0.01, 0.1, 0.1, 0.01])
    threshold = 2 * best.cost + profile.noise * quantile(0.95, 71) ** 2

    def excess(value: float, index: int) -> float:
        others = np.delete(best.x, index)
        constrained = least_squares(
            lambda free: residuals(np.insert(free, index, value)),
            others,
            x_scale=np.delete([0.01, 0.1, 0.1, 0.01], index),
        )
        return 2 * constrained.cost - threshold

    found = {0: profile.curve(np.inf, 0.95), 1: np.log(profile.B(0.95)), 2: np.log(profile.C_mid(0.95))}
    found[3] = profile.curve(0.0, 0.95)
    for index, (low, high) in found.items():
        step = high - low
        direct = [brentq(excess, *ends, args=(index,)) for ends in self_brackets(best.x[index], step)]
        assert np.allclose([low, high], direct, rtol=0, atol=0.01 * step)
    assert profile.fit.A == pytest.approx(best.x[0], abs=0.1 * (found[0][1] - found[0][0]))


def self_brackets(middle: float, step: float) -> list[tuple[float, float]]:
    """Where the limits must lie if the interval is about as wide as ``step``."""
    return [(middle - 1.2 * step, middle), (middle, middle + 1.2 * step)]


def test_a_change_is_the_difference_of_the_curve_and_zero_over_no_distance():
    pooled = PooledRuns.of(log_of(grid(), observed(curve(grid()))).series, (0, 1), None, 0.95)
    gain = pooled.change(4000, 8000)
    assert gain.estimate == pytest.approx(pooled.at(8000).estimate - pooled.at(4000).estimate)
    assert pooled.change(4000, 4000).high == pytest.approx(0, abs=1e-12)
    # the changes of two points of one curve are bound to each other: known better than each on its own
    assert gain.high - gain.low < pooled.at(8000).high - pooled.at(8000).low


@pytest.mark.more
def test_intervals_hold_the_truth_as_often_as_they_say_and_cut_data_are_refused():
    coverage = benchmark()
    names = list(coverage.TABLE_1)
    for scenario, simulations in (("one_run", SIMULATIONS), ("samples_unknown", SIMULATIONS // 2)):
        lowest, highest = binom.ppf([0.0005, 0.9995], simulations, 0.95)
        number = list(coverage.SCENARIOS).index(scenario)
        outcomes = [
            coverage.simulate(scenario, names[i % len(names)], np.random.default_rng((1, number, i)))
            for i in range(simulations)
        ]
        for quantity in ("A", "B", "C_mid", "R_0", "improvement"):
            hits = sum(outcome.covered[quantity] for outcome in outcomes)
            assert lowest <= hits <= highest, (scenario, quantity, hits)
        assert sum(outcome.verdict == "forecast" for outcome in outcomes) >= 0.9 * simulations
    cut = [
        coverage.simulate("cut_at_C_mid", names[i % len(names)], np.random.default_rng((1, 7, i)))
        for i in range(SIMULATIONS // 2)
    ]
    assert sum(outcome.verdict == "refused" for outcome in cut) >= len(cut) - 1


def test_scatter_beyond_binomial_widens_the_interval():
    compute, noise = grid(), np.random.default_rng(1).standard_normal(75)
    error = np.sqrt(curve(compute) * (1 - curve(compute)) / SAMPLES)
    once, thrice = (fit(curve(compute) + factor * error * noise) for factor in (1, 3))
    assert thrice.dispersion == pytest.approx(9 * once.dispersion, rel=0.1)
    widths = [report.A.high - report.A.low for report in (once, thrice)]
    assert widths[1] > 2 * widths[0]
    calm = fit(curve(compute) + 0.1 * error * noise)  # less scatter than binomial: the samples are the least noise
    assert calm.dispersion < 0.1 and calm.A.high - calm.A.low > 0.7 * widths[0]


def test_residuals_that_follow_each_other_widen_the_interval():
    compute = grid()
    noise = 0.005 * np.random.default_rng(2).standard_normal(84)
    white = fit(curve(compute) + noise[:75], samples=None)
    smooth = fit(curve(compute) + np.convolve(noise, np.ones(10) / np.sqrt(10), "valid"), samples=None)
    assert white.inflation == 1.0 and abs(white.lag_correlation) < 0.3
    assert smooth.lag_correlation > 0.6 and smooth.inflation > 4


def test_lag_correlation_of_independent_noise_is_zero_on_average():
    values = []
    for seed in range(40):
        points = to_points(log_of(grid(), observed(curve(grid()), seed)).series[0], (0, 1))
        values.append(lag_correlation([Profile.of(points, None, 0.95)]))
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40)


# R_0


def test_initial_value_known_measured_and_estimated():
    compute = grid()
    rate = observed(curve(compute))
    estimated, known = fit(rate), fit(rate, initial=0.40)
    at_start = np.concatenate([[0.0], compute])
    measured = fit(np.concatenate([[0.4], rate]), at_start)
    assert [report.initial_source for report in (estimated, measured, known)] == ["estimated", "measured", "known"]
    widths = [report.R_0.high - report.R_0.low for report in (estimated, measured, known)]
    assert widths[0] > widths[1] > widths[2] == pytest.approx(0, abs=1e-12)
    assert all(holds(report.R_0, 0.4 + 0 * width) for report, width in ((estimated, 0), (measured, 0)))
    # its binomial error counts: half the width of the free one at the most, from one row with more samples
    counts = np.concatenate([[100 * SAMPLES], np.full(75, SAMPLES)])
    exact = fit_log(Log((Series("run", at_start, np.concatenate([[0.4], rate]), counts),), "x", "y", ()), FitOptions())
    assert exact.R_0.high - exact.R_0.low < 0.5 * widths[1]


# Seeds


def test_shared_noise_is_measured_and_widens_the_interval():
    compute, rng = grid(), np.random.default_rng(3)
    error = np.sqrt(0.25 / SAMPLES)
    common = rng.standard_normal(75)
    own = rng.standard_normal((3, 75))
    apart = fit_log(log_of(compute, *(curve(compute) + error * e for e in own)), FitOptions())
    mixed = [np.sqrt(0.5) * (common + e) for e in own]
    alike = fit_log(log_of(compute, *(curve(compute) + error * e for e in mixed)), FitOptions())
    assert abs(apart.residual_correlation) < 0.25
    assert alike.residual_correlation == pytest.approx(0.5, abs=0.2)
    assert alike.inflation > 1.5 > apart.inflation
    same = PooledRuns.of(log_of(compute, *[curve(compute) + error * common] * 3).series, (0, 1), None, 0.95)
    one = PooledRuns.of(log_of(compute, curve(compute) + error * common).series, (0, 1), None, 0.95)
    # three copies of one run tell what one tells (rho is clipped to 0.95, and t has more degrees of freedom)
    assert same.A.high - same.A.low == pytest.approx(one.A.high - one.A.low, rel=0.05)


def test_formula_of_the_differences_between_runs():
    values, rho = [0.60, 0.62, 0.64], 0.5
    expected = quantile(0.95, 2) * np.sqrt(0.02**2 / 3 * (1 + 2 * rho) / (1 - rho))
    assert between_runs(values, rho, 0.95) == pytest.approx(expected)
    assert between_runs([0.6, np.nan], rho, 0.95) == 0.0
    assert between_runs(values, -0.3, 0.95) == pytest.approx(between_runs(values, 0.0, 0.95))


def test_runs_that_differ_widen_the_interval_beyond_the_noise():
    compute = grid()
    rates = [sigmoid(compute, **(TRUE | {"A": A})) for A in (0.58, 0.61, 0.64)]
    report = fit_log(log_of(compute, *(observed(rate, seed) for seed, rate in enumerate(rates))), FitOptions())
    assert report.seeds == 3 and report.A.estimate == pytest.approx(0.61, abs=0.01)
    assert report.A.high - report.A.low > 2 * quantile(0.95, 2) * 0.03 / np.sqrt(3) * 0.7
    assert "one run" in " ".join(fit(rates[1]).notes) and "one run" not in " ".join(report.notes)


def test_correlation_needs_no_common_grid():
    rng = np.random.default_rng(4)
    fine = grid(points=600)
    common = np.convolve(rng.standard_normal(640), np.ones(41) / 41**0.5, "valid")  # smooth: neighbours know it
    profiles = []
    for part in (slice(0, None, 8), slice(3, None, 8)):
        x = fine[part]
        profiles.append(Profile.of(Points(x, curve(x) + 0.004 * common[part], np.ones(len(x)), False), None, 0.95))
    assert not set(profiles[0].points.compute) & set(profiles[1].points.compute)
    assert residual_correlation(profiles) > 0.8
    assert np.isnan(residual_correlation(profiles[:1]))


def test_samples_count_only_if_all_runs_have_them():
    compute = grid()
    known, unknown = (log_of(compute, observed(curve(compute), 5), samples=n).series[0] for n in (SAMPLES, None))
    pooled = PooledRuns.of((known, unknown), (0, 1), None, 0.95)
    assert not pooled.profile.points.known_noise and set(pooled.profile.points.weights) == {1.0}


# Verdicts


def test_a_whole_curve_is_forecast():
    report = fit(observed(curve(grid())), until=20000)
    assert report.verdict == "forecast" and report.reach == pytest.approx(4, rel=0.1)
    assert report.forecast[0].compute == pytest.approx(4000) and report.forecast[-1].compute == pytest.approx(20000)
    assert all(point.low <= point.estimate <= point.high for point in (*report.curve, *report.forecast))
    assert holds(report.forecast[-1], float(curve(np.array(20000.0))))
    errors = report.held_out.errors
    assert set(errors) == {"sigmoid", "last_value", *(rival.form for rival in report.rivals)}
    assert report.skill == pytest.approx(1 - errors["sigmoid"] / errors["last_value"])


def test_data_that_end_early_are_refused_with_the_compute_that_would_do():
    compute = grid(0.1, 1.4, 60)
    report = fit(observed(curve(compute), samples=160000), compute, samples=160000)
    assert report.verdict == "refused" and report.forecast == ()
    assert report.compute_needed == pytest.approx(2 * TRUE["C_mid"], rel=0.25)
    assert f"compute {report.compute_needed:.4g}" in report.reason


@pytest.mark.parametrize("on_log", [False, True])
def test_a_straight_line_is_refused_as_such(on_log: bool):
    z = np.log(grid()) if on_log else grid()
    rates = 0.4 + 0.2 * (z - z[0]) / np.ptp(z)
    report = fit(observed(rates, 1))
    assert report.verdict == "refused"
    assert f"a straight line in {'log ' if on_log else ''}compute fits as well" in report.reason


@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_no_rise_is_flat(level: float):
    report = fit(observed(np.full(75, level), 1))
    assert report.verdict == "flat" and holds(report.A, level)
    assert np.isnan(report.B.estimate) and np.isnan(report.C_mid.estimate)
    assert report.forecast == () and report.plateau.answer == "no"


def test_a_run_on_its_plateau_throughout_is_flat():
    compute = grid(12, 30)
    assert fit(observed(curve(compute), 2), compute).verdict == "flat"


@pytest.mark.parametrize(
    ("rates", "what"),
    [(curve(grid())[::-1], "the run falls;"), (np.where(grid() < 2500, curve(grid()), 0.45), "second half")],
)
def test_a_fall_is_said(rates: np.ndarray, what: str):
    report = fit(observed(rates))
    assert report.verdict == "refused" and what in report.reason
    assert np.isnan(report.A.estimate) and report.plateau is None


def test_too_few_points_are_refused():
    compute = grid(points=4)
    report = fit(curve(compute), compute)
    assert report.verdict == "refused" and "run0 has 4 points" in report.reason
    assert fit(curve(compute), compute, initial=0.4).curve


@pytest.mark.parametrize(("last", "answer"), [(1.0, "yes"), (30.0, "no")])
def test_plateau(last: float, answer: str):
    compute = grid(0.1, last)
    plateau = fit(observed(curve(compute), samples=1e6), compute, samples=1e6).plateau
    assert plateau.answer == answer and plateau.threshold == pytest.approx(0.02)
    assert holds(plateau.improvement, float(np.diff(curve(np.array([1, 2]) * compute[-1]))[0]))


def test_plateau_is_undecided_where_the_interval_holds_the_threshold():
    report = fit(observed(curve(grid())))
    gain = report.plateau.improvement
    again = fit(observed(curve(grid())), improvement=(gain.low + gain.high) / 2)
    assert again.plateau.answer == "undecided"


# Units and input


@pytest.mark.parametrize("bounds", [(0.0, 100.0), (-1.0, 1.0)])
def test_all_output_is_in_the_units_of_the_log(bounds: tuple[float, float]):
    low, scale = bounds[0], bounds[1] - bounds[0]
    rate = observed(curve(grid()))
    plain, scaled = fit(rate), fit(low + scale * rate, bounds=bounds)
    for name in ("A", "R_0"):
        expected = [low + scale * getattr(getattr(plain, name), part) for part in ("low", "estimate", "high")]
        found = [getattr(getattr(scaled, name), part) for part in ("low", "estimate", "high")]
        assert np.allclose(found, expected, rtol=1e-6)
    assert scaled.C_mid.high == pytest.approx(plain.C_mid.high)
    assert scaled.plateau.threshold == pytest.approx(0.02 * scale)
    assert scaled.held_out.errors["line"] == pytest.approx(scale * plain.held_out.errors["line"])


def test_values_beyond_the_bounds_are_not_guessed():
    with pytest.raises(MetricsError, match=r"run0: column 'pass_rate' reaches 59\.\d+, .*--bounds 0 100"):
        fit(100 * curve(grid()))
    with pytest.raises(MetricsError, match="reaches -0.5"):
        fit(np.where(grid() < 500, -0.5, 0.5))


@pytest.mark.parametrize(
    "options",
    [{"bounds": (1, 0)}, {"initial": 2.0}, {"confidence": 0.4}, {"within": 1.0}, {"improvement": 0.0}, {"until": 5.0}],
)
def test_options_that_make_no_sense_are_named(options: dict):
    with pytest.raises(ConfigError, match=f"--{next(iter(options))}"):
        fit(curve(grid()), **options)


def test_long_runs_are_binned_without_losing_weight():
    x = np.arange(1, 200001.0)
    points = Points(x, curve(x / 50), np.full(len(x), 3.0), known_noise=False)
    fewer = binned(points)
    assert len(fewer) <= BINS and fewer.weights.sum() == pytest.approx(points.weights.sum())
    assert np.abs(fewer.rate - curve(fewer.compute / 50)).max() < 1e-3
    start = binned(Points(np.arange(0, 1000.0), np.full(1000, 0.5), np.ones(1000), False))
    assert start.compute[0] == 0 and start.weights[0] == 1


def test_line_through_points():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    weights = np.array([1.0, 2.0, 1.0, 2.0])
    y = np.array([0.1, 0.3, 0.2, 0.4])
    line = Line.through(Points(x, y, weights, False), on_log=False)
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(weights))
    assert line.slope == pytest.approx(slope)
    assert np.allclose(line.predict(x), slope * x + intercept)


def test_a_fit_that_does_not_rise_predicts_its_level():
    profile = Profile.of(Points(grid(), np.linspace(0.6, 0.4, 75), np.ones(75), False), None, 0.95)
    assert np.isnan(profile.fit.B) and np.ptp(predict(profile.fit, grid())) == 0
