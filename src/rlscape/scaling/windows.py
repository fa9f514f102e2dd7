"""How far a fit depends on the part of the run that it sees: sigmoid and power law over several windows (P1, A.4, A.7).

Paper: the sigmoid fitted to 1.5-50k, 5-50k, 0-50k and 0-100k of a run of 100k GPU-hours, the power law to 1.5-50k,
5-50k and 30-60k. Here: the windows are shares of a run's total compute, and both forms are fitted in all of them. A
run has an evaluation every 5% of its steps, the first at 0.05: windows from 0, from 0.015 and from 0.05 would hold
the same points. Windows from 0.1 and from 0.2 therefore stand for 1.5-50k and 5-50k; they leave out more of the start.
An evaluation at a limit may fall on either side of it, so that the smallest windows have 5 to 7 points.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np

from rlscape.scaling.curves import Curve, Initial
from rlscape.scaling.records import plain, restored
from rlscape.scaling.rivals import RivalFit, fit_power_law
from rlscape.scaling.sigmoid import power_law, sigmoid
from rlscape.scaling.sigmoid_fit import EDGE, SigmoidFit, fit_least_squares

HALF_WINDOW = (0.0, 0.5)
SIGMOID_WINDOWS = (HALF_WINDOW, (0.0, 1.0), (0.1, 0.5), (0.2, 0.5))
"""The four windows of P1's A.7."""
LATE_WINDOW = (0.3, 0.6)
"""The window in which P1's A.4 finds the power law right."""
WINDOWS = (*SIGMOID_WINDOWS, LATE_WINDOW)

Form = Literal["sigmoid", "power_law"]


@dataclass(frozen=True)
class WindowFit:
    """One form fitted to one window; the parameters that a form lacks or that are undetermined are NaN."""

    form: Form
    low: float
    """Start of the window, as a share of the run's total compute, and its end."""
    high: float
    points: int
    A: float
    B: float
    C_mid: float = np.nan
    D: float = np.nan
    sse: float = np.nan
    at_edge: tuple[str, ...] = ()
    """The parameters whose estimate lies on the limit of its range: bounds, no values."""
    reason: str = ""
    """Why parameters of the form are NaN; empty if they are not."""

    @classmethod
    def of_sigmoid(cls, window: tuple[float, float], fit: SigmoidFit) -> Self:
        """From a fit of the sigmoid."""
        return cls(
            "sigmoid",
            *window,
            fit.points,
            fit.A,
            fit.B,
            C_mid=fit.C_mid,
            sse=fit.sse,
            at_edge=fit.at_edge,
            reason=fit.reason,
        )

    @classmethod
    def of_power_law(cls, window: tuple[float, float], fit: RivalFit) -> Self:
        """From a fit of the power law."""
        A, B, D = (fit.parameters.get(name, np.nan) for name in ("A", "B", "D"))
        at_edge = ("A",) if A > 1 - EDGE else ()
        return cls("power_law", *window, fit.points, A, B, D=D, sse=fit.sse, at_edge=at_edge, reason=fit.reason)

    def predict(self, compute: float, initial: float) -> float:
        """The form's pass rate at some compute, R_0 being ``initial``; NaN if the fit failed."""
        match self.form:
            case "sigmoid":
                return float(sigmoid(compute, self.A, self.B, self.C_mid, initial))
            case "power_law":
                return float(power_law(compute, self.A, self.B, self.D))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, null for NaN."""
        return plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(**restored(values))


def fit_windows(
    curve: Curve, initial: Initial, total_compute: float, forms: Collection[Form] = get_args(Form)
) -> list[WindowFit]:
    """Some forms in every window: the sigmoid by least squares with R_0 fixed, and the power law."""
    fits = []
    for window in WINDOWS:
        low, high = (share * total_compute for share in window)
        seen = curve.between(low, high)
        columns = seen.compute, seen.pass_rate, seen.standard_error
        if "sigmoid" in forms:
            fitted = fit_least_squares(seen.compute, seen.pass_rate, initial.pass_rate, seen.standard_error)
            fits.append(WindowFit.of_sigmoid(window, fitted))
        if "power_law" in forms:
            fits.append(WindowFit.of_power_law(window, fit_power_law(*columns)))
    return fits
