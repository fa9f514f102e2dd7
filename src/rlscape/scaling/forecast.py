"""A forecast of the rest of a run from its first part, a verdict on whether it may be made, and its score.

P1 fits half a run and extrapolates to the other half. A fit that sees little beyond its own midpoint can put
the ceiling anywhere, so a forecast is refused unless

1. the curve could be fitted and rises,
2. the data reach ``minimum_reach`` fitted midpoints, and
3. the upper confidence limit of the midpoint lies within the data (else condition 2 rests on a chance fit).

A refused forecast keeps its fits, so that its error can be shown; its reason says how much compute would do.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import numpy as np

from rlscape.scaling.curves import Curve, Initial
from rlscape.scaling.records import plain, restored
from rlscape.scaling.rivals import RivalFit, fit_exponential_saturation, fit_power_law
from rlscape.scaling.sigmoid import FloatArray
from rlscape.scaling.sigmoid_fit import SigmoidFit, fit_grid, fit_least_squares, midpoint_limit
from rlscape.scaling.uncertainty import bootstrap_fits, parameter_intervals, percentile_interval
from rlscape.settings.measurement import FitSettings

BAND_POINTS = 60
LAST_POINTS = 5
"""Evaluations in the mean that is the second baseline."""


@dataclass(frozen=True)
class Bands:
    """The fitted curve and its bootstrap interval at log-spaced compute; empty if the fit failed."""

    compute: tuple[float, ...]
    estimate: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class FittedCurve:
    """Sigmoid fits to one window of a run: by least squares (the reference), P1's grid, and with R_0 free."""

    fits: dict[str, SigmoidFit]
    intervals: dict[str, tuple[float, float]]
    """Of A, B and C_mid by least squares, R_0 resampled with the curve."""
    bands: Bands

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From the plain values of ``dataclasses.asdict``, read from JSON."""
        fits = {name: SigmoidFit.from_dict(fit) for name, fit in values["fits"].items()}
        return cls(fits, restored(values["intervals"]), Bands(**restored(values["bands"])))


@dataclass(frozen=True)
class Forecast:
    """Made from evaluations up to ``cutoff``; see :func:`make_forecast`."""

    cutoff: float
    """Compute up to which evaluations were read."""
    total_compute: float
    fitted_compute: float
    """Compute of the last fitted evaluation; NaN if there is none."""
    reach: float
    """``fitted_compute / C_mid``."""
    C_mid_limit: float
    """One-sided upper confidence limit of the midpoint; infinite (from JSON: NaN) if there is none."""
    verdict: Literal["forecast", "refused"]
    reason: str
    """Why it was refused; empty if it was not."""
    fitted: FittedCurve
    rivals: dict[str, RivalFit]
    last_value: float
    last_points_mean: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, null where a number is not finite."""
        return plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; keys that are not fields are ignored."""
        own = restored({field.name: values[field.name] for field in fields(cls)})
        own["fitted"] = FittedCurve.from_dict(values["fitted"])
        own["rivals"] = {name: RivalFit.from_dict(fit) for name, fit in values["rivals"].items()}
        return cls(**own)


def fit_curve(
    curve: Curve, initial: Initial, total_compute: float, settings: FitSettings, rng: np.random.Generator
) -> FittedCurve:
    """All sigmoid fits to some evaluations, with bootstrap intervals and bands up to the total compute."""
    start, last = initial.pass_rate, max(curve.compute, default=np.nan)
    window = curve.between(settings.skip_fraction * last)
    fits = {
        "least_squares": fit_least_squares(window.compute, window.pass_rate, start, window.standard_error),
        "grid": fit_grid(window.compute, window.pass_rate, start),
        "least_squares_free_initial": fit_least_squares(
            window.compute, window.pass_rate, start, window.standard_error, initial.standard_error
        ),
    }
    reference = fits["least_squares"]
    refits = bootstrap_fits(reference, window, initial, settings.bootstrap_draws, rng)
    bands = Bands((), (), (), ())
    if refits:
        compute = np.geomspace(window.compute[0], total_compute, BAND_POINTS)
        curves = np.array([refit.predict(compute) for refit in refits])
        limits = (percentile_interval(rates, settings.confidence) for rates in curves.T)
        low, high = zip(*limits, strict=True)
        bands = Bands(tuple(compute.tolist()), tuple(reference.predict(compute).tolist()), low, high)
    return FittedCurve(fits, parameter_intervals(refits, settings.confidence), bands)


def refusal(fit: SigmoidFit, fitted_compute: float, C_mid_limit: float, minimum_reach: float) -> str:
    """Why a forecast from this fit may not be made, and how much compute would do; empty if it may."""
    if fit.reason:
        return fit.reason
    reach = fitted_compute / fit.C_mid
    if reach < minimum_reach:
        return (
            f"the data end at {reach:.2g} fitted C_mid, before {minimum_reach:g}: fit up to compute "
            f"{minimum_reach * fit.C_mid:.4g}, {minimum_reach / reach:.1f} times as much"
        )
    if C_mid_limit > fitted_compute:
        enough = minimum_reach * C_mid_limit
        remedy = (
            f"fit up to compute {enough:.4g}, {enough / fitted_compute:.1f} times as much"
            if np.isfinite(C_mid_limit)
            else "these data cannot tell how much more compute would do; try twice as much"
        )
        return f"the midpoint is not settled, it may lie beyond the data: {remedy}"
    return ""


def make_forecast(
    curve: Curve,
    initial: Initial,
    total_compute: float,
    settings: FitSettings,
    rng: np.random.Generator,
) -> Forecast:
    """A forecast up to ``total_compute`` from the evaluations up to ``fit_fraction`` of it.

    Later evaluations in ``curve`` are not used; better still, do not read them.
    """
    cutoff = settings.fit_fraction * total_compute
    seen = curve.between(0, cutoff)
    fitted_compute = float(max(seen.compute, default=np.nan))
    window = seen.between(settings.skip_fraction * fitted_compute)
    fitted = fit_curve(seen, initial, total_compute, settings, rng)
    fit = fitted.fits["least_squares"]
    columns = window.compute, window.pass_rate, window.standard_error
    limit = midpoint_limit(
        window.compute, window.pass_rate, initial.pass_rate, window.standard_error, settings.confidence
    )
    reason = refusal(fit, fitted_compute, limit, settings.minimum_reach)
    rates = seen.pass_rate if len(seen) else np.array([initial.pass_rate])
    return Forecast(
        cutoff=cutoff,
        total_compute=total_compute,
        fitted_compute=fitted_compute,
        reach=fitted_compute / fit.C_mid,
        C_mid_limit=limit,
        verdict="refused" if reason else "forecast",
        reason=reason,
        fitted=fitted,
        rivals={
            "power_law": fit_power_law(*columns),
            "exponential_saturation": fit_exponential_saturation(*columns, initial.pass_rate),
        },
        last_value=float(rates[-1]),
        last_points_mean=float(rates[-LAST_POINTS:].mean()),
    )


def score_forecast(forecast: Forecast, curve: Curve) -> dict[str, Any]:
    """Mean absolute errors on the evaluations after the cutoff; a refused forecast is scored all the same.

    Returns:
        ``points``; ``mae``, a dict over the fits, the rivals, ``last_value`` and ``last_points_mean``;
        ``skill`` and ``grid_skill``, ``1 - mae / mae of the last value`` of the least-squares and the grid
        fit: positive if the forecast beats "the last value stays". NaN for fits that failed.
    """
    later = curve.compute > forecast.cutoff
    compute, observed = curve.compute[later], curve.pass_rate[later]
    predictions: dict[str, FloatArray | float] = {
        **{name: fit.predict(compute) for name, fit in (forecast.fitted.fits | forecast.rivals).items()},
        "last_value": forecast.last_value,
        "last_points_mean": forecast.last_points_mean,
    }
    mae = {
        name: float(np.abs(observed - prediction).mean()) if later.any() else np.nan
        for name, prediction in predictions.items()
    }
    baseline = mae["last_value"] or np.nan
    return {
        "points": int(later.sum()),
        "mae": mae,
        "skill": 1 - mae["least_squares"] / baseline,
        "grid_skill": 1 - mae["grid"] / baseline,
    }
