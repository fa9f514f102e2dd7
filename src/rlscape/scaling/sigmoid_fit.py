"""Fits of the sigmoid (P1, Eq 1): the paper's grid procedure, and bounded least squares on log compute.

Departures from the paper:

1. Paper: A from 0.450 to 0.800 in steps of 0.005. Here: every multiple of 0.005 above R_0, up to 1. The
   observed maximum is no lower limit: near the ceiling, noise carries single points above it.
2. Paper: 100 values of C_mid, linear from 100 to 40,000 GPU-hours. Here: 100 values, evenly spaced in log
   compute, from a tenth of the first to ten times the last compute.
3. Paper: for each (A, C_mid), B by ``scipy.optimize.curve_fit``. Here: the sum of squares is a quadratic
   in A - R_0 whose coefficients depend on (C_mid, B) only, so that it is evaluated on a fine grid of B for
   all cells at once, and ``curve_fit`` polishes B in the best cells. Same result, some hundred times faster.
4. Paper: B > 0. Here: B from 0.2 to 10, beyond the paper's range of 1.09 to 4.97; an estimate on any
   limit is named in ``at_edge``.
5. Paper: how R_0 is set is not stated. Here: measured on the base model and fixed, or free with that
   measurement as one more observation.

Points at zero compute say nothing about A, B and C_mid and are left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import minimum_filter
from scipy.optimize import OptimizeResult, curve_fit, least_squares
from scipy.special import expit, gammaincinv

from rlscape.scaling.lattice import B_LIMITS, Lattice, log_C_mid_limits
from rlscape.scaling.records import plain, restored
from rlscape.scaling.sigmoid import FloatArray, log_compute, sigmoid

MINIMUM_POINTS = 4
"""Fewest points after step 0 that are fitted: one more than the parameters A, B and C_mid."""
A_STEP = 0.005
C_MID_VALUES = 100
B_VALUES = 200
POLISHED_CELLS = 20
START_LATTICE = (30, 20)
"""Values of C_mid and of B among which least squares looks for its starts."""
STARTS = 4
EDGE = 1e-3
"""Distance from a limit, in pass rate or in log units, below which an estimate lies on it."""


@dataclass(frozen=True)
class SigmoidFit:
    """A fitted curve. A run that does not rise has A = R_0; what is undetermined is NaN, with a reason."""

    A: float
    B: float
    C_mid: float
    R_0: float
    sse: float
    """The minimised sum of squared residuals (divided by their variances, if these were given)."""
    points: int
    method: str
    at_edge: tuple[str, ...] = ()
    """The parameters whose estimate lies on the limit of its range."""
    reason: str = ""
    """Why parameters are NaN; empty if they are not."""

    def predict(self, compute: ArrayLike) -> FloatArray:
        """Pass rate at each compute."""
        if self.A == self.R_0:
            return np.full(np.shape(compute), self.R_0)
        return sigmoid(compute, self.A, self.B, self.C_mid, self.R_0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, null for NaN."""
        return plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(**restored(values))


def failed_fit(initial: float, points: int, method: str, reason: str) -> SigmoidFit:
    """The result where nothing can be fitted."""
    nan = np.nan
    return SigmoidFit(nan, nan, nan, initial, sse=nan, points=points, method=method, reason=reason)


def unfittable(points: int, initial: float) -> str:
    """Why a curve cannot be fitted to this many points after step 0; empty if it can."""
    if points < MINIMUM_POINTS:
        return f"{points} points after step 0, at least {MINIMUM_POINTS} are needed: evaluate more often"
    if not 0 <= initial < 1 - A_STEP:
        return f"the initial pass rate {initial:.3f} leaves no room for a rise"
    return ""


def _after_start(compute: ArrayLike, *columns: ArrayLike | None) -> list[FloatArray]:
    """Compute and further columns (None stands for ones) where compute is positive."""
    all_compute = np.asarray(compute, dtype=float)
    filled = (np.ones_like(all_compute) if column is None else column for column in columns)
    return [np.asarray(column, dtype=float)[all_compute > 0] for column in (all_compute, *filled)]


def _polish(
    log_c: FloatArray, rise: FloatArray, weights: FloatArray, gain: float, log_C_mid: float, start: float
) -> tuple[float, float]:
    """The least sum of squares over B at one (A, C_mid), and that B."""

    def curve(x: FloatArray, B: float) -> FloatArray:
        return gain * expit(B * (x - log_C_mid))

    (B,), _ = curve_fit(curve, log_c, rise, p0=start, sigma=weights**-0.5, bounds=B_LIMITS)
    return float(weights @ (rise - curve(log_c, B)) ** 2), float(B)


