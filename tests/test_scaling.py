"""Curves, fits and intervals of :mod:`rlscape.scaling`."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit

from rlscape.scaling import sigmoid_fit
from rlscape.scaling.arms import RunFit
from rlscape.scaling.ceilings import fit_at_ceilings, shared_ceiling
from rlscape.scaling.curves import Curve, Initial, positive_error
from rlscape.scaling.sigmoid import compute_to_reach, crossings, linearised, power_law, sigmoid
from rlscape.scaling.sigmoid_fit import SigmoidFit, fit_fixed_ceiling, fit_grid, fit_least_squares
from rlscape.scaling.uncertainty import bootstrap_fits, log_t_interval, parameter_intervals, t_interval
from rlscape.scaling.windows import HALF_WINDOW, LATE_WINDOW, SIGMOID_WINDOWS, WINDOWS, fit_windows
from tests.simulated_runs import INITIAL, SAMPLES, SETTINGS, TABLE_1, least_squares, simulate

# Closed forms


def test_sigmoid_starts_at_initial_passes_the_middle_and_tends_to_the_asymptote() -> None:
    rates = sigmoid([0, 2542, 1e12], 0.61, 1.92, 2542, 0.4)
    np.testing.assert_allclose(rates, [0.4, (0.61 + 0.4) / 2, 0.61], atol=1e-9)


def test_compute_to_reach_inverts_the_sigmoid() -> None:
    # P1, Figure 7: ScaleRL reaches 0.55 at about 4.1k GPU-hours.
    assert compute_to_reach(0.55, 0.61, 1.92, 2542, 0.4) == pytest.approx(4100, rel=0.01)
    levels = np.array([0.41, 0.5, 0.6])
    np.testing.assert_allclose(sigmoid(compute_to_reach(levels, 0.61, 1.92, 2542, 0.4), 0.61, 1.92, 2542, 0.4), levels)
    np.testing.assert_array_equal(
        compute_to_reach([0.3, 0.4, 0.61, 0.7], 0.61, 1.92, 2542, 0.4), [0, 0, np.inf, np.inf]
    )


def test_power_law_is_the_large_compute_limit() -> None:
    A, B, C_mid, R_0 = 0.645, 1.7, 10909, 0.4
    compute = np.array([30, 100, 1000]) * C_mid
    gap = A - sigmoid(compute, A, B, C_mid, R_0)
    limit = A - power_law(compute, A, B, (A - R_0) * C_mid**B)
    np.testing.assert_allclose(gap / limit, 1, atol=0.004)
    assert abs(gap / limit - 1)[-1] < 1e-5


def test_fig7_transform_is_a_straight_line_of_slope_B_through_one() -> None:
    compute = np.geomspace(10, 1e6, 30)
    transformed = linearised(sigmoid(compute, 0.605, 2.01, 2542, 0.4), 0.605, 2.01, 2542, 0.4)
    slope, intercept = np.polyfit(np.log(compute), np.log(transformed), 1)
    assert slope == pytest.approx(2.01, abs=1e-6)
    assert intercept == pytest.approx(0, abs=1e-5)
    assert np.isnan(linearised([0.39, 0.4, 0.605, 0.61], 0.605, 2.01, 2542, 0.4)).all()


def test_crossings_of_a_fast_low_and_a_slow_high_curve() -> None:
    fast, slow = (
        SigmoidFit(0.52, 4.55, 1500, 0.4, 0, 9, "grid"),
        SigmoidFit(0.61, 1.79, 2500, 0.4, 0, 9, "grid"),
    )
    early, late = crossings(fast.predict, slow.predict, 10, 1e5)  # the small B leads first of all
    np.testing.assert_allclose(fast.predict([early, late]), slow.predict([early, late]), atol=1e-12)
    assert fast.predict([(early + late) / 2]) > slow.predict([(early + late) / 2])
    assert len(crossings(fast.predict, slow.predict, 1e4, 1e5)) == 0


# Fits


@pytest.mark.parametrize("name", TABLE_1)
def test_recovers_the_published_parameters(name: str) -> None:
    C_mid, B, A, R_0 = TABLE_1[name]
    rng = np.random.default_rng([len(name), int(C_mid)])
    curve = simulate(C_mid, B, A, R_0, rng)
    fit = least_squares(curve, R_0)
    refits = [least_squares(simulate(C_mid, B, A, R_0, rng), R_0) for _ in range(20)]
    for parameter, truth in (("A", A), ("B", B), ("C_mid", C_mid)):
        spread = np.std([getattr(refit, parameter) for refit in refits], ddof=1)
        assert abs(getattr(fit, parameter) - truth) < 4 * spread
    assert np.std([refit.A for refit in refits]) < 0.02
    grid = fit_grid(curve.compute, curve.pass_rate, R_0)
    assert grid.A == pytest.approx(fit.A, abs=0.01) and not grid.at_edge
    assert grid.A / sigmoid_fit.A_STEP == pytest.approx(round(grid.A / sigmoid_fit.A_STEP))


def test_free_initial_agrees_with_a_good_measurement_and_corrects_a_bad_one() -> None:
    curve = simulate(2542, 2.0, 0.6, 0.4, np.random.default_rng(0), first=0.05)
    columns = curve.compute, curve.pass_rate
    assert fit_least_squares(*columns, 0.4, curve.standard_error, 0.004).A == pytest.approx(0.6, abs=0.005)
    corrected = fit_least_squares(*columns, 0.45, curve.standard_error, 0.1)
    assert corrected.R_0 == pytest.approx(0.4, abs=0.01)
    with pytest.raises(ValueError, match="needs standard_error"):
        fit_least_squares(*columns, 0.4, initial_error=0.004)


@pytest.mark.filterwarnings("ignore:Covariance of the parameters", "ignore:overflow encountered in power")
@pytest.mark.parametrize("seed", range(3))
def test_grid_equals_brute_force(seed: int) -> None:
    """The paper's loop: ``curve_fit`` of B in every cell. A high R_0 keeps the number of cells small."""
    R_0 = 0.88
    curve = simulate(1000, 2.0, 0.95, R_0, np.random.default_rng(seed), points=15, samples=4000)
    fit = fit_grid(curve.compute, curve.pass_rate, R_0)

    limits = np.log(curve.compute.min() / 10), np.log(curve.compute.max() * 10)
    cells = []
    for A in np.arange(0.885, 1.0001, 0.005):
        for C_mid in np.exp(np.linspace(*limits, 100))[20:80]:

            def rate(C: np.ndarray, B: float, A: float = A, C_mid: float = C_mid) -> np.ndarray:
                return R_0 + (A - R_0) / (1 + (C_mid / C) ** B)

            try:
                (B,), _ = curve_fit(rate, curve.compute, curve.pass_rate, p0=1.5)
            except RuntimeError:
                continue
            if 0.2 < B < 10:
                cells.append((((curve.pass_rate - rate(curve.compute, B)) ** 2).sum(), A, C_mid, B))
    sse, A, C_mid, B = min(cells)
    np.testing.assert_allclose([fit.sse, fit.A, fit.C_mid, fit.B], [sse, A, C_mid, B], rtol=1e-4)


