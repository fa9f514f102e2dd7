"""Whether a finding on principal weights depends on how "principal" is measured.

- Masks of entries against subspaces: an update can avoid the entries where ``W0^(k)`` is large and yet put more
  energy than chance into the subspaces that its singular vectors span.
- The two free numbers, rank and mask density, which the paper does not state, on a grid.
- bf16 against fp32: the entries that rounding shows, the same number of entries of largest ``|dW|``, and the energy.
- Rounding alone: the sparsity of one update read with fewer and with more mantissa bits.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from rlscape.geometry import masks, nulls, spectra
from rlscape.geometry.checkpoints import measured_matrices, stream_pair
from rlscape.geometry.measure import BaseMatrix, TunedMatrix
from rlscape.geometry.sparsity import BF16_BITS, UpdateTotals, isotropic_density
from rlscape.settings.measurement import GeometrySettings

RANK_FRACTIONS = (1 / 64, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""k / min(m, n)."""
DENSITIES = (0.05, 0.1, 0.3, 0.5)
"""alpha of the masks."""
SUBSPACES = ("left", "right", "both")
MANTISSA_BITS = range(5, 13)


def round_mantissa(values: Tensor, bits: int) -> Tensor:
    """``values`` rounded to so many mantissa bits after the leading one, ties to even; bf16 has 7.

    Exponents are not limited.
    """
    mantissa, exponent = torch.frexp(values.double())
    steps = 2.0 ** (bits + 1)
    return torch.ldexp((mantissa * steps).round() / steps, exponent)


def _half_gaps(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Distances by which values on the lattice may grow and shrink in magnitude without rounding elsewhere."""
    mantissa, exponent = torch.frexp(values.abs())
    half = torch.ldexp((values != 0).double(), exponent - bits - 2)
    return half, torch.where(mantissa == 0.5, half / 2, half)


def read_with_bits(base: Tensor, update: Tensor, bits: int) -> dict[str, float]:
    """The sparsity of an update ``[m, n]`` on a base that is snapped to a lattice, all read with ``bits`` bits.

    With 7 or more bits a bf16 base is on the lattice already. With fewer it is snapped first, and the update is
    added to that: a base between lattice points has no dead zone, and would not show what rounding alone does.

    ``x`` is the update's size in units of half a lattice step, hence rescaled by ``2^(bits - 7)``.
    ``isotropic_sparsity`` is that of any Gaussian base at this x, ``expected_sparsity`` that of an isotropic
    Gaussian update of this size on this very base.
    """
    snapped = round_mantissa(base, bits)
    unchanged = round_mantissa(snapped + update, bits) == snapped
    rms = update.square().mean().sqrt()
    outward, inward = _half_gaps(snapped, bits)
    kept = torch.special.ndtr(outward / rms) - torch.special.ndtr(-inward / rms)
    x = UpdateTotals.of(base, base + update).summary()["x"] * 2.0 ** (bits - BF16_BITS)
    return {
        "bits": bits,
        "sparsity": unchanged.double().mean().item(),
        "x": x,
        "isotropic_sparsity": 1 - isotropic_density(x),
        "expected_sparsity": kept.mean().item(),
    }


def _ranks(weights: Tensor) -> dict[float, int]:
    return {fraction: max(1, round(fraction * min(weights.shape))) for fraction in RANK_FRACTIONS}


def _mask_row(mask: Tensor, tuned: TunedMatrix, largest: Tensor) -> dict[str, float]:
    """Chance, and overlap, overlap of the largest entries and energy share with the means of their binned nulls."""
    bins = tuned.base.bins
    values = {
        "overlap": tuned.changed.double() / tuned.changed.sum(),
        "largest": largest.double() / largest.sum(),
        "energy": tuned.update.square() / tuned.update.square().sum(),
    }
    row = {"chance": masks.density(mask)}
    for name, share in values.items():
        row |= {name: share[mask].sum().item(), f"{name}_binned": nulls.binned_permutation(share, mask, bins).mean}
    return row


def vary_operators(tuned: TunedMatrix) -> pd.DataFrame:
    """A row per operator, rank fraction and mask density of one matrix.

    operator ``principal`` (a mask at every k and alpha) and ``low`` (at every alpha; no k): chance, the shares of
    the changed entries (``overlap``), of as many entries of largest ``|dW|`` (``largest``) and of the energy
    (``energy``) inside the mask, each with its mean under the magnitude-binned null.
    operator ``left``, ``right``, ``both`` (at every k; no alpha): ``energy`` in the subspace of W0 and ``chance``.
    What divides by an update of zero is NaN.
    """
    base = tuned.base
    density = masks.density(tuned.changed)
    largest = masks.top_mask(tuned.update.abs(), density)
    rows: list[dict[str, Any]] = []
    for alpha in DENSITIES:
        low = masks.low_mask(base.weights, alpha)
        rows.append({"operator": "low", "alpha": alpha} | _mask_row(low, tuned, largest))
    for fraction, rank in _ranks(base.weights).items():
        for alpha in DENSITIES:
            principal = masks.principal_mask(base.svd, rank, alpha)
            where = {"operator": "principal", "rank_fraction": fraction, "k": rank, "alpha": alpha}
            rows.append(where | _mask_row(principal, tuned, largest))
        energies = spectra.subspace_energies(base.svd, tuned.update, rank)
        rows += [
            {"operator": side, "rank_fraction": fraction, "k": rank}
            | {"energy": energies[f"energy_{side}"], "chance": energies[f"energy_{side}_chance"]}
            for side in SUBSPACES
        ]
    return pd.DataFrame(rows).assign(density=density)


class OperatorMeasurement(NamedTuple):
    """What :func:`measure_operators` found."""

    operators: pd.DataFrame
    """Tensor, layer, kind, m, n, density (of the update mask) and the columns of :func:`vary_operators`."""
    mantissa: pd.DataFrame
    """A row per matrix and number of bits: tensor, layer, kind, m, n and the columns of :func:`read_with_bits`."""


def measure_operators(base: Path, tuned: Path, settings: GeometrySettings) -> OperatorMeasurement:
    """Measure the weight matrices inside the blocks, streaming tensor by tensor.

    Raises:
        CheckpointError: see :func:`rlscape.geometry.checkpoints.measured_matrices` and ``stream_pair`` there.
    """
    operators, mantissa = [], []
    measured = measured_matrices(base, settings.block_stride)
    for tensor, before, after in stream_pair(base, tuned):
        if tensor not in measured:
            continue
        identity = measured[tensor] | {"m": before.shape[0], "n": before.shape[1]}
        matrix = TunedMatrix(BaseMatrix(before.double(), settings), after.double())
        operators.append(vary_operators(matrix).assign(**identity))
        mantissa += [identity | read_with_bits(matrix.base.weights, matrix.update, bits) for bits in MANTISSA_BITS]
    return OperatorMeasurement(pd.concat(operators, ignore_index=True), pd.DataFrame(mantissa))
