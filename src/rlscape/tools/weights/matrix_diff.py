"""One matrix against its base: what :mod:`rlscape.tools.weights.checkpoint_diff` does with each tensor.

W0 and W+ stay in their dtype of storage and are swept in chunks; only the SVD holds a float32 copy of one of them.
"""

from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlscape.geometry import spectra
from rlscape.geometry.sparsity import HALF_ULP, UpdateTotals
from rlscape.tools.weights.bf16_bins import MAGNITUDE, NOT_FINITE, Counts, Tested, against_beta, bf16_bits, bins_of
from rlscape.tools.weights.stored_base import StoredBase, chunks

MASKS = ("principal", "low", "principal_not_low")
SUBSPACES = ("left", "right", "both")


@dataclass
class Sums:
    """Of one sweep over W0 and W+."""

    totals: UpdateTotals
    rounded: bool
    """Every entry of W+ is a bf16 number."""
    counts: Counts
    """Entries by principal or not, changed or not, and bin: ``[2, 2, bins]``."""
    changed: Tensor
    """The update mask M."""
    fourth: float
    """Sum of the fourth powers of the update."""
    energy_by_bin: Tensor
    """``[bins]``"""
    energies: dict[str, float]
    """Of the update in the top-k subspaces of W0."""


def _compare(base: StoredBase, tuned: Tensor) -> Sums:
    """One sweep over a pair ``[m, n]``; subspaces and the principal mask only for a matrix."""
    m, n = tuned.shape
    bins = MAGNITUDE + 1
    changed = torch.empty(m, n, dtype=torch.bool)
    counts = torch.zeros(4 * bins, dtype=torch.int64)
    by_bin = torch.zeros(bins, dtype=torch.float64)
    energy = fourth = right_energy = 0.0
    bitwise = zeros = off_lattice = 0
    if base.is_matrix:
        U, V = base.svd.U.float(), base.svd.Vh.T.float().contiguous()
        left = torch.zeros(base.rank, n)
    for rows in chunks(tuned):
        before, after = base.weights[rows], tuned[rows]
        bits, new_bits = bf16_bits(before), bf16_bits(after)
        differs = bits != new_bits
        # Distinct bf16 values are further apart than the tolerance; only +0 and -0 differ in bits alone.
        changed[rows] = differs & (((bits | new_bits) & MAGNITUDE) != 0)
        bitwise += int(differs.count_nonzero())
        if after.dtype != torch.bfloat16:
            off_lattice += int((new_bits.view(torch.bfloat16) != after.float()).count_nonzero())
        magnitude = bins_of(bits).flatten()
        key = magnitude | (changed[rows].flatten().to(torch.int32) << 15)
        if base.is_matrix:
            key |= base.principal[rows].flatten().to(torch.int32) << 16
        counts += torch.bincount(key, minlength=4 * bins)
        update = after.float() - before.float()
        zeros += update.numel() - int(update.count_nonzero())
        square = update.flatten().double().square_()
        energy += float(square.sum())
        fourth += float(torch.dot(square, square))
        if base.is_matrix:
            by_bin += torch.bincount(magnitude, square, minlength=bins)
            left.addmm_(U[rows].T, update)
            right = (update @ V).flatten()
            right_energy += float(torch.dot(right, right))
    table = counts.view(2, 2, bins)[:, :, :NOT_FINITE].numpy()
    energies = dict.fromkeys(SUBSPACES, np.nan)
    if base.is_matrix and energy > 0:
        within = left @ V
        energies = {
            "left": float(left.double().square().sum()) / energy,
            "right": right_energy / energy,
            "both": float(within.double().square().sum()) / energy,
        }
    totals = UpdateTotals(
        parameters=m * n,
        unchanged=int(table[:, 0].sum()),
        unchanged_bitwise=m * n - bitwise,
        exact_zeros=zeros,
        off_lattice=base.off_lattice,
        update_energy=energy,
        base_energy=base.energy,
    )
    return Sums(totals, off_lattice == 0, table, changed, fourth, by_bin, energies)


