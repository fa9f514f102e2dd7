"""The sigmoid (P1, Eq 1) with R_0 free, and likelihood intervals of anything that follows from it.

With s the saturation ``1 / (1 + (C_mid / C)^B)`` the curve is ``R_0 (1 - s) + A s``: linear in (R_0, A) once C_mid and
B are given. Over a lattice of (C_mid, B) the sum of squares is therefore a quadratic of (R_0, A), and the values that
any linear function of (R_0, A) takes where the sum of squares stays below a threshold are known in closed form at
every lattice point. A is the curve at infinite compute, R_0 the curve at zero compute, and the curve at any compute
and its change between two computes are such functions too: their profile-likelihood intervals are the extremes over
the lattice. The limits ``0 <= R_0 <= A <= 1`` hold throughout.

Paper: a grid over A and C_mid, no intervals within a run. Here: the lattice closes in on the region that the data
allow, each value of C_mid with its own range of B, so that it is fine where the likelihood is narrow. A percentile
bootstrap would cover too little: the estimate of A is skewed where the data end early.

The threshold is ``SSE_min + noise t^2``, with Student's t for n - parameters degrees of freedom and noise the larger
of the binomial variance and the residuals' (or the residuals', if no samples are known), times an inflation where
residuals are not independent.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation
from scipy.special import expit, stdtrit

from rlscape.scaling.lattice import B_LIMITS, log_C_mid_limits
from rlscape.scaling.sigmoid import FloatArray, log_compute, sigmoid
from rlscape.scaling.sigmoid_fit import SigmoidFit

LATTICES = ((48, 36), (56, 48), (64, 56))
"""Values of C_mid and of B, from the whole range to the region that the data allow."""
SLACK = (6.0, 3.0, 1.0)
"""How far beyond the threshold (as multiples of it) a lattice's points are kept for the next one."""
ROUNDING = 1e-6
"""Least standard error of a point: logs have few digits."""
MARGIN = 2
"""Lattice points by which the kept region is widened."""


@dataclass(frozen=True)
class Points:
    """Evaluations of one or several runs on the scale from 0 to 1; the compute may be zero and may repeat."""

    compute: FloatArray
    """(n,)"""
    rate: FloatArray
    """(n,)"""
    weights: FloatArray
    """(n,), inverse variances; up to a common factor if these are not known."""
    known_noise: bool
    """Whether the weights are inverse variances and not only in proportion to them."""

    def __len__(self) -> int:
        return len(self.compute)

    def where(self, kept: NDArray[np.bool_]) -> Self:
        """Some of the points."""
        return type(self)(self.compute[kept], self.rate[kept], self.weights[kept], self.known_noise)


def quantile(confidence: float, degrees: float) -> float:
    """Student's t at two-sided ``confidence``."""
    return float(stdtrit(degrees, (1 + confidence) / 2))


def noise_level(sse: float, degrees: int, points: Points) -> float:
    """The variance of a point of weight 1: from the residuals, at least 1 if the weights are inverse variances."""
    return max(1.0 if points.known_noise else ROUNDING**2 * float(points.weights.mean()), sse / degrees)


Pair = tuple[float, float]
"""(R_0, A) or a step in it."""


