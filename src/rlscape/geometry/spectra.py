"""Spectra and principal subspaces before and after an update (P2, sections 2 and 3.2, Figure 4).

``W0, W+`` are ``[m, n]``; the principal subspaces are spanned by the top k singular vectors.
"""

import torch
from torch import Tensor

from rlscape.geometry.masks import SVD


def principal_angles(before: Tensor, after: Tensor) -> Tensor:
    """Angles between two subspaces, in radians, ascending, ``[k]``.

    Args:
        before, after: orthonormal bases ``[d, k]``, float64.

    Cosines are the singular values of ``before^T after``, sines those of ``(I - before before^T) after``;
    the arctangent of both is accurate at small angles, where an arccosine is not.
    """
    inner = before.T @ after
    cosines = torch.linalg.svdvals(inner)
    sines = torch.linalg.svdvals(after - before @ inner).flip(0)
    return torch.atan2(sines, cosines)


def nss(before: Tensor, after: Tensor) -> float:
    """Normalised spectral shift ``|sigma(W+) - sigma(W0)| / |sigma(W0)|`` of singular values ``[r]``.

    At most ``|dW|_F / |W0|_F`` (Mirsky).
    """
    return ((after - before).norm() / before.norm()).item()


def efficiency(before: Tensor, after: Tensor, update: Tensor) -> float:
    """e = ``|sigma(W+) - sigma(W0)| / |dW|_F`` in [0, 1]: the share of an update that moves the spectrum."""
    return ((after - before).norm() / update.norm()).item()


def subspace_energies(base: SVD, update: Tensor, rank: int) -> dict[str, float]:
    """Share of the update's energy in the top-k left and right subspaces of W0 and in both at once.

    ``<name>_chance`` is the expectation for any update that is randomly rotated: k/m, k/n, k^2/(mn).
    """
    m, n = update.shape
    left = base.U[:, :rank].T @ update
    right = update @ base.Vh[:rank].T
    both = left @ base.Vh[:rank].T
    total = update.square().sum()
    return {
        "energy_left": (left.square().sum() / total).item(),
        "energy_right": (right.square().sum() / total).item(),
        "energy_both": (both.square().sum() / total).item(),
        "energy_left_chance": rank / m,
        "energy_right_chance": rank / n,
        "energy_both_chance": rank**2 / (m * n),
    }


def bounds(before: Tensor, after: Tensor, update: Tensor, rank: int, sine: float) -> dict[str, float]:
    """Perturbation bounds beside what happened. Slacks (bound minus value) are never negative.

    Args:
        before, after: singular values ``[r]`` of W0 and W+.
        update: ``[m, n]``.
        sine: the sine of the largest principal angle, left or right, at this rank.

    Weyl and Mirsky (Cor 3.4): ``max |d sigma| <= |dW|_2`` and ``|d sigma|_2 <= |dW|_F``.
    Ky Fan (Cor 3.5), of the sums of the k largest singular values ``|.|_(k)``:
    ``sum_{i<=k} |d sigma_i| <= |dW|_(k)``, between the two sides that the paper prints, whose slack is
    ``k |dW|_2 - abs(|W+|_(k) - |W0|_(k))``.
    Wedin: ``sine <= |dW|_2 / (sigma_k(W+) - sigma_{k+1}(W0))`` while that gap is positive, else NaN;
    above 1 it says nothing. Paper (Thm 3.3): the denominator is ``gamma_k = sigma_k(W0) - sigma_{k+1}(W0)``,
    which can fail, so its ``wedin_printed_ratio`` (sine over bound; above 1 is a failure) is a report only.
    """
    of_update = torch.linalg.svdvals(update)
    spectral = of_update[0]
    shift = (after - before).abs()
    rest = before[rank] if rank < len(before) else before.new_zeros(())
    gap = after[rank - 1] - rest
    bound = spectral / gap if gap > 0 else torch.tensor(torch.nan)
    return {
        "weyl_slack": (spectral - shift.max()).item(),
        "mirsky_slack": (update.norm() - shift.norm()).item(),
        "kyfan_slack": (of_update[:rank].sum() - shift[:rank].sum()).item(),
        "kyfan_printed_slack": (rank * spectral - (after - before)[:rank].sum().abs()).item(),
        "wedin_bound": bound.item(),
        "wedin_slack": (bound - sine).item(),
        "wedin_printed_ratio": (sine * (before[rank - 1] - rest) / spectral).item(),
    }
