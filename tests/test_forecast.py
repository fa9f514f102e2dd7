"""Forecasts: what half a run says of the rest, when it is refused, and its rivals."""

import numpy as np
import pytest

from rlscape.scaling.arm_comparison import equivalence_margin
from rlscape.scaling.curves import Curve, Initial, positive_error
from rlscape.scaling.forecast import Forecast, make_forecast, score_forecast
from rlscape.scaling.rivals import fit_exponential_saturation, fit_power_law
from rlscape.scaling.sigmoid import exponential_saturation, power_law, sigmoid
from rlscape.scaling.sigmoid_fit import midpoint_limit
from tests.simulated_runs import INITIAL, SETTINGS, simulate


def forecast_of(curve: Curve, seed: int = 0) -> Forecast:
    return make_forecast(curve, INITIAL, curve.compute[-1], SETTINGS, np.random.default_rng(seed))


def test_half_of_a_long_run_forecasts_the_rest() -> None:
    curve = simulate(2542, 1.92, 0.61, 0.4, np.random.default_rng(0), reach=6)
    forecast = forecast_of(curve)
    assert forecast.verdict == "forecast" and not forecast.reason
    assert forecast.reach == pytest.approx(3, abs=0.4)
    assert forecast.fitted_compute <= forecast.cutoff == curve.compute[-1] / 2
    score = score_forecast(forecast, curve)
    assert score["mae"]["least_squares"] < equivalence_margin(0.61, 0.4)
    assert score["mae"]["grid"] < equivalence_margin(0.61, 0.4)
    assert score["skill"] > 0.3 and score["grid_skill"] > 0.3
    bands = forecast.fitted.bands
    assert bands.compute[-1] == pytest.approx(curve.compute[-1])
    assert all(low <= high for low, high in zip(bands.low, bands.high, strict=True))
    truth = sigmoid(bands.compute, 0.61, 1.92, 2542, 0.4)
    assert np.mean((bands.low <= truth) & (truth <= bands.high)) > 0.6


@pytest.mark.parametrize("reach", [0.5, 1.0, 1.5])
def test_refused_when_the_data_end_early(reach: float) -> None:
    verdicts = []
    for seed in range(6):
        curve = simulate(2542, 1.92, 0.61, 0.4, np.random.default_rng(seed), 2 * reach, 40, 4096, 0.05)
        forecast = forecast_of(curve)
        verdicts.append(forecast.verdict)
        if forecast.verdict == "refused":
            assert "times as much" in forecast.reason or "twice" in forecast.reason or "no rise" in forecast.reason
    assert verdicts.count("refused") >= 5


def test_refusal_says_how_much_compute_would_do() -> None:
    compute = np.linspace(100, 2000, 40)
    curve = Curve(compute, sigmoid(compute, 0.6, 2, 1000, 0.4), np.full(40, 0.001))
    forecast = forecast_of(curve)
    assert forecast.verdict == "refused"
    assert "fit up to compute 2000, 2.0 times as much" in forecast.reason.replace("1999", "2000")


def test_forecast_does_not_depend_on_later_evaluations() -> None:
    curve = simulate(2542, 1.92, 0.61, 0.4, np.random.default_rng(0), reach=6, points=20)
    corrupted = Curve(
        curve.compute,
        np.where(curve.compute > curve.compute[-1] / 2, 0.0, curve.pass_rate),
        curve.standard_error,
    )
    assert forecast_of(corrupted) == forecast_of(curve)


def test_forecast_survives_json() -> None:
    for reach in (0.5, 6.0):
        curve = simulate(2542, 1.92, 0.61, 0.4, np.random.default_rng(0), reach=reach, points=30)
        forecast = forecast_of(curve)
        again = Forecast.from_dict(forecast.to_dict())
        assert again.to_dict() == forecast.to_dict()
        assert str(score_forecast(again, curve)) == str(score_forecast(forecast, curve))


def test_noise_is_refused_and_never_crashes() -> None:
    refused = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        samples = np.full(9, 32)
        rate = rng.binomial(32, rng.choice([0.0, 0.1, 0.4, 1.0]), 9) / samples
        error = positive_error(rate, np.sqrt(rate * (1 - rate) / samples), samples)
        initial = Initial(float(rate[0]), float(error[0]))
        curve = Curve(np.linspace(0, 8, 9), rate, error)
        forecast = make_forecast(curve, initial, 8.0, SETTINGS, rng)
        score_forecast(forecast, curve)
        Forecast.from_dict(forecast.to_dict())
        refused += forecast.verdict == "refused"
    assert refused >= 14


def test_scores_by_hand() -> None:
    curve = simulate(2542, 1.92, 0.61, 0.4, np.random.default_rng(0), reach=6, points=12)
    forecast = forecast_of(curve)
    later = curve.compute > forecast.cutoff
    seen, unseen = curve.pass_rate[~later], curve.pass_rate[later]
    mae = score_forecast(forecast, curve)["mae"]
    assert mae["last_value"] == pytest.approx(np.abs(unseen - seen[-1]).mean())
    assert mae["last_points_mean"] == pytest.approx(np.abs(unseen - seen[-5:].mean()).mean())
    fit = forecast.fitted.fits["least_squares"]
    expected = np.abs(unseen - sigmoid(curve.compute[later], fit.A, fit.B, fit.C_mid, fit.R_0)).mean()
    assert mae["least_squares"] == pytest.approx(expected)
    assert score_forecast(forecast, curve)["skill"] == pytest.approx(1 - expected / mae["last_value"])


def test_rivals_recover_their_own_curves() -> None:
    compute, error = np.linspace(500, 20_000, 40), np.full(40, 0.005)
    power = fit_power_law(compute, power_law(compute, 0.65, 0.8, 60.0), error)
    assert (power.parameters["A"], power.parameters["B"]) == pytest.approx((0.65, 0.8), rel=1e-2)
    assert power.parameters["D"] == pytest.approx(60, rel=0.05)
    exponential = fit_exponential_saturation(compute, exponential_saturation(compute, 0.6, 4000, 0.4), error, 0.4)
    assert (exponential.parameters["A"], exponential.parameters["C_scale"]) == pytest.approx((0.6, 4000), rel=1e-3)
    assert np.isnan(fit_power_law(compute[:2], compute[:2], error[:2]).predict(compute)).all()


def test_midpoint_limit_lies_above_the_midpoint_and_is_infinite_for_noise() -> None:
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(40):
        curve = simulate(2542, 1.92, 0.61, 0.4, rng, reach=3, points=20)
        below += midpoint_limit(curve.compute, curve.pass_rate, 0.4, curve.standard_error, 0.95) < 2542
    assert below <= 6  # nominally 2
    flat = np.full(20, 0.4)
    assert midpoint_limit(curve.compute, flat, 0.4, curve.standard_error, 0.95) == np.inf