class _Quadratic:
    """Sums of squares as quadratics of (R_0, A) over a lattice (c, b), and the feasible set of (R_0, A)."""

    def __init__(self, log_C_mid: FloatArray, log_B: FloatArray, points: Points, initial: float | None) -> None:
        s = expit(np.exp(log_B)[..., None] * (log_compute(points.compute) - log_C_mid[:, None, None]))  # (c, b, n)
        w = points.weights
        self.centre = float(w @ points.rate / w.sum())  # of what follows, for precision
        y = points.rate - self.centre
        wy = w * y
        self.total = float(wy @ y)
        all_, first, second = w.sum(), s @ w, (s * s) @ w
        self.rr, self.ra, self.aa = all_ - 2 * first + second, first - second, second
        self.flat = 1e-14 * all_
        self.ya = s @ wy
        self.yr = wy.sum() - self.ya
        low, high = -self.centre, 1 - self.centre
        self.edges: list[tuple[Pair, Pair]]
        if initial is not None:
            known = initial - self.centre
            self.edges = [((known, known), (0.0, high - known))]
        else:
            self.edges = [
                ((low, low), (high - low, high - low)),  # A = R_0
                ((low, low), (0.0, high - low)),  # R_0 = 0
                ((low, high), (high - low, 0.0)),  # A = 1
            ]
        self.interior = initial is None
        determinant = self.rr * self.aa - self.ra**2
        regular = (determinant > 1e-10 * self.rr * self.aa) & (np.minimum(self.rr, self.aa) > 1e-10 * all_)
        determinant = np.where(regular, determinant, np.nan)
        self.inverse = self.aa / determinant, -self.ra / determinant, self.rr / determinant
        i_rr, i_ra, i_aa = self.inverse
        self.free = i_rr * self.yr + i_ra * self.ya, i_ra * self.yr + i_aa * self.ya
        self.free_sse = self.total - self.free[0] * self.yr - self.free[1] * self.ya
        self.sse, self.best = self._minimum()

    def _feasible(self, start: FloatArray, ceiling: FloatArray) -> NDArray[np.bool_]:
        return (start >= -self.centre) & (ceiling <= 1 - self.centre) & (start <= ceiling) & self.interior

    def _along(self, origin: Pair, step: Pair) -> tuple[FloatArray, FloatArray, FloatArray]:
        """On ``origin + t step``: the best t, the sum of squares there, and the curvature; each (c, b)."""
        (r, a), (dr, da) = origin, step
        slope_r = self.rr * r + self.ra * a - self.yr
        slope_a = self.ra * r + self.aa * a - self.ya
        here = self.total + r * (slope_r - self.yr) + a * (slope_a - self.ya)
        curvature = np.maximum(dr * dr * self.rr + 2 * dr * da * self.ra + da * da * self.aa, self.flat)
        slope = dr * slope_r + da * slope_a
        return -slope / curvature, here - slope**2 / curvature, curvature

    def _minimum(self) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        sse = np.where(self._feasible(*self.free), self.free_sse, np.inf)
        start, ceiling = self.free
        for origin, step in self.edges:
            t, least, curvature = self._along(origin, step)
            clipped = np.clip(t, 0, 1)
            at = least + curvature * (clipped - t) ** 2
            better = at < sse
            sse = np.where(better, at, sse)
            start = np.where(better, origin[0] + clipped * step[0], start)
            ceiling = np.where(better, origin[1] + clipped * step[1], ceiling)
        return np.maximum(sse, 0), (start + self.centre, ceiling + self.centre)

    def extremes(self, of_start: FloatArray, of_ceiling: FloatArray, threshold: float) -> tuple[float, float]:
        """The least and largest ``of_start R_0 + of_ceiling A`` where the sum of squares is within a threshold."""
        found = []
        for origin, step in self.edges:
            t, least, curvature = self._along(origin, step)
            with np.errstate(invalid="ignore"):
                half = np.sqrt((threshold - least) / curvature)
            met = (t + half >= 0) & (t - half <= 1)
            for end in (t - half, t + half):
                inside = np.clip(end, 0, 1)
                found.append((origin[0] + inside * step[0], origin[1] + inside * step[1], met))
        i_rr, i_ra, i_aa = self.inverse
        to_start, to_ceiling = i_rr * of_start + i_ra * of_ceiling, i_ra * of_start + i_aa * of_ceiling
        spread = of_start * to_start + of_ceiling * to_ceiling
        slack = threshold - self.free_sse
        with np.errstate(invalid="ignore", divide="ignore"):
            length = np.sqrt(np.where((spread == 0) & (slack >= 0), 0, slack / spread))
        for sign in (-1, 1):
            start = self.free[0] + sign * length * to_start
            ceiling = self.free[1] + sign * length * to_ceiling
            found.append((start, ceiling, self._feasible(start, ceiling)))
        values = [
            (of_start * (start + self.centre) + of_ceiling * (ceiling + self.centre))[met]
            for start, ceiling, met in found
        ]
        all_values = np.concatenate(values)
        return (float(all_values.min()), float(all_values.max())) if len(all_values) else (np.nan, np.nan)


