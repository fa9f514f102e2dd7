"""What the sigmoid and its rivals would have forecast: fitted to the first part of the compute, scored on the rest.

Rivals: the power law and the exponential saturation (:mod:`rlscape.scaling.rivals`), straight lines in compute and in
log compute, and "the last value stays".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlscape.scaling.rivals import fit_exponential_saturation, fit_power_law
from rlscape.scaling.sigmoid import FloatArray
from rlscape.tools.curves.intervals import Line, Points, Profile, predict
from rlscape.tools.curves.verdicts import fewest_points

RIVALS = ("power_law", "exponential_saturation", "line", "log_line")
FORMS = ("sigmoid", *RIVALS, "last_value")


@dataclass(frozen=True)
class HeldOut:
    """Mean absolute errors on the points that no form was fitted to, in the log's units."""

    share: float
    """Of the compute that was fitted."""
    cutoff: float
    fitted: int
    points: int
    """Held out."""
    reach: float
    """The cutoff in C_mid of the sigmoid fitted up to it."""
    errors: dict[str, float]
    """By form, see ``FORMS``; NaN where it could not be fitted."""
    reason: str = ""
    """Why there are no errors; empty if there are."""

    def skill(self, form: str) -> float:
        """``1 - error / error of the last value``: positive if the form beats "the last value stays"."""
        return 1 - self.errors[form] / (self.errors["last_value"] or np.nan)


def hold_out(points: Points, share: float, initial: float | None, confidence: float, scale: float) -> HeldOut:
    """Errors of all forms.

    Args:
        points: on the scale from 0 to 1, of all runs.
        initial: R_0 if it is known.
        scale: units of the log per unit of ``points``.
    """
    cutoff = share * float(points.compute.max())
    seen, rest = points.where(points.compute <= cutoff), points.where(points.compute > cutoff)
    later = seen.where(seen.compute > 0)
    if len(seen) < fewest_points(initial) or len(np.unique(later.compute)) < 3:
        reason = f"{len(seen)} points up to compute {cutoff:.4g}, too few to fit"
        return HeldOut(share, cutoff, len(seen), len(rest), np.nan, dict.fromkeys(FORMS, np.nan), reason)
    fit = Profile.of(seen, initial, confidence).fit
    error = later.weights**-0.5
    forms: dict[str, Callable[[FloatArray], Any]] = {
        "sigmoid": lambda compute: predict(fit, compute),
        "power_law": fit_power_law(later.compute, later.rate, error).predict,
        "exponential_saturation": fit_exponential_saturation(later.compute, later.rate, error, fit.R_0).predict,
        "line": Line.through(seen, on_log=False).predict,
        "log_line": Line.through(later, on_log=True).predict,
        "last_value": lambda compute: later.rate[later.compute == later.compute.max()].mean(),
    }
    errors = {name: scale * float(np.abs(rest.rate - form(rest.compute)).mean()) for name, form in forms.items()}
    return HeldOut(share, cutoff, len(seen), len(rest), cutoff / fit.C_mid, errors)