def fit_grid(compute: ArrayLike, pass_rate: ArrayLike, initial: float, weights: ArrayLike | None = None) -> SigmoidFit:
    """P1's procedure: a grid over A and C_mid, B by ``curve_fit``, least sum of squares.

    Args:
        compute, pass_rate: (n,), in any order.
        initial: R_0, fixed.
        weights: (n,), inverse variances; None weighs all points alike, as the paper does.
    """
    compute, rate, weights = _after_start(compute, pass_rate, weights)
    if reason := unfittable(len(compute), initial):
        return failed_fit(initial, len(compute), "grid", reason)
    log_c, rise = log_compute(compute), rate - initial
    lattice = Lattice.over(compute, weights, C_MID_VALUES, B_VALUES)
    A = np.arange(np.floor(initial / A_STEP + 1e-9) + 1, round(1 / A_STEP) + 1) * A_STEP
    sse = lattice.sums_of_squares(rise, (A - initial)[:, None, None])  # (A, C_mid, B)
    cells = np.argsort(sse.min(axis=2), axis=None, kind="stable")[:POLISHED_CELLS]

    candidates = []
    for a, c in zip(*np.unravel_index(cells, sse.shape[:2]), strict=True):
        start = lattice.B[sse[a, c].argmin()]
        polished = _polish(log_c, rise, weights, A[a] - initial, lattice.log_C_mid[c], start)
        candidates.append((*polished, a, c))
    least, B, a, c = min(candidates)
    edges = {
        "A": a in (0, len(A) - 1),
        "B": np.abs(np.log(B) - np.log(B_LIMITS)).min() < EDGE,
        "C_mid": c in (0, C_MID_VALUES - 1),
    }
    return SigmoidFit(
        A=float(A[a]),
        B=B,
        C_mid=float(np.exp(lattice.log_C_mid[c])),
        R_0=initial,
        sse=least,
        points=len(compute),
        method="grid",
        at_edge=tuple(name for name, on_edge in edges.items() if on_edge),
    )


def multi_start(
    residuals: Callable[[FloatArray], FloatArray], starts: ArrayLike, limits: tuple[ArrayLike, ArrayLike]
) -> OptimizeResult:
    """The best of several bounded least-squares fits; the starts are (count, parameters)."""
    feasible = np.clip(np.asarray(starts, dtype=float), *limits)
    fits = (least_squares(residuals, start, bounds=limits) for start in feasible)
    return min(fits, key=lambda fit: fit.cost)


def _deepest_minima(sums_of_squares: FloatArray) -> tuple[NDArray[np.intp], ...]:
    """The indices of the deepest local minima over a lattice (c, b), deepest first: the starts of least squares."""
    minima = np.flatnonzero(sums_of_squares == minimum_filter(sums_of_squares, size=3, mode="nearest"))
    minima = minima[np.argsort(sums_of_squares.flat[minima], kind="stable")][:STARTS]
    return np.unravel_index(minima, sums_of_squares.shape)


def fit_least_squares(
    compute: ArrayLike,
    pass_rate: ArrayLike,
    initial: float,
    standard_error: ArrayLike | None = None,
    initial_error: float | None = None,
) -> SigmoidFit:
    """Bounded least squares on log compute, from several deterministic starts.

    A is linear given B and C_mid: the starts are the deepest local minima of the sum of squares over a
    lattice of (C_mid, B) at the best A.

    Args:
        compute, pass_rate: (n,), in any order.
        initial: R_0 as measured.
        standard_error: (n,), positive; None weighs all points alike.
        initial_error: standard error of ``initial``. None: R_0 is fixed. Otherwise R_0 is free and its
            measurement is one more observation; needs ``standard_error``.

    Raises:
        ValueError: ``initial_error`` without ``standard_error``.
    """
    free = initial_error is not None
    if free and standard_error is None:
        raise ValueError("initial_error needs standard_error: the two are weighed against each other")
    method = "least_squares_free_initial" if free else "least_squares"
    compute, rate, error = _after_start(compute, pass_rate, standard_error)
    if reason := unfittable(len(compute), initial):
        return failed_fit(initial, len(compute), method, reason)
    log_c, limits = log_compute(compute), log_C_mid_limits(compute)

    # Parameters: the share of the room above R_0 that is gained, log B, log C_mid and, if free, R_0.
    def residuals(parameters: FloatArray) -> FloatArray:
        share, log_B, log_C_mid = parameters[:3]
        start = parameters[3] if free else initial
        curve = start + share * (1 - start) * expit(np.exp(log_B) * (log_c - log_C_mid))
        observed = (rate - curve) / error
        if initial_error is None:
            return observed
        return np.append(observed, (initial - start) / initial_error)

    lattice = Lattice.over(compute, error**-2, *START_LATTICE)
    gain, profile = lattice.profile(rate - initial, 1 - initial)
    c, b = _deepest_minima(profile)
    shares, initials = gain[c, b] / (1 - initial), np.full(len(c), initial)
    starts = np.column_stack([shares, np.log(lattice.B[b]), lattice.log_C_mid[c], initials])
    lower = np.array([0, np.log(B_LIMITS[0]), limits[0], 0])
    upper = np.array([1, np.log(B_LIMITS[1]), limits[1], 1])
    count = 4 if free else 3
    fit = multi_start(residuals, starts[:, :count], (lower[:count], upper[:count]))

    share, B, C_mid = float(fit.x[0]), float(np.exp(fit.x[1])), float(np.exp(fit.x[2]))
    start = float(fit.x[3]) if free else initial
    on_edge = np.minimum(fit.x - lower[:count], upper[:count] - fit.x) < EDGE
    names = tuple(name for name, edge in zip(("A", "B", "C_mid", "R_0"), on_edge, strict=False) if edge)
    rises = share * (1 - start) >= EDGE
    return SigmoidFit(
        A=start + share * (1 - start) if rises else start,
        B=B if rises else np.nan,
        C_mid=C_mid if rises else np.nan,
        R_0=start,
        sse=float(2 * fit.cost),
        points=len(compute),
        method=method,
        at_edge=names if rises else ("A",),
        reason="" if rises else "no rise above the initial pass rate, hence no curve to fit: train for longer",
    )


