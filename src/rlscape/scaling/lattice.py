"""The sum of squares of the sigmoid (P1, Eq 1) over a lattice of (C_mid, B), for any A at once.

With s the saturation ``1 / (1 + (C_mid / C)^B)`` and r the rise above R_0, the weighted sum of squares is
``sum w r^2 - 2 (A - R_0) sum w r s + (A - R_0)^2 sum w s^2``: quadratic in A - R_0, which is thus known in
closed form at every lattice point.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit

from rlscape.scaling.sigmoid import FloatArray, log_compute

B_LIMITS = (0.2, 10.0)
C_MID_MARGIN = 10.0
"""C_mid ranges from the first compute divided by this to the last multiplied by it."""


def log_C_mid_limits(compute: FloatArray) -> tuple[float, float]:
    """Lowest and highest log C_mid for data at these (positive) compute values."""
    return float(np.log(compute.min() / C_MID_MARGIN)), float(np.log(compute.max() * C_MID_MARGIN))


@dataclass(frozen=True)
class Lattice:
    """Log-spaced C_mid (c,) and B (b,), and what the sums of squares at n points of compute need."""

    log_C_mid: FloatArray
    B: FloatArray
    weights: FloatArray
    weighted_saturation: FloatArray
    """(c, b, n), w s."""
    square: FloatArray
    """(c, b), sum w s^2."""

    @classmethod
    def over(cls, compute: FloatArray, weights: FloatArray, C_mid_values: int, B_values: int) -> Self:
        """A lattice for positive compute (n,) with weights (n,)."""
        log_C_mid = np.linspace(*log_C_mid_limits(compute), C_mid_values)
        B = np.geomspace(*B_LIMITS, B_values)
        saturation = expit(B[None, :, None] * (log_compute(compute) - log_C_mid[:, None, None]))
        weighted = weights * saturation
        return cls(log_C_mid, B, weights, weighted, (weighted * saturation).sum(axis=-1))

    def sums_of_squares(self, rise: FloatArray, gain: FloatArray) -> FloatArray:
        """For a rise (n,) and gains A - R_0 that broadcast against (c, b)."""
        total = self.weights @ rise**2
        return total - 2 * gain * (self.weighted_saturation @ rise) + gain**2 * self.square

    def profile(self, rise: FloatArray, largest_gain: float) -> tuple[FloatArray, FloatArray]:
        """The best gain in [0, largest_gain] and its sum of squares, each (c, b)."""
        gain = np.clip(self.weighted_saturation @ rise / self.square, 0, largest_gain)
        return gain, self.sums_of_squares(rise, gain)
