"""Nulls on the bf16 grid: what rounding alone does to an update that has no preference but magnitude.

A bin holds the weights of one bf16 magnitude (15 bits, at most 32,640 bins). Whether an isotropic update changes a
bf16-stored weight depends on that magnitude alone, so within a bin the changed entries are exchangeable: the overlap of
the update mask with any fixed mask is a sum of hypergeometric numbers, with mean and variance in closed form and
nothing to draw. This is :func:`rlscape.geometry.nulls.binned_permutation` with the finest bins there are, on counts.
Where weights are stored more finely than bf16, a bin spans 2^-8 of their magnitude, and the same holds to that
precision.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc, betaincc, betainccinv, betaincinv, ndtr, ndtri
from torch import Tensor

from rlscape.geometry.nulls import CONFIDENCE, Null

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

BINS = 1 << 15
MAGNITUDE = BINS - 1
"""The bits of a bf16 number but its sign."""
NOT_FINITE = 0x7F80
"""The first bin of infinities and NaN."""
LEAST_VARIANCE = 9.0
"""Of an overlap's count; below it a normal approximation would be a guess, and no p-value is given."""


def bf16_bits(weights: Tensor) -> Tensor:
    """The bits of the bf16 values of weights of any dtype, int16 of their shape."""
    return weights.to(torch.bfloat16).view(torch.int16)


def bins_of(bits: Tensor) -> Tensor:
    """The magnitude bin of bf16 bits, int32."""
    return (bits & MAGNITUDE).to(torch.int32)


def magnitudes() -> Floats:
    """The value of every bin that is finite, ``[32640]``."""
    return torch.arange(NOT_FINITE, dtype=torch.int16).view(torch.bfloat16).double().numpy()


class Tested(NamedTuple):
    """A statistic's null and the two-sided p-value of what was found (NaN: nothing to test)."""

    null: Null
    p: float


def against_normal(value: float, mean: float, deviation: float, testable: bool = True) -> Tested:
    """Against a normal null; a deviation of zero leaves nothing to test."""
    margin = float(ndtri((1 + CONFIDENCE) / 2)) * deviation
    p = float(2 * ndtr(-abs(value - mean) / deviation)) if testable and deviation > 0 else np.nan
    return Tested(Null(mean, mean - margin, mean + margin), p)


def against_beta(value: float, mean: float, variance: float) -> Tested:
    """Of a share against a Beta distribution with this mean and variance."""
    if not 0 < mean < 1 or variance <= 0:
        return Tested(Null(mean, mean, mean), np.nan)
    concentration = mean * (1 - mean) / variance - 1
    a, b = mean * concentration, (1 - mean) * concentration
    low, high = betaincinv(a, b, (1 - CONFIDENCE) / 2), betainccinv(a, b, (1 - CONFIDENCE) / 2)
    p = min(1.0, 2 * float(min(betainc(a, b, value), betaincc(a, b, value))))
    return Tested(Null(mean, float(low), float(high)), p)


