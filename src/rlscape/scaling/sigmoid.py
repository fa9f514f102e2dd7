"""The scaling law of P1 (arXiv 2510.13786, Eq 1), its rivals, and what follows from them in closed form.

Names are the paper's: ``A`` the asymptote, ``B`` the steepness, ``C_mid`` the midpoint (the compute at which
half of the rise is done) and ``R_0`` the initial pass rate. Compute may have any unit; ``C_mid`` shares it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit

FloatArray = NDArray[np.float64]


def log_compute(compute: ArrayLike) -> FloatArray:
    """Natural logarithm, with ``-inf`` for zero compute."""
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(compute, dtype=float))


def sigmoid(compute: ArrayLike, A: float, B: float, C_mid: float, R_0: float) -> FloatArray:
    """Pass rate at each compute: ``R_0 + (A - R_0) / (1 + (C_mid / C)^B)`` (P1, Eq 1); ``R_0`` at zero."""
    return R_0 + (A - R_0) * expit(B * (log_compute(compute) - np.log(C_mid)))


def compute_to_reach(level: ArrayLike, A: float, B: float, C_mid: float, R_0: float) -> FloatArray:
    """The compute at which :func:`sigmoid` reaches a pass rate: 0 up to ``R_0``, infinite from ``A`` on."""
    share = np.clip((np.asarray(level, dtype=float) - R_0) / (A - R_0), 0, 1)
    with np.errstate(divide="ignore"):
        return C_mid * (share / (1 - share)) ** (1 / B)


def power_law(compute: ArrayLike, A: float, B: float, D: float) -> FloatArray:
    """``A - D / C^B`` (P1, A.4); with ``D = (A - R_0) C_mid^B`` the large-compute limit of Eq 1."""
    return A - D * np.asarray(compute, dtype=float) ** -B


def exponential_saturation(compute: ArrayLike, A: float, C_scale: float, R_0: float) -> FloatArray:
    """``A - (A - R_0) exp(-C / C_scale)``, the form of arXiv 2507.18014."""
    return A - (A - R_0) * np.exp(-np.asarray(compute, dtype=float) / C_scale)


def linearised(pass_rate: ArrayLike, A: float, B: float, C_mid: float, R_0: float) -> FloatArray:
    """P1's transform for Figure 7, ``C_mid^B / ((A - R_0) / (R - R_0) - 1)``.

    On the curve it equals ``C^B``, a straight line of slope ``B`` through (1, 1) on logarithmic axes.
    NaN for pass rates outside the open interval from ``R_0`` to ``A``, where it is undefined.
    """
    rate = np.asarray(pass_rate, dtype=float)
    rate = np.where((rate > R_0) & (rate < A), rate, np.nan)
    return C_mid**B / ((A - R_0) / (rate - R_0) - 1)


def crossings(
    first: Callable[[FloatArray], FloatArray],
    second: Callable[[FloatArray], FloatArray],
    lowest: float,
    highest: float,
    points: int = 1000,
) -> FloatArray:
    """The compute values between two positive limits at which two curves cross, ascending; may be empty.

    The curves are functions of an array of compute, for example ``SigmoidFit.predict``. A pair of
    crossings closer together than ``points`` log-spaced steps can resolve is missed.
    """

    def difference(log_value: FloatArray) -> FloatArray:
        compute = np.exp(log_value)
        return first(compute) - second(compute)

    grid = np.linspace(np.log(lowest), np.log(highest), points)
    sign = np.sign(difference(grid))
    changes = np.flatnonzero(sign[:-1] * sign[1:] < 0)
    roots = [brentq(lambda x: float(difference(np.array(x))), grid[i], grid[i + 1]) for i in changes]
    return np.exp(np.sort(np.concatenate([grid[sign == 0], roots])))