def test_weights_decide_between_conflicting_points() -> None:
    compute = np.tile(np.linspace(200, 10_000, 20), 2)
    truth = sigmoid(compute, 0.6, 2, 2000, 0.4)
    rate = truth + np.repeat([0, 0.05], 20)
    trusted = np.repeat([0.001, 10.0], 20)
    assert fit_least_squares(compute, rate, 0.4, trusted).A == pytest.approx(0.6, abs=1e-3)
    assert fit_grid(compute, rate, 0.4, trusted**-2).A == pytest.approx(0.6, abs=0.0051)  # a grid step
    assert fit_least_squares(compute, rate, 0.4).A > 0.61


def test_fits_are_deterministic_and_ignore_order_and_unit_of_compute() -> None:
    curve = simulate(2542, 2.0, 0.6, 0.4, np.random.default_rng(3), points=20)
    fit, order = least_squares(curve, 0.4), np.random.default_rng(0).permutation(20)
    shuffled = fit_least_squares(curve.compute[order] * 1e6, curve.pass_rate[order], 0.4, curve.standard_error[order])
    assert least_squares(curve, 0.4) == fit
    assert (shuffled.A, shuffled.B) == pytest.approx((fit.A, fit.B), rel=1e-3)
    assert shuffled.C_mid == pytest.approx(fit.C_mid * 1e6, rel=1e-3)


def test_step_zero_is_left_out_and_few_points_give_a_reason() -> None:
    curve = simulate(1000, 2, 0.6, 0.4, np.random.default_rng(0), points=10)
    extended = np.append(0, curve.compute), np.append(0.9, curve.pass_rate)
    assert fit_grid(*extended, 0.4) == fit_grid(curve.compute, curve.pass_rate, 0.4)
    for fit in (fit_grid([0, 1, 2], [0.4, 0.5, 0.6], 0.4), fit_least_squares([1, 2], [0.5, 0.6], 0.4)):
        assert np.isnan([fit.A, fit.B, fit.C_mid]).all() and "2 points" in fit.reason
        assert np.isnan(fit.predict([1, 2])).all()
    assert "no room" in fit_grid(np.arange(1, 9), np.ones(8), 1.0).reason