def _unrounded_scale(base: StoredBase, sums: Sums) -> float:
    """RMS of the isotropic update that, if W+ was rounded to bf16, has the energy that is left after rounding."""
    if sums.rounded and base.grid.on_lattice and sums.totals.update_energy > 0:
        return base.grid.scale_of_rounded(sums.totals.update_energy)
    return sqrt(sums.totals.update_energy / sums.totals.parameters)


def _sparsity_columns(base: StoredBase, sums: Sums) -> dict[str, Any]:
    scale = _unrounded_scale(base, sums)
    rms = sqrt(base.energy / sums.totals.parameters)
    return (
        asdict(sums.totals)
        | sums.totals.summary()
        | {
            "x": scale / (HALF_ULP * rms) if rms else np.nan,
            "isotropic_sparsity": base.grid.expected_sparsity(scale),
        }
    )


def _test_columns(name: str, tested: Tested, null: str) -> dict[str, float]:
    mean, low, high = tested.null
    return {f"{name}_{null}": mean, f"{name}_{null}_low": low, f"{name}_{null}_high": high}


def _overlap_columns(base: StoredBase, sums: Sums) -> dict[str, float]:
    inside = {"principal": sums.counts[1], "low": sums.counts.sum(0), "principal_not_low": sums.counts[1]}
    keep = {"principal": np.ones_like(base.low), "low": base.low, "principal_not_low": ~base.low}
    changed, size = sums.counts[:, 1].sum(0), base.grid.size
    columns: dict[str, float] = {}
    for mask in MASKS:
        held = np.where(keep[mask], inside[mask], 0)
        per_bin, both = held.sum(0), int(held[1].sum())
        binned = base.grid.binned_overlap(per_bin, changed, both)
        isotropic = base.grid.isotropic_overlap(per_bin, int(changed.sum()), both)
        name = f"overlap_{mask}"
        columns |= {name: both / changed.sum() if changed.any() else np.nan}
        columns |= {f"{name}_chance": per_bin.sum() / size.sum()}
        columns |= _test_columns(name, binned, "binned") | _test_columns(name, isotropic, "isotropic")
        columns[f"{name}_p"] = isotropic.p if mask == "low" else binned.p
    return columns


def _energy_columns(base: StoredBase, sums: Sums) -> dict[str, float]:
    """Share of the update's energy in the top-k subspaces of W0, beside two expectations.

    Chance: k/m, k/n, k^2/(mn), that of any isotropic update that was not rounded. Binned: the update's entries permuted
    within each bin, with random signs. With ``a`` the diagonal of the projection that takes an update to its part
    (rank r among the N entries) and kurtosis K, a share varies by ``[(K - 1)(|a|^2 - r^2/N) + 2 (r - |a|^2)] / N^2``;
    at K = 3 that is the variance of the Beta distribution of Gaussian updates. The null is Beta with these two moments.
    """
    (m, n), k, energy = base.weights.shape, base.rank, sums.totals.update_energy
    chance = {"left": k / m, "right": k / n, "both": k * k / (m * n)}
    columns = {f"energy_{part}": value for part, value in sums.energies.items()}
    columns |= {f"energy_{part}_chance": value for part, value in chance.items()}
    if energy == 0:
        return columns
    of_rows = base.svd.U.square().sum(1)
    of_columns = base.svd.Vh.square().sum(0)
    mean_square = sums.energy_by_bin[:NOT_FINITE] / torch.from_numpy(base.grid.size).clamp(min=1)
    weights = torch.stack((torch.ones(n), of_columns.float()), dim=1)
    scale = energy / (m * n)
    lookup = (mean_square / scale).float()
    per_row = torch.empty(m, 2, dtype=torch.float64)
    for rows in chunks(base.weights):
        magnitude = bins_of(bf16_bits(base.weights[rows]))
        per_row[rows] = (lookup.index_select(0, magnitude.flatten()).view(magnitude.shape) @ weights).double()
    total = per_row[:, 0].sum()
    mean = {
        "left": float(of_rows @ per_row[:, 0] / total),
        "right": float(per_row[:, 1].sum() / total),
        "both": float(of_rows @ per_row[:, 1] / total),
    }
    row_squares, column_squares = float(of_rows.square().sum()), float(of_columns.square().sum())
    ranks = {"left": k * n, "right": k * m, "both": k * k}
    squares = {"left": n * row_squares, "right": m * column_squares, "both": row_squares * column_squares}
    size = m * n
    kurtosis = size * sums.fourth / energy**2
    for part in SUBSPACES:
        r, a = ranks[part], squares[part]
        variance = ((kurtosis - 1) * max(a - r * r / size, 0) + 2 * max(r - a, 0)) / size**2
        tested = against_beta(sums.energies[part], mean[part], variance)
        columns |= _test_columns(f"energy_{part}", tested, "binned")
        columns[f"energy_{part}_p"] = tested.p
    return columns


