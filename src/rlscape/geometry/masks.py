"""Coordinate masks of P2 (arXiv 2511.08567): which entries are principal, which are small.

All masks are bool ``[m, n]``. The complement of a mask is ``~mask``. An overlap's chance value is the
density of the mask it is taken with, not 1/2.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class SVD(NamedTuple):
    """Thin float64 SVD of ``W [m, n]`` with ``r = min(m, n)``: ``W = U diag(S) Vh``."""

    U: Tensor
    """``[m, r]``"""
    S: Tensor
    """``[r]``, descending"""
    Vh: Tensor
    """``[r, n]``"""


def svd(weights: Tensor) -> SVD:
    """Thin SVD in float64."""
    return SVD(*torch.linalg.svd(weights.double(), full_matrices=False))


def top_mask(scores: Tensor, density: float) -> Tensor:
    """The ``round(density * size)`` largest entries; ties go to the earlier entry."""
    order = scores.flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[order[: round(density * scores.numel())]] = True
    return mask.view_as(scores)


def principal_mask(base: SVD, rank: int, density: float) -> Tensor:
    """M_princ = Top_alpha of ``|W0^(k)|``, the best rank-k approximation of W0 (score: LIFT, 2506.00772).

    Args:
        base: SVD of W0 ``[m, n]``.
        rank: k.
        density: alpha.
    """
    approximation = (base.U[:, :rank] * base.S[:rank]) @ base.Vh[:rank]
    return top_mask(approximation.abs(), density)


def low_mask(base: Tensor, density: float) -> Tensor:
    """M_low = Bottom_alpha of ``|W0|``: the weights of smallest magnitude."""
    return top_mask(-base.abs(), density)


def safe_mask(principal: Tensor, low: Tensor) -> Tensor:
    """``M_low | ~M_princ``, the paper's safe mask (Tables 4 and 5)."""
    return low | ~principal


def density(mask: Tensor) -> float:
    """Share of entries in a mask."""
    return mask.double().mean().item()


def overlap(mask: Tensor, update: Tensor) -> float:
    """``|mask & update| / |update|`` (Figure 5); chance is the mask's density. NaN for an empty update."""
    return ((mask & update).sum().double() / update.sum()).item()


def energy_enrichment(mask: Tensor, update: Tensor) -> float:
    """Share of the fp32 update's energy inside a mask over the mask's density; 1 for isotropic updates.

    Needs no rounding, so a preference seen here is not made by bf16.
    """
    energy = update.double().square()
    return (energy[mask].sum() / energy.sum() / mask.double().mean()).item()


def jaccard(first: Tensor, second: Tensor) -> float:
    """``|A & B| / |A | B|`` of two update masks (Figure 12, Table 2)."""
    return ((first & second).sum().double() / (first | second).sum()).item()


def chance_jaccard(first: Tensor, second: Tensor) -> float:
    """J_0 = pq / (p + q - pq): the Jaccard index of independent masks with these densities p, q."""
    p, q = first.double().mean(), second.double().mean()
    return (p * q / (p + q - p * q)).item()


def phi(first: Tensor, second: Tensor) -> float:
    """Correlation of two masks, ``(p11 - pq) / sqrt(p (1 - p) q (1 - q))``; 0 if independent."""
    p, q = first.double().mean(), second.double().mean()
    both = (first & second).double().mean()
    return ((both - p * q) / (p * (1 - p) * q * (1 - q)).sqrt()).item()
