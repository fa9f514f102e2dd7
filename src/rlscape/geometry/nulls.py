"""What an update without any preference would show.

- isotropic: a Gaussian update of equal Frobenius norm, read in bf16 like the real one;
- shuffled: the update's own entries at random places. Which weights rounding lets change depends on how the entries
  are distributed: at equal density a constant ``|dW|`` meets small weights far more often than Gaussian entries do, and
  heavy tails meet them less often;
- spectrum: ``Q dW P`` with Haar-random Q, P, which keeps the update's singular values. Its entries are nearly Gaussian,
  so where entries are what counts (masks, overlaps, stripes) they are replaced by the update's own, rank by rank;
  for these, all three are scaled until as many entries change as in the real update (a denser update comes closer to
  chance, and at equal norm an update of Adam is denser than a Gaussian one);
- binned: the update permuted among weights of about equal magnitude, the strata of :func:`magnitude_strata`. bf16
  rounding hides small changes of large weights from any update; what this null shows too is magnitude and rounding,
  not direction.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtri, stdtrit
from torch import Tensor

from rlscape.geometry.sparsity import BF16_BITS, to_bf16
from rlscape.random_matrices import haar_frame, haar_orthogonal

CONFIDENCE = 0.95


class Null(NamedTuple):
    """A statistic under a null: its mean and the central 95% range of a single draw."""

    mean: float
    low: float
    high: float


def isotropic_update(update: Tensor, generator: torch.Generator) -> Tensor:
    """A Gaussian matrix of the update's shape and Frobenius norm."""
    noise = torch.randn(update.shape, dtype=torch.float64, generator=generator)
    return noise * (update.norm() / noise.norm())


def spectrum_matched_update(update: Tensor, generator: torch.Generator) -> Tensor:
    """``Q dW P`` with Haar-random Q ``[m, m]`` and P ``[n, n]``.

    Of the longer side's rotation only what meets the update is drawn: with ``dW = B R``, B's columns orthonormal,
    ``Q B`` is a random frame like any other.
    """
    m, n = update.shape
    if m < n:
        return spectrum_matched_update(update.T, generator).T
    core = torch.linalg.qr(update).R
    return haar_frame(m, n, generator) @ core @ haar_orthogonal(n, generator)


def shuffled_update(update: Tensor, generator: torch.Generator) -> Tensor:
    """The update's entries at places drawn at random from the whole matrix."""
    return update.flatten()[torch.randperm(update.numel(), generator=generator)].view_as(update)


def with_entries_of(update: Tensor, drawn: Tensor) -> Tensor:
    """``drawn`` with its k-th smallest entry replaced by the update's k-th smallest, for every k; both of one shape.

    The entries are exactly the update's, what has low rank in ``drawn`` remains so nearly.
    """
    placed = torch.empty_like(update.flatten())
    placed[drawn.flatten().argsort()] = update.flatten().sort().values
    return placed.view_as(update)


def from_draws(draws: np.ndarray) -> Null:
    """Mean of ``[draws]`` and the t-based prediction interval of one more; NaN bounds for one draw."""
    count, mean = len(draws), float(draws.mean())
    if count == 1:
        return Null(mean, np.nan, np.nan)
    quantile = stdtrit(count - 1, (1 + CONFIDENCE) / 2)
    margin = float(quantile * draws.std(ddof=1) * np.sqrt(1 + 1 / count))
    return Null(mean, mean - margin, mean + margin)


def magnitude_bins(base: Tensor, count: int) -> Tensor:
    """The quantile bin of ``|W0|`` of every entry, int64 of W0's shape; equal magnitudes share a bin."""
    magnitude = base.abs().double()
    ordered = magnitude.flatten().sort().values
    edges = ordered[torch.arange(1, count) * len(ordered) // count]
    return torch.searchsorted(edges, magnitude, right=True)


def magnitude_strata(base: Tensor, bits: int) -> Tensor:
    """The stratum of every entry, int64 of W0's shape: equal exponent and equal leading mantissa bits of ``|W0|``.

    Half a ULP, by which rounding hides a change or shows it, is one number for a whole binade (0 bits); 7 bits: one
    bf16 value. Quantile bins do not do: where 1% of the entries change, all of them lie in the lowest bin, inside
    which magnitude and rounding still decide.
    """
    leading = to_bf16(base.abs()).view(torch.int16) >> (BF16_BITS - bits)
    return leading.unique(return_inverse=True)[1]


def binned_permutation(values: Tensor, mask: Tensor, bins: Tensor) -> Null:
    """The sum of ``values`` inside ``mask`` when values are permuted at random within each bin; analytic.

    Mean: ``sum_b (sum of values in b) |mask & b| / |b|``, which for ``values = M / |M|`` is the expected
    overlap ``sum_b |M & b| / |M| * |mask & b| / |b|``. Variance: sampling without replacement.
    A mask made of whole bins, as M_low nearly is, keeps its overlap: there the null says nothing.

    Args:
        values, mask, bins: float, bool and int64, of one shape.
    """
    values, mask, bins = values.double().flatten(), mask.double().flatten(), bins.flatten()
    size = torch.bincount(bins).double()
    occupied = size > 0
    size = size[occupied]
    inside = torch.bincount(bins, mask)[occupied]
    mean = torch.bincount(bins, values)[occupied] / size
    spread = torch.bincount(bins, values.square())[occupied] / size - mean.square()
    variance = spread.clamp(min=0) * inside * (size - inside) / (size - 1).clamp(min=1)
    centre = (mean * inside).sum().item()
    margin = ndtri((1 + CONFIDENCE) / 2) * variance.sum().sqrt().item()
    return Null(centre, centre - margin, centre + margin)