def _isotropic(base: StoredBase, sums: Sums) -> Tensor:
    """W0 after a Gaussian update of the same norm as the real one before rounding; rounded to bf16 if W+ is."""
    scale, generator = _unrounded_scale(base, sums), torch.Generator().manual_seed(0)
    result = torch.empty(base.weights.shape, dtype=torch.bfloat16 if sums.rounded else torch.float32)
    for rows in chunks(result):
        before = base.weights[rows].float()
        result[rows] = torch.randn(before.shape, generator=generator).mul_(scale).add_(before)
    return result


def _spectral_columns(base: StoredBase, tuned: Tensor, sums: Sums) -> dict[str, Any]:
    before, (after, singular_values) = base.svd, base.decompose(tuned)
    with base.clock("svd"):
        left = spectra.principal_angles(before.U, after.U).rad2deg()
        right = spectra.principal_angles(before.Vh.T, after.Vh.T).rad2deg()
    null: dict[str, float] = {}
    if base.options.angle_null:
        drawn, _ = base.decompose(_isotropic(base, sums))
        with base.clock("svd"):
            null["max_angle_isotropic"] = max(
                spectra.principal_angles(before.U, drawn.U)[-1].rad2deg().item(),
                spectra.principal_angles(before.Vh.T, drawn.Vh.T)[-1].rad2deg().item(),
            )
    top = before.S.norm().item()
    off = before.residuals * before.S + after.residuals * after.S
    return {
        "svd": "exact" if base.exact else "krylov",
        "max_angle_left": left[-1].item(),
        "max_angle_right": right[-1].item(),
        "mean_angle_left": left.mean().item(),
        "mean_angle_right": right.mean().item(),
        **null,
        "angle_error_deg": min(90.0, before.angle_error + after.angle_error),
        "mean_angle_error_deg": min(90.0, before.mean_angle_error + after.mean_angle_error),
        "gap": before.gap,
        "nss": spectra.nss(base.singular_values, singular_values)
        if base.singular_values is not None and singular_values is not None
        else np.nan,
        "nss_top": spectra.nss(before.S, after.S),
        "nss_top_error": off.norm().item() / top,
        "nss_top_bound": sqrt(sums.totals.update_energy) / top,
    }


def compare_matrix(base: StoredBase, tuned: Tensor) -> tuple[dict[str, Any], Sums] | None:
    """The columns of a row of the table of tensors, and the sums behind them; None if W+ is not finite.

    Args:
        tuned: W+ ``[m, n]``, in any floating-point dtype; a vector is one row.
    """
    if base.is_matrix:
        _ = base.principal
    with base.clock("masks"):
        sums = _compare(base, tuned)
        if not np.isfinite(sums.totals.update_energy):
            return None
        m, n = tuned.shape
        columns = {"m": m, "n": n} | _sparsity_columns(base, sums)
    if base.is_matrix:
        columns |= {"k": base.rank} | _spectral_columns(base, tuned, sums)
        with base.clock("masks"):
            columns |= _overlap_columns(base, sums) | _energy_columns(base, sums)
    return columns, sums