def test_a_falling_run_has_its_initial_rate_as_ceiling() -> None:
    compute = np.arange(1.0, 11)
    fit = fit_least_squares(compute, 0.4 - 0.01 * compute, 0.4)
    assert fit.A == 0.4 and np.isnan(fit.C_mid) and "no rise" in fit.reason
    np.testing.assert_array_equal(fit.predict(compute), 0.4)
    assert fit_grid(compute, 0.4 - 0.01 * compute, 0.4).at_edge[0] == "A"


def test_a_straight_climb_is_flagged_at_the_edge() -> None:
    compute = np.linspace(100, 1000, 12)
    assert "A" in fit_least_squares(compute, 0.1 + 7e-4 * compute, 0.1).at_edge
    assert "A" in fit_grid(compute, 0.1 + 7e-4 * compute, 0.1).at_edge


# Fits at a given ceiling


def test_fixed_ceiling_recovers_the_rest_and_equals_the_free_fit_at_its_own_ceiling() -> None:
    curve = simulate(2542, 1.92, 0.61, 0.4, np.random.default_rng(5), points=20)
    columns = curve.compute, curve.pass_rate
    free = fit_least_squares(*columns, 0.4, curve.standard_error)
    fixed = fit_fixed_ceiling(*columns, 0.4, free.A, curve.standard_error)
    assert fixed.method == "fixed_ceiling" and fixed.A == free.A and not fixed.at_edge
    assert (fixed.B, fixed.C_mid, fixed.sse) == pytest.approx((free.B, free.C_mid, free.sse), rel=1e-4)
    lower, higher = (fit_fixed_ceiling(*columns, 0.4, free.A + shift, curve.standard_error) for shift in (-0.02, 0.02))
    assert lower.sse > fixed.sse and higher.sse > fixed.sse
    assert lower.B > fixed.B > higher.B and lower.C_mid < fixed.C_mid < higher.C_mid
    assert fit_fixed_ceiling(*columns, 0.4, free.A, curve.standard_error) == fixed


def test_fixed_ceiling_flags_edges_and_refuses_what_cannot_be() -> None:
    compute = np.arange(1.0, 11)
    step = fit_fixed_ceiling(compute, np.where(compute > 5, 0.6, 0.4), 0.4, 0.6)
    assert step.at_edge == ("B",) and step.B == pytest.approx(10)
    flat = fit_fixed_ceiling(compute, np.full(10, 0.4), 0.4, 0.6)
    assert "C_mid" in flat.at_edge
    for A, rates, expected in ((0.4, 0.5, "ceiling 0.400"), (1.1, 0.5, "ceiling 1.100"), (np.nan, 0.5, "ceiling nan")):
        failed = fit_fixed_ceiling(compute, np.full(10, rates), 0.4, A)
        assert np.isnan([failed.A, failed.B, failed.C_mid]).all() and expected in failed.reason
    assert "2 points" in fit_fixed_ceiling([0, 1, 2], [0.4, 0.5, 0.6], 0.4, 0.6).reason


def test_steepness_at_the_mean_ceiling_and_beside_it() -> None:
    rng, runs, tables = np.random.default_rng(6), [], []
    for arm, seed, A, B in (("fast", 0, 0.62, 2.4), ("fast", 1, 0.62, 2.4), ("slow", 0, 0.60, 1.5)):
        curve = simulate(2542, B, A, 0.4, rng, points=20)
        runs.append(RunFit(arm, seed, least_squares(curve, 0.4), INITIAL, curve.compute[-1]))
        columns = {"compute": curve.compute, "pass_rate": curve.pass_rate, "pass_rate_se": curve.standard_error}
        tables.append(pd.DataFrame({"arm": arm, "seed": seed, "samples": SAMPLES} | columns))
    mean = shared_ceiling(runs)
    assert mean == pytest.approx((np.mean([runs[0].fit.A, runs[1].fit.A]) + runs[2].fit.A) / 2)
    failed = RunFit("failed", 0, sigmoid_fit.failed_fit(0.4, 20, "least_squares", "made to fail"), INITIAL, 1.0)
    assert shared_ceiling([*runs, failed]) == mean

    table = fit_at_ceilings(runs, pd.concat(tables).sample(frac=1, random_state=0), SETTINGS)
    assert len(table) == 3 * 4 and (table["reason"] == "").all()
    rows = table.set_index(["ceiling", "arm", "seed"]).sort_index()
    for name, shift in (("mean", 0.0), ("mean - 0.02", -0.02), ("mean + 0.02", 0.02)):
        assert rows.loc[name, "A"].to_numpy() == pytest.approx(mean + shift)
        assert rows.loc[(name, "fast", 0), "B"] > rows.loc[(name, "slow", 0), "B"]
    assert [rows.loc[("free", run.arm, run.seed), "B"] for run in runs] == [run.fit.B for run in runs]