def fit_fixed_ceiling(
    compute: ArrayLike,
    pass_rate: ArrayLike,
    initial: float,
    A: float,
    standard_error: ArrayLike | None = None,
) -> SigmoidFit:
    """B and C_mid at a given A, R_0 fixed as well (P1, Figure 7), otherwise as :func:`fit_least_squares`.

    Args:
        compute, pass_rate: (n,), in any order.
        initial: R_0 as measured.
        A: the ceiling; the fit fails unless it lies above ``initial`` and is at most 1.
        standard_error: (n,), positive; None weighs all points alike.
    """
    method = "fixed_ceiling"
    compute, rate, error = _after_start(compute, pass_rate, standard_error)
    reason = unfittable(len(compute), initial)
    if not reason and not initial + EDGE <= A <= 1:
        reason = f"the ceiling {A:.3f} does not lie between the initial pass rate {initial:.3f} and 1"
    if reason:
        return failed_fit(initial, len(compute), method, reason)
    log_c, limits = log_compute(compute), log_C_mid_limits(compute)

    def residuals(parameters: FloatArray) -> FloatArray:
        log_B, log_C_mid = parameters
        return (rate - initial - (A - initial) * expit(np.exp(log_B) * (log_c - log_C_mid))) / error

    lattice = Lattice.over(compute, error**-2, *START_LATTICE)
    c, b = _deepest_minima(lattice.sums_of_squares(rate - initial, np.asarray(A - initial)))
    starts = np.column_stack([np.log(lattice.B[b]), lattice.log_C_mid[c]])
    lower, upper = (np.array([np.log(B_limit), limit]) for B_limit, limit in zip(B_LIMITS, limits, strict=True))
    fit = multi_start(residuals, starts, (lower, upper))
    on_edge = np.minimum(fit.x - lower, upper - fit.x) < EDGE
    return SigmoidFit(
        A=A,
        B=float(np.exp(fit.x[0])),
        C_mid=float(np.exp(fit.x[1])),
        R_0=initial,
        sse=float(2 * fit.cost),
        points=len(compute),
        method=method,
        at_edge=tuple(name for name, edge in zip(("B", "C_mid"), on_edge, strict=True) if edge),
    )


def midpoint_limit(
    compute: ArrayLike, pass_rate: ArrayLike, initial: float, standard_error: ArrayLike, confidence: float
) -> float:
    """One-sided upper confidence limit of C_mid by profile likelihood over A and B, R_0 fixed.

    Scatter beyond the standard errors widens it. Rounded up to the grid of :func:`fit_grid`; infinite if the
    data do not bound C_mid within that grid, NaN if there are too few points.
    """
    compute, rate, error = _after_start(compute, pass_rate, standard_error)
    if unfittable(len(compute), initial):
        return np.nan
    lattice = Lattice.over(compute, error**-2, C_MID_VALUES, B_VALUES)
    profile = lattice.profile(rate - initial, 1 - initial)[1].min(axis=1)
    dispersion = max(1.0, profile.min() / (len(compute) - 3))
    chi_squared = 2 * gammaincinv(0.5, 2 * confidence - 1)  # one degree of freedom
    allowed = profile <= profile.min() + dispersion * chi_squared
    return np.inf if allowed[-1] else float(np.exp(lattice.log_C_mid[allowed.nonzero()[0][-1] + 1]))
