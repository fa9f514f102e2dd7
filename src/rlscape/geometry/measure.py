"""Measure a fine-tuned matrix, or a whole checkpoint, against its base (P2, Figures 1, 4, 5 and Table 1)."""

import logging
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rlscape.geometry import masks, nulls, spectra
from rlscape.geometry.checkpoints import is_linear, measured_matrices, stream_pair
from rlscape.geometry.one_density import half_mask, mask_at_density
from rlscape.geometry.sparsity import UpdateTotals, update_mask
from rlscape.settings.measurement import GeometrySettings

log = logging.getLogger(__name__)

OVERLAP, OVERLAP_HALF = "overlap", "overlap_half"
"""Prefixes of columns: overlaps with the update mask as it is (P2, Figure 5), and with that of :func:`half_mask`."""


@dataclass(frozen=True)
class BaseMatrix:
    """W0 ``[m, n]`` in float64, with what every comparison against it needs, computed once."""

    weights: Tensor
    settings: GeometrySettings

    @property
    def rank(self) -> int:
        """k, the dimension of the principal subspaces."""
        return max(1, round(self.settings.rank_fraction * min(self.weights.shape)))

    @cached_property
    def svd(self) -> masks.SVD:
        return masks.svd(self.weights)

    @cached_property
    def masks(self) -> dict[str, Tensor]:
        principal = masks.principal_mask(self.svd, self.rank, self.settings.mask_density)
        low = masks.low_mask(self.weights, self.settings.mask_density)
        return {"principal": principal, "low": low, "principal_not_low": principal & ~low}

    @cached_property
    def bins(self) -> Tensor:
        return nulls.magnitude_strata(self.weights, self.settings.stratum_bits)

    def overlaps(self, changed: Tensor, prefix: str = OVERLAP) -> dict[str, float]:
        """Of an update mask with every mask."""
        return {f"{prefix}_{name}": masks.overlap(mask, changed) for name, mask in self.masks.items()}


@dataclass(frozen=True)
class TunedMatrix:
    """W+ ``[m, n]`` in float64, beside the W0 it started from."""

    base: BaseMatrix
    weights: Tensor

    @cached_property
    def update(self) -> Tensor:
        return self.weights - self.base.weights

    @cached_property
    def changed(self) -> Tensor:
        """The update mask M."""
        return update_mask(self.base.weights, self.weights)

    @cached_property
    def changed_half(self) -> Tensor:
        """:func:`rlscape.geometry.one_density.half_mask` of the update."""
        return half_mask(self.base.weights, self.update)

    @cached_property
    def svd(self) -> masks.SVD:
        return masks.svd(self.weights)

    @cached_property
    def angles(self) -> tuple[Tensor, Tensor]:
        """Principal angles of the left and right top-k subspaces, in degrees, ``[k]`` each."""
        before, after, k = self.base.svd, self.svd, self.base.rank
        left = spectra.principal_angles(before.U[:, :k], after.U[:, :k])
        right = spectra.principal_angles(before.Vh[:k].T, after.Vh[:k].T)
        return left.rad2deg(), right.rad2deg()

    def compare(self) -> dict[str, float]:
        """The statistics whose simulated nulls have equal norm; of the largest angles on either side the larger."""
        return {
            "efficiency": spectra.efficiency(self.base.svd.S, self.svd.S, self.update),
            "max_angle": max(angles[-1].item() for angles in self.angles),
        }


def _columns(name: str, null: nulls.Null) -> dict[str, float]:
    return {name: null.mean, f"{name}_low": null.low, f"{name}_high": null.high}


def _changed(tuned: TunedMatrix) -> dict[str, Tensor]:
    """Prefix of columns -> the update mask of their overlaps."""
    return {OVERLAP: tuned.changed, OVERLAP_HALF: tuned.changed_half}


