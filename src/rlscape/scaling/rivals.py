"""Rival forms of the learning curve, fitted to the same points: what the sigmoid has to beat.

- Power law ``A - D / C^B`` (P1, A.4), without a start at R_0.
- Exponential saturation ``A - (A - R_0) exp(-C / C_scale)`` (arXiv 2507.18014).

Both by bounded least squares, with compute divided by its largest value, from several fixed starts.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from rlscape.scaling.records import plain, restored
from rlscape.scaling.sigmoid import FloatArray, exponential_saturation, power_law
from rlscape.scaling.sigmoid_fit import multi_start, unfittable

FORMS: Mapping[str, Callable[..., FloatArray]] = {
    "power_law": power_law,
    "exponential_saturation": exponential_saturation,
}
POWER_LAW_B_LIMITS = (0.05, 10.0)
C_SCALE_LIMITS = (1e-2, 1e2)
"""In units of the last compute."""


@dataclass(frozen=True)
class RivalFit:
    """A fitted rival: the name of its form in :mod:`rlscape.scaling.sigmoid` and its parameters."""

    form: str
    parameters: Mapping[str, float]
    sse: float
    points: int
    reason: str = ""
    """Why there are no parameters; empty if there are."""

    def predict(self, compute: ArrayLike) -> FloatArray:
        """Pass rate at each compute; NaN if the fit failed."""
        if self.reason:
            return np.full(np.shape(compute), np.nan)
        return FORMS[self.form](compute, **self.parameters)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, null for NaN."""
        return plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(**restored(values))


def fit_power_law(compute: FloatArray, pass_rate: FloatArray, standard_error: FloatArray) -> RivalFit:
    """The power law, 0 <= A <= 1 and D >= 0, at positive compute; three arrays of shape (n,)."""
    if reason := unfittable(len(compute), 0.0):
        return RivalFit("power_law", {}, np.nan, len(compute), reason)
    last = compute.max()

    def residuals(parameters: FloatArray) -> FloatArray:
        A, B, D = parameters
        return (pass_rate - power_law(compute / last, A, B, D)) / standard_error

    starts = [(pass_rate.max(), B, max(np.ptp(pass_rate), 1e-3)) for B in (0.3, 1.0, 2.0)]
    fit = multi_start(residuals, starts, ([0, POWER_LAW_B_LIMITS[0], 0], [1, POWER_LAW_B_LIMITS[1], np.inf]))
    A, B, D = (float(value) for value in fit.x)
    return RivalFit("power_law", {"A": A, "B": B, "D": float(D * last**B)}, float(2 * fit.cost), len(compute))


def fit_exponential_saturation(
    compute: FloatArray, pass_rate: FloatArray, standard_error: FloatArray, initial: float
) -> RivalFit:
    """Exponential saturation from a fixed R_0, R_0 <= A <= 1; three arrays of shape (n,)."""
    if reason := unfittable(len(compute), initial):
        return RivalFit("exponential_saturation", {}, np.nan, len(compute), reason)
    last = compute.max()

    def residuals(parameters: FloatArray) -> FloatArray:
        A, log_scale = parameters
        curve = exponential_saturation(compute / last, A, np.exp(log_scale), initial)
        return (pass_rate - curve) / standard_error

    starts = [(pass_rate.max(), log_scale) for log_scale in np.log([0.1, 0.3, 1.0, 3.0])]
    shortest, longest = np.log(C_SCALE_LIMITS)
    fit = multi_start(residuals, starts, ([initial, shortest], [1, longest]))
    A, C_scale = float(fit.x[0]), float(np.exp(fit.x[1]) * last)
    parameters = {"A": A, "C_scale": C_scale, "R_0": initial}
    return RivalFit("exponential_saturation", parameters, float(2 * fit.cost), len(compute))
