"""The top singular triples of a large matrix, with an error that is computed and not hoped for.

A random block is multiplied by ``W`` and ``W^T`` in turn and all products are kept (a randomised block Krylov space;
Halko, Martinsson and Tropp 2011, Musco and Musco 2015). Plain subspace iteration keeps the last product only and costs
the same; at rank k of a weight matrix the singular values lie close together, and there the Krylov space is ahead by
orders of magnitude. With full reorthogonalisation (block Golub-Kahan) the projected matrix and the residuals come
without further products: ``W v_i = s_i u_i`` holds, and ``W^T u_i - s_i v_i = r_i`` is known.

Products are float32, the projected problem and the final bases float64.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rlscape.geometry.masks import SVD

BLOCK = 32
"""Columns per product, at least; half of the rank if that is more."""
STEPS = 12
"""Products with ``W`` and with ``W^T``."""
MORE_STEPS, MAX_STEPS = 4, 24
"""Added while the subspaces are less certain than :data:`TARGET`, and where that ends."""
TARGET = 0.1
"""Degrees."""
MOST_PROJECTIONS = 6
ROUNDING = 4 * torch.finfo(torch.float32).eps
"""Rounding of the products over the largest singular value, found by comparison with float64."""


class TopSVD(NamedTuple):
    """Approximate top-k singular triples of ``W [m, n]`` and bounds on their error."""

    U: Tensor
    """``[m, k]``, float64, orthonormal"""
    S: Tensor
    """``[k]``, descending, never above the true values (but for float32 rounding)"""
    Vh: Tensor
    """``[k, n]``, float64, orthonormal"""
    residuals: Tensor
    """``[k]``: ``|W^T u_i - s_i v_i| / s_i``; a singular value lies within this share of ``s_i``."""
    angle_error: float
    """Bound on the largest angle between these left or right subspaces and the true ones, degrees; 90: the gap below
    ``s_k`` is too small for the subspace to be determined."""
    mean_angle_error: float
    """Bound on the mean of the k angles, degrees."""
    gap: float
    """``1 - s_{k+1} / s_k``"""


def block_size(rank: int) -> int:
    """Columns of the random block."""
    return max(BLOCK, -(-rank // 2))


def fits(shape: tuple[int, int], rank: int) -> bool:
    """Whether the Krylov space is smaller than the matrix; if not, take the exact SVD."""
    return STEPS * block_size(rank) <= min(shape)


def _orthonormalise(block: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``block = basis @ inside + new @ triangular`` with ``new`` orthonormal and orthogonal to ``basis``.

    Twice is enough for a block that has something outside the basis; where only rounding is left of it, as in a Krylov
    space that is exhausted, the directions are arbitrary and take more.
    """
    inside = basis.T @ block
    new, triangular = torch.linalg.qr(block - basis @ inside)
    for _ in range(MOST_PROJECTIONS):
        again = basis.T @ new
        new, factor = torch.linalg.qr(new - basis @ again)
        inside, triangular = inside + again @ triangular, factor @ triangular
        if factor.diagonal().abs().min() > 0.9:
            break
    return new, inside, triangular


def top_svd(weights: Tensor, rank: int, seed: int = 0) -> TopSVD:
    """The ``rank`` largest singular triples of ``weights [m, n]`` (float32), and how wrong they can be.

    Error of the subspaces: for a unit ``v_i`` with ``W v_i = s_i u_i`` and ``W^T u_i = s_i v_i + r_i``, the part of
    ``v_i`` outside the true right subspace is at most ``|r_i| s_i / (s_i^2 - sigma_{k+1}^2)``, and that of ``u_i``
    is smaller; their root sum of squares bounds the sine of the largest angle. ``sigma_{k+1}`` is taken as
    ``s_{k+1} + |r_{k+1}|``, so the bound holds unless the random block missed a singular vector altogether, which has
    probability zero and does not happen after several steps.

    Raises:
        ValueError: the matrix is too small for it, see :func:`fits`.
    """
    m, n = weights.shape
    if not fits((m, n), rank):
        raise ValueError(f"rank {rank} of a {m} x {n} matrix needs the exact SVD")
    block = block_size(rank)
    steps = min(MAX_STEPS, min(m, n) // block)
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(m, steps * block)
    right = torch.empty(n, (steps + 1) * block)
    projected = torch.zeros(steps * block, steps * block, dtype=torch.float64)
    right[:, :block] = torch.linalg.qr(torch.randn(n, block, generator=generator)).Q
    for step in range(1, steps + 1):
        start, stop = (step - 1) * block, step * block
        left[:, start:stop], inside, triangular = _orthonormalise(weights @ right[:, start:stop], left[:, :start])
        projected[:start, start:stop] = inside
        projected[start:stop, start:stop] = triangular
        new, _, last = _orthonormalise(weights.T @ left[:, start:stop], right[:, :stop])
        right[:, stop : stop + block] = new
        if step == steps or (step >= STEPS and (step - STEPS) % MORE_STEPS == 0):
            result = _ritz(left[:, :stop], right[:, :stop], projected[:stop, :stop], last.double(), rank)
            if result.angle_error <= TARGET:
                break
    return result


def _ritz(left: Tensor, right: Tensor, projected: Tensor, last: Tensor, rank: int) -> TopSVD:
    """The triples in a Krylov space: ``W right = left projected`` and ``W^T left = right projected^T + new last E^T``.

    Args:
        left, right: ``[m, d]`` and ``[n, d]``, orthonormal columns.
        projected: ``[d, d]``.
        last: ``[b, b]``; acts on the last block of ``left``.
    """
    P, S, Qh = torch.linalg.svd(projected)
    P, Q = P[:, : rank + 1], Qh[: rank + 1].T
    residuals = torch.linalg.vector_norm(last @ P[-len(last) :], dim=0) + ROUNDING * S[0]
    beyond = S[rank] + residuals[rank]
    top, residuals = S[:rank], residuals[:rank]
    outside = torch.where(top > beyond, residuals * top / (top.square() - beyond.square()), torch.inf)
    sine = outside.norm().item()
    return TopSVD(
        _orthonormal(left @ P[:, :rank].float()),
        top,
        _orthonormal(right @ Q[:, :rank].float()).T,
        residuals / top,
        math.degrees(math.asin(min(1.0, sine))),
        math.degrees(math.asin(min(1.0, sine / math.sqrt(rank)))),
        (1 - S[rank] / S[rank - 1]).item(),
    )


def _orthonormal(vectors: Tensor) -> Tensor:
    """Float32 columns that are orthonormal up to rounding, as float64 ones that are orthonormal in float64."""
    q, r = torch.linalg.qr(vectors.double())
    return q * r.diagonal().sign()


def exact_svd(weights: Tensor, rank: int) -> tuple[TopSVD, Tensor]:
    """The same from a float64 SVD, and all singular values ``[min(m, n)]``.

    Its error is that of float64, about ``1e-16 s_1 / gap``, and is given as such.
    """
    whole = SVD(*torch.linalg.svd(weights.double(), full_matrices=False))
    S = whole.S
    below = S[rank] if rank < len(S) else S.new_zeros(())
    rounding = torch.finfo(torch.float64).eps * S[0].item()
    gap = (S[rank - 1] - below).item()
    error = math.degrees(math.asin(min(1.0, rounding / gap))) if gap > 0 else 90.0
    return TopSVD(
        whole.U[:, :rank],
        S[:rank],
        whole.Vh[:rank],
        rounding / S[:rank],
        error,
        error,
        (1 - below / S[rank - 1]).item(),
    ), S