@dataclass(frozen=True)
class Grid:
    """The weights of one tensor by bf16 magnitude."""

    size: Counts
    """Entries per bin, ``[32640]``."""
    on_lattice: bool
    """Every weight is a bf16 number."""

    @cached_property
    def occupied(self) -> NDArray[np.intp]:
        return np.flatnonzero(self.size)

    @cached_property
    def boundaries(self) -> tuple[Floats, Floats]:
        """Distance from a bin's value to where rounding ends up in the next bin above, and below."""
        value = np.append(magnitudes(), 2.0**128)
        above = value[self.occupied + 1] - value[self.occupied]
        below = np.where(self.occupied > 0, value[self.occupied] - value[self.occupied - 1], above)
        return above / 2, below / 2

    def change_probability(self, scale: float) -> Floats:
        """Of a weight of every occupied bin under an isotropic update with this RMS, ``[occupied]``.

        Weights off the lattice lie anywhere in their cell with equal probability.
        """
        above, below = self.boundaries
        if self.on_lattice:
            return ndtr(-above / scale) + ndtr(-below / scale)
        z = (above + below) / scale
        return 2 * (ndtr(-z) + (1 - np.exp(-(z**2) / 2)) / (z * np.sqrt(2 * np.pi)))

    def rounded_energy(self, scale: float) -> Floats:
        """The mean square of such an update after the sum was rounded to bf16, ``[occupied]``; weights on the lattice.

        A change of j steps needs an update beyond ``j - 1/2`` of them: ``sum_j (2j - 1) P(beyond) step^2``. Of steps
        far below the update only their rounding noise, ``step^2 / 12``, is felt.
        """
        energy = np.zeros(len(self.occupied))
        for boundary in self.boundaries:
            step = 2 * boundary
            coarse = step > scale / 3
            ratio = step[coarse, None] / scale
            j = np.arange(1, 26)
            energy[coarse] += step[coarse] ** 2 * ((2 * j - 1) * ndtr(-(j - 0.5) * ratio)).sum(1)
            energy[~coarse] += (scale**2 + step[~coarse] ** 2 / 12) / 2
        return energy

    def _scale_at(self, target: float, total: Callable[[float], float]) -> float:
        """The scale at which a total that grows with it reaches its target; infinite if it never does."""
        largest = np.log(max(magnitudes()[self.occupied[-1]], 1e-30))
        if total(np.exp(largest + 40)) < target:
            return np.inf
        return float(np.exp(brentq(lambda log: total(np.exp(log)) - target, largest - 80, largest + 40, xtol=1e-7)))

    def scale_of_density(self, changed: int) -> float:
        """RMS of the isotropic update that changes this many entries on average."""
        size = self.size[self.occupied]
        return self._scale_at(changed, lambda scale: float(size @ self.change_probability(scale)))

    def scale_of_rounded(self, energy: float) -> float:
        """RMS of the isotropic update whose rounded form has this total energy on average."""
        size = self.size[self.occupied]
        return self._scale_at(energy, lambda scale: float(size @ self.rounded_energy(scale)))

    def expected_sparsity(self, scale: float) -> float:
        """Share of entries that an isotropic update with this RMS leaves unchanged in bf16."""
        size = self.size[self.occupied]
        return 1 - float(size @ self.change_probability(scale)) / float(size.sum()) if scale > 0 else 1.0

    def binned_overlap(self, inside: Counts, changed: Counts, both: int) -> Tested:
        """Overlap of the update mask with a fixed mask if the changed entries are permuted within each bin.

        Args:
            inside, changed: entries of the mask and of the update per bin, ``[32640]``.
            both: entries in both masks.

        A mask made of whole bins, as that of low magnitude is, keeps its overlap: there the null says nothing (NaN).
        """
        mean, variance = shared_entries(self.size, inside, changed)
        total = changed.sum()
        if not total:
            return Tested(Null(np.nan, np.nan, np.nan), np.nan)
        return against_normal(both / total, mean / total, variance**0.5 / total, variance >= LEAST_VARIANCE)

    def isotropic_overlap(self, inside: Counts, changed: int, both: int) -> Tested:
        """Overlap of the update mask with a fixed mask under an isotropic update that is as dense.

        The mean is that of a Gaussian update at the scale that changes as many entries; entries change independently,
        and the variance is what is left of theirs once their number is given.
        """
        if not changed:
            return Tested(Null(np.nan, np.nan, np.nan), np.nan)
        size, inside = self.size[self.occupied], inside[self.occupied]
        scale = self.scale_of_density(changed)
        if np.isinf(scale):
            return against_normal(both / changed, inside.sum() / size.sum(), 0.0)
        p = self.change_probability(scale)
        growth = self.change_probability(1.001 * scale) - p
        marginal = float(inside @ growth) / max(float(size @ growth), 1e-300)
        spread = p * (1 - p)
        variance = (1 - marginal) ** 2 * float(inside @ spread) + marginal**2 * float((size - inside) @ spread)
        return against_normal(
            both / changed, float(inside @ p) / changed, variance**0.5 / changed, variance >= LEAST_VARIANCE
        )


def shared_entries(size: Counts, first: Counts, second: Counts) -> tuple[float, float]:
    """Mean and variance of the entries that two masks share, if one of them is permuted within each bin.

    Args:
        size, first, second: entries of the tensor and of the masks per bin, of one shape.
    """
    held = size > 0
    n, a, b = (counts[held].astype(float) for counts in (size, first, second))
    variance = a * (n - a) / n * b * (n - b) / n / np.maximum(n - 1, 1)
    return float((a * b / n).sum()), float(variance.sum())


def holm(p: Floats) -> Floats:
    """Holm's adjusted p-values: below 0.05 is a finding with at most 5% risk of any false one; NaN stays NaN."""
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted
