"""Does an update avoid the principal weights, or do its rows, columns and sizes of weights put it where it is?

Rows and columns of a gradient differ in scale, those of a base matrix too, so an update that knows nothing of singular
vectors can meet the principal weights more or less often than chance, also than when it is permuted among weights of
equal magnitude or rotated, neither of which keeps rows and columns. The nulls here do: of entries, what each row, each
column and each stratum of magnitude holds of the update; of subspaces, its entries and singular values, with random
signs of rows and columns.
"""

import logging
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from rlscape.geometry import masks, spectra
from rlscape.geometry.checkpoints import measured_matrices, stream_pair
from rlscape.geometry.measure import BaseMatrix, TunedMatrix
from rlscape.settings.measurement import GeometrySettings

log = logging.getLogger(__name__)

ROUNDS = 200
TOLERANCE = 1e-6
"""Of the fit, relative to the sum of all values."""
DRAWS = 20
"""Of signs."""


def fit_margins(values: Tensor, bins: Tensor) -> Tensor:
    """Expected values ``r_i c_j f_b`` with the sums of ``values`` over every row i, column j and bin b.

    Iterative proportional fitting: of all tables with these sums the one of largest entropy.

    Args:
        values: not negative, float64 ``[m, n]``.
        bins: int64 ``[m, n]``, the stratum of every entry.
    """
    flat, rows, columns = bins.flatten(), values.sum(1), values.sum(0)
    strata = torch.bincount(flat, values.flatten())
    fitted = torch.ones_like(values)
    for _ in range(ROUNDS):
        fitted = fitted * _ratio(rows, fitted.sum(1))[:, None]
        fitted = fitted * _ratio(columns, fitted.sum(0))
        fitted = fitted * _ratio(strata, torch.bincount(flat, fitted.flatten()))[bins]
        error = (fitted.sum(1) - rows).abs().sum() + (fitted.sum(0) - columns).abs().sum()
        if not error > TOLERANCE * rows.sum():  # also of an update of nothing, NaN
            return fitted
    log.warning("margins: off by %.1g of the sum after %d rounds", error / rows.sum(), ROUNDS)
    return fitted


def _ratio(wanted: Tensor, found: Tensor) -> Tensor:
    return torch.where(found > 0, wanted / found, 0.0)


def subspace_margins(base: masks.SVD, update: Tensor, rank: int, draws: int) -> dict[str, float]:
    """What :func:`rlscape.geometry.spectra.subspace_energies` are with random signs of the update's rows and columns.

    Signs keep its singular values and the energy of every entry: ``energy_<side>_margins``, the expectation, is
    ``sum_i r_i |U_k,i|^2`` on the left, with r the rows' shares of the energy, likewise with columns and V_k on the
    right, and ``sum_ij e_ij |U_k,i|^2 |V_k,j|^2`` in both. ``..._sd`` is the standard deviation of a draw, from 0 on.
    """
    shares = update.square() / update.square().sum()
    left, right = base.U[:, :rank].square().sum(1), base.Vh[:rank].square().sum(0)
    expected = {"left": left @ shares.sum(1), "right": shares.sum(0) @ right, "both": left @ shares @ right}
    generator = torch.Generator().manual_seed(0)
    drawn = pd.DataFrame(
        spectra.subspace_energies(base, _signs(len(left), generator)[:, None] * update * signs, rank)
        for signs in (_signs(len(right), generator) for _ in range(draws))
    )
    return {f"energy_{side}_margins": value.item() for side, value in expected.items()} | {
        f"energy_{side}_margins_sd": float((drawn[f"energy_{side}"] - value.item()).pow(2).mean() ** 0.5)
        for side, value in expected.items()
    }


def _signs(count: int, generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(2, (count,), generator=generator).double() - 1


def margins_of(tuned: TunedMatrix) -> dict[str, float]:
    """Columns of one matrix: energies in subspaces; of each mask fp32 energy enrichment and overlap; each with
    ``_margins``, its expectation. NaN without any change."""
    base, energy = tuned.base, tuned.update.square()
    columns = spectra.subspace_energies(base.svd, tuned.update, base.rank)
    columns |= subspace_margins(base.svd, tuned.update, base.rank, DRAWS)
    by_energy = fit_margins(energy / energy.sum(), base.bins)
    by_change = fit_margins(tuned.changed.double() / tuned.changed.sum(), base.bins)
    columns |= base.overlaps(tuned.changed)
    for name, mask in base.masks.items():
        columns |= {
            f"overlap_{name}_margins": by_change[mask].sum().item(),
            f"energy_enrichment_{name}": masks.energy_enrichment(mask, tuned.update),
            f"energy_enrichment_{name}_margins": by_energy[mask].sum().item() / masks.density(mask),
        }
    return columns


def measure_margins(base: Path, tuned: Path, settings: GeometrySettings) -> pd.DataFrame:
    """A row per weight matrix inside the blocks: tensor, layer, kind and the columns of :func:`margins_of`.

    Raises:
        CheckpointError: see :func:`rlscape.geometry.checkpoints.measured_matrices` and ``stream_pair`` there.
    """
    measured = measured_matrices(base, settings.block_stride)
    return pd.DataFrame(
        measured[tensor] | margins_of(TunedMatrix(BaseMatrix(before.double(), settings), after.double()))
        for tensor, before, after in stream_pair(base, tuned)
        if tensor in measured
    )