@dataclass(frozen=True)
class Profile:
    """A fit, and the likelihood of everything around it; made by :meth:`of`."""

    points: Points
    initial: float | None
    """R_0 if it is known."""
    noise: float
    """Variance of a point of weight 1, inflation included."""
    degrees: int
    """Points less parameters."""
    log_C_mid: FloatArray
    """(c,)"""
    log_B: FloatArray
    """(c, b)"""
    fit: SigmoidFit
    """The best of the lattice."""
    _quadratic: _Quadratic

    @classmethod
    def of(cls, points: Points, initial: float | None, confidence: float, inflation: float = 1.0) -> Self:
        """Fit (C_mid, B, A) and, unless it is known, R_0.

        Args:
            points: more than there are parameters, two of them at different positive compute.
            confidence: the largest at which limits will be asked for.
            inflation: factor on the variance for residuals that are not independent.
        """
        degrees = len(points) - (4 if initial is None else 3)
        positive = points.compute[points.compute > 0]
        rows, columns = LATTICES[0]
        log_C_mid = np.linspace(*log_C_mid_limits(positive), rows)
        log_B = np.tile(np.log(np.geomspace(*B_LIMITS, columns)), (rows, 1))
        allowance = inflation * quantile(confidence, degrees) ** 2
        for (rows, columns), slack in zip((*LATTICES[1:], (0, 0)), SLACK, strict=True):
            quadratic = _Quadratic(log_C_mid, log_B, points, initial)
            least = float(quadratic.sse.min())
            noise = noise_level(least, degrees, points)
            if rows:
                kept = quadratic.sse <= least + slack * noise * allowance
                log_C_mid, log_B = _closer(log_C_mid, log_B, kept, rows, columns)
        c, b = np.unravel_index(quadratic.sse.argmin(), quadratic.sse.shape)
        start, ceiling = (float(values[c, b]) for values in quadratic.best)
        rises = ceiling > start
        fit = SigmoidFit(
            A=ceiling,
            B=float(np.exp(log_B[c, b])) if rises else np.nan,
            C_mid=float(np.exp(log_C_mid[c])) if rises else np.nan,
            R_0=start,
            sse=least,
            points=len(points),
            method="profile",
            reason="" if rises else "no rise",
        )
        return cls(points, initial, noise * inflation, degrees, log_C_mid, log_B, fit, quadratic)

    def threshold(self, confidence: float) -> float:
        """The largest sum of squares inside the interval."""
        return self.fit.sse + self.noise * quantile(confidence, self.degrees) ** 2

    def _saturation(self, compute: float) -> FloatArray:
        return expit(np.exp(self.log_B) * (log_compute(compute) - self.log_C_mid[:, None]))

    def curve(self, compute: float, confidence: float) -> tuple[float, float]:
        """Limits of the curve at a compute; at zero those of R_0, at infinity those of A."""
        s = self._saturation(compute)
        return self._quadratic.extremes(1 - s, s, self.threshold(confidence))

    def change(self, first: float, second: float, confidence: float) -> tuple[float, float]:
        """Limits of the curve at the second compute less that at the first."""
        gain = self._saturation(second) - self._saturation(first)
        return self._quadratic.extremes(-gain, gain, self.threshold(confidence))

    def C_mid(self, confidence: float) -> tuple[float, float]:
        """Limits of C_mid; 0 or infinite where the data set none within the range that is searched."""
        low, high = _range(
            self.log_C_mid[:, None], self._quadratic.sse.min(axis=1)[:, None], self.threshold(confidence)
        )
        lowest, highest = log_C_mid_limits(self.points.compute[self.points.compute > 0])
        return _open_ended(low, high, lowest, highest)

    def B(self, confidence: float) -> tuple[float, float]:
        """Limits of B; 0 or infinite where the data set none within the range that is searched."""
        low, high = _range(self.log_B.T, self._quadratic.sse.T, self.threshold(confidence))
        return _open_ended(low, high, *np.log(B_LIMITS))

    def residuals(self) -> FloatArray:
        """(n,), each in units of its standard error up to a common factor."""
        return (self.points.rate - predict(self.fit, self.points.compute)) * np.sqrt(self.points.weights)