# Windows


@pytest.mark.parametrize("shift", [-0.01, 0.0, 0.01])
def test_every_window_of_twenty_evaluations_can_be_fitted(shift: float) -> None:
    compute = np.append(0, np.linspace(0.05, 1, 20) * (1 + shift))
    fits = fit_windows(Curve(compute, sigmoid(compute, 0.6, 2, 0.15, 0.4), np.full(21, 0.005)), INITIAL, 1.0)
    points = {(fit.low, fit.high): fit.points for fit in fits}
    assert tuple(points) == WINDOWS == (*SIGMOID_WINDOWS, LATE_WINDOW) and min(points.values()) >= 5
    assert len(set(points.values())) >= 4  # else windows hold the same points
    for fit in fits:
        if fit.form == "sigmoid":
            assert (fit.A, fit.B, fit.C_mid) == pytest.approx((0.6, 2, 0.15), rel=1e-3) and not fit.reason
            assert np.isnan(fit.D)
        else:
            assert np.isnan(fit.C_mid) and fit.D > 0


def test_power_law_is_nearer_the_ceiling_in_the_late_window() -> None:
    curve = simulate(2542, 1.9, 0.61, 0.4, np.random.default_rng(0), reach=10, points=40, first=0.25)
    ceilings = {(fit.low, fit.high): fit.A for fit in fit_windows(curve, INITIAL, curve.compute[-1]) if fit.D > 0}
    assert abs(ceilings[LATE_WINDOW] - 0.61) < abs(ceilings[HALF_WINDOW] - 0.61)


def test_windows_without_points_say_so() -> None:
    curve = Curve(np.linspace(0, 1, 6), np.linspace(0.4, 0.6, 6), np.full(6, 0.01))
    fits = {(fit.form, fit.low, fit.high): fit for fit in fit_windows(curve, INITIAL, 1.0)}
    for form in ("sigmoid", "power_law"):
        few = fits[form, *HALF_WINDOW]
        assert np.isnan(few.A) and "2 points" in few.reason
        assert np.isfinite(fits[form, 0.0, 1.0].A)


# Uncertainty


def test_t_interval_by_hand_and_degenerate_counts() -> None:
    interval = t_interval([1.0, 2.0, 3.0, np.nan])
    half = 4.302653 / np.sqrt(3)  # t quantile, 2 degrees of freedom; sd 1
    assert interval.seeds == 3 and interval.estimate == 2
    np.testing.assert_allclose([interval.low, interval.high], [2 - half, 2 + half], rtol=1e-6)
    assert np.isnan(t_interval([0.5]).low) and t_interval([0.5]).estimate == 0.5
    assert t_interval([np.nan]).seeds == 0
    assert log_t_interval([10.0, 1000.0]).estimate == pytest.approx(100)


def test_t_interval_covers_its_nominal_share() -> None:
    rng = np.random.default_rng(1)
    intervals = [t_interval(rng.normal(size=5)) for _ in range(2000)]
    coverage = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    assert coverage == pytest.approx(0.95, abs=0.015)


def test_bootstrap_interval_has_the_width_of_the_sampling_distribution() -> None:
    rng, initial = np.random.default_rng(2), Initial(0.4, 0.002)
    fits = [least_squares(simulate(2542, 1.9, 0.6, 0.4, rng, points=25), 0.4) for _ in range(40)]
    curve = simulate(2542, 1.9, 0.6, 0.4, rng, points=25)
    refits = bootstrap_fits(least_squares(curve, 0.4), curve, initial, 80, np.random.default_rng(0))
    low, high = parameter_intervals(refits, 0.95)["A"]
    assert (high - low) / 4 == pytest.approx(np.std([fit.A for fit in fits]), rel=0.5)
    again = bootstrap_fits(least_squares(curve, 0.4), curve, initial, 80, np.random.default_rng(0))
    assert again == refits


def test_positive_error_where_all_samples_agree() -> None:
    errors = positive_error([0.0, 1.0, 0.5, 0.5], [0.0, 0.0, 0.1, np.nan], [16, 16, 16, 16])
    assert (errors > 0).all() and errors[2] == 0.1 and errors[0] == pytest.approx(errors[1])