def _simulated_nulls(tuned: TunedMatrix, generator: torch.Generator) -> dict[str, float]:
    """Of updates of equal norm; overlaps, which depend on which entries change, of updates of equal density."""
    base, update, columns = tuned.base, tuned.update, dict[str, float]()
    densities = {prefix: masks.density(changed) for prefix, changed in _changed(tuned).items()}

    def overlaps(drawn: Tensor, *prefixes: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for prefix in prefixes:
            found |= base.overlaps(mask_at_density(base.weights, drawn, densities[prefix]), prefix)
        return found

    def isotropic() -> dict[str, float]:
        drawn = nulls.isotropic_update(update, generator)
        return TunedMatrix(base, base.weights + drawn).compare() | overlaps(drawn, OVERLAP)

    def spectrum() -> dict[str, float]:
        drawn = nulls.spectrum_matched_update(update, generator)
        placed = nulls.with_entries_of(update, drawn)
        return TunedMatrix(base, base.weights + drawn).compare() | overlaps(placed, OVERLAP, OVERLAP_HALF)

    def shuffled() -> dict[str, float]:
        return overlaps(nulls.shuffled_update(update, generator), OVERLAP, OVERLAP_HALF)

    for null, draw in {"isotropic": isotropic, "spectrum": spectrum, "shuffled": shuffled}.items():
        draws = pd.DataFrame(draw() for _ in range(base.settings.null_draws))
        for statistic in draws:
            columns |= _columns(f"{statistic}_{null}", nulls.from_draws(draws[statistic].to_numpy()))
    return columns


def _mask_columns(tuned: TunedMatrix) -> dict[str, float]:
    """Overlaps, their chance, fp32 energy enrichment and the binned null of both, for every mask."""
    columns = {"density_half": masks.density(tuned.changed_half)}
    energy = tuned.update.square() / tuned.update.square().sum()
    for name, mask in tuned.base.masks.items():
        density = masks.density(mask)
        for prefix, changed in _changed(tuned).items():
            shares = changed.double() / changed.sum()
            columns[f"{prefix}_{name}"] = masks.overlap(mask, changed)
            columns[f"{prefix}_{name}_chance"] = density
            binned = nulls.binned_permutation(shares, mask, tuned.base.bins)
            columns |= _columns(f"{prefix}_{name}_binned", binned)
        enrichment = nulls.binned_permutation(energy / density, mask, tuned.base.bins)
        columns[f"energy_enrichment_{name}"] = masks.energy_enrichment(mask, tuned.update)
        columns |= _columns(f"energy_enrichment_{name}_binned", enrichment)
    return columns


def _row(tuned: TunedMatrix, generator: torch.Generator) -> dict[str, float]:
    base, (m, n) = tuned.base, tuned.weights.shape
    before, after = base.svd.S, tuned.svd.S
    comparison = tuned.compare()
    sine = math.sin(math.radians(comparison["max_angle"]))
    return (
        {"m": m, "n": n, "k": base.rank}
        | UpdateTotals.of(base.weights, tuned.weights).summary()
        | {"nss": spectra.nss(before, after)}
        | comparison
        | spectra.subspace_energies(base.svd, tuned.update, base.rank)
        | spectra.bounds(before, after, tuned.update, base.rank, sine)
        | _mask_columns(tuned)
        | _simulated_nulls(tuned, generator)
    )


def measure_matrix(
    base: Tensor, tuned: Tensor, settings: GeometrySettings, generator: torch.Generator
) -> dict[str, float]:
    """Everything the figures need about one matrix ``[m, n]``, flat.

    Angles are in degrees. ``<statistic>_<null>``, ``..._low`` and ``..._high`` are the mean and 95% range of
    one draw under the null: of ``efficiency`` and ``max_angle`` isotropic and spectrum, of energy enrichment binned,
    of overlaps these and shuffled (of ``overlap_half_<mask>``, where half of the entries change, all but isotropic).
    ``<statistic>_chance`` is an analytic expectation.
    Fp32 energy enrichment is 1 under the isotropic null. What divides by an update of zero is NaN.
    """
    return _row(TunedMatrix(BaseMatrix(base.double(), settings), tuned.double()), generator)


def _spectrum(tuned: TunedMatrix) -> pd.DataFrame:
    """Singular values before and after, and the angles of the top k (NaN below); index counts from 1."""
    before = tuned.base.svd.S
    left, right = (
        np.pad(angles.numpy(), (0, len(before) - len(angles)), constant_values=np.nan) for angles in tuned.angles
    )
    return pd.DataFrame(
        {
            "index": np.arange(1, len(before) + 1),
            "singular_before": before.numpy(),
            "singular_after": tuned.svd.S.numpy(),
            "angle_left": left,
            "angle_right": right,
        }
    )


class UpdateMeasurement(NamedTuple):
    """What :func:`measure_update` found."""

    matrices: pd.DataFrame
    """A row per matrix: tensor, layer, kind and the columns of :func:`measure_matrix`."""
    spectra: pd.DataFrame
    """A row per matrix and index: singular values before and after, angles in degrees of the top k."""
    masks: dict[str, np.ndarray]
    """Packed masks, to be saved as npz and read by :func:`load_mask`."""
    summary: dict[str, dict[str, float]]
    """Sparsity, x and sizes over ``all`` parameters and over the ``linear`` ones inside the blocks."""


def measure_update(
    base: Path, tuned: Path, settings: GeometrySettings, generator: torch.Generator
) -> UpdateMeasurement:
    """Measure the weight matrices inside the blocks of a checkpoint against its base, streaming tensor by tensor.

    All other tensors enter the summary only.

    Raises:
        CheckpointError: see :func:`rlscape.geometry.checkpoints.measured_matrices` and ``stream_pair`` there.
    """
    rows, spectrum_frames, packed = [], [], {}
    totals = {"all": UpdateTotals(), "linear": UpdateTotals()}
    measured = measured_matrices(base, settings.block_stride)
    for tensor, before, after in stream_pair(base, tuned):
        total = UpdateTotals.of(before, after)
        totals["all"] += total
        if is_linear(tensor):
            totals["linear"] += total
        if tensor not in measured:
            continue
        matrix = TunedMatrix(BaseMatrix(before.double(), settings), after.double())
        rows.append(measured[tensor] | _row(matrix, generator))
        spectrum_frames.append(_spectrum(matrix).assign(**measured[tensor]))
        packed[f"{tensor}/shape"] = np.array(before.shape)
        for name, mask in {"update": matrix.changed, "principal": matrix.base.masks["principal"]}.items():
            packed[f"{tensor}/{name}"] = np.packbits(mask.numpy())
    if off := totals["all"].off_lattice:
        log.warning(
            "%s: %d of %d base weights are not bf16 values; rounding then has no dead zone, so the sparsity "
            "is not comparable with the paper's (snap the base to bf16 before fine-tuning)",
            base,
            off,
            totals["all"].parameters,
        )
    return UpdateMeasurement(
        pd.DataFrame(rows).astype({"layer": "Int64"}),
        pd.concat(spectrum_frames, ignore_index=True).astype({"layer": "Int64"}),
        packed,
        {part: {"parameters": total.parameters} | total.summary() for part, total in totals.items()},
    )


def load_mask(npz: Path, tensor: str, mask: Literal["update", "principal"] = "update") -> np.ndarray:
    """A bool mask ``[m, n]`` of one tensor from a run's masks.npz.

    Raises:
        KeyError: the file has no such tensor.
    """
    with np.load(npz) as packed:
        shape = packed[f"{tensor}/shape"]
        return np.unpackbits(packed[f"{tensor}/{mask}"], count=shape.prod()).astype(bool).reshape(shape)