def predict(fit: SigmoidFit, compute: ArrayLike) -> FloatArray:
    """The curve of a fit at any compute, zero and infinity included."""
    if fit.reason:
        return np.full(np.shape(compute), fit.R_0)
    return sigmoid(compute, fit.A, fit.B, fit.C_mid, fit.R_0)


def _closer(
    log_C_mid: FloatArray, log_B: FloatArray, kept: NDArray[np.bool_], rows: int, columns: int
) -> tuple[FloatArray, FloatArray]:
    """A lattice over the kept points of another and a margin around them, each row with its own range of B."""
    kept = binary_dilation(kept, np.ones((3, 3)), iterations=MARGIN)
    inside = np.flatnonzero(kept.any(axis=1))
    first = np.array([log_B[row, kept[row].argmax()] for row in inside])
    last = np.array([log_B[row, -1 - kept[row, ::-1].argmax()] for row in inside])
    closer = np.linspace(log_C_mid[inside[0]], log_C_mid[inside[-1]], rows)
    low, high = (np.interp(closer, log_C_mid[inside], ends) for ends in (first, last))
    return closer, np.linspace(low, high, columns, axis=1)


def _range(values: FloatArray, sse: FloatArray, threshold: float) -> tuple[float, float]:
    """The least and largest value whose sum of squares is within a threshold.

    Args:
        values, sse: (k, m), values ascending along the first axis; interpolated between its neighbours.
    """
    values, sse = np.broadcast_arrays(values, sse)
    within = sse <= threshold
    low, high = values[within].min(), values[within].max()
    inner, outer = within[1:] & ~within[:-1], within[:-1] & ~within[1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        crossing = values[:-1] + (values[1:] - values[:-1]) * (threshold - sse[:-1]) / (sse[1:] - sse[:-1])
    low = min(low, crossing[inner].min(initial=np.inf))
    high = max(high, crossing[outer].max(initial=-np.inf))
    return float(low), float(high)


def _open_ended(low: float, high: float, lowest: float, highest: float) -> tuple[float, float]:
    """From the logarithm; a limit on the end of its range is none."""
    edge = 1e-6
    return (
        0.0 if low <= lowest + edge else float(np.exp(low)),
        np.inf if high >= highest - edge else float(np.exp(high)),
    )


@dataclass(frozen=True)
class Line:
    """A straight line in compute or in log compute, by weighted least squares."""

    level: float
    """At the weighted mean of z, the compute or its logarithm."""
    slope: float
    mean_z: float
    sse: float
    level_variance: float
    """Of a noise of 1; so is ``slope_variance``."""
    slope_variance: float
    on_log: bool

    @classmethod
    def through(cls, points: Points, on_log: bool) -> Self:
        """Two points or more, at positive compute if it is the logarithm's."""
        z, w = np.log(points.compute) if on_log else points.compute, points.weights
        mean_z, level = float(w @ z / w.sum()), float(w @ points.rate / w.sum())
        spread = float(w @ (z - mean_z) ** 2)
        slope = float(w @ ((z - mean_z) * (points.rate - level)) / spread)
        residuals = points.rate - level - slope * (z - mean_z)
        return cls(level, slope, mean_z, float(w @ residuals**2), float(1 / w.sum()), 1 / spread, on_log)

    def predict(self, compute: ArrayLike) -> FloatArray:
        """The line at each compute."""
        z = np.log(compute) if self.on_log else np.asarray(compute, dtype=float)
        return self.level + self.slope * (z - self.mean_z)
