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

from rlscape.errors import CheckpointError
from rlscape.geometry import masks, nulls, spectra
from rlscape.geometry.checkpoints import stream_pair
from rlscape.geometry.sparsity import UpdateTotals, scale_to_density, update_mask
from rlscape.models.tensor_names import MODULES, identify
from rlscape.settings.measurement import GeometrySettings

log = logging.getLogger(__name__)


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
    def svd(self) -> masks.SVD:
        return masks.svd(self.weights)

    @cached_property
    def angles(self) -> tuple[Tensor, Tensor]:
        """Principal angles of the left and right top-k subspaces, in degrees, ``[k]`` each."""
        before, after, k = self.base.svd, self.svd, self.base.rank
        left = spectra.principal_angles(before.U[:, :k], after.U[:, :k])
        right = spectra.principal_angles(before.Vh[:k].T, after.Vh[:k].T)
        return left.rad2deg(), right.rad2deg()

    def overlaps(self) -> dict[str, float]:
        """With every mask of the base."""
        return {f"overlap_{name}": masks.overlap(mask, self.changed) for name, mask in self.base.masks.items()}

    def compare(self) -> dict[str, float]:
        """The statistics that have a simulated null."""
        return {
            "density": masks.density(self.changed),
            "efficiency": spectra.efficiency(self.base.svd.S, self.svd.S, self.update),
            "max_angle_left": self.angles[0][-1].item(),
            "max_angle_right": self.angles[1][-1].item(),
        } | self.overlaps()


def _columns(name: str, null: nulls.Null) -> dict[str, float]:
    return {name: null.mean, f"{name}_low": null.low, f"{name}_high": null.high}


def _simulated_nulls(tuned: TunedMatrix, generator: torch.Generator) -> dict[str, float]:
    """Of updates of equal norm; overlaps, which depend on which entries change, of updates of equal density."""
    base, update, columns = tuned.base, tuned.update, dict[str, float]()
    density = masks.density(tuned.changed)

    def overlaps(drawn: Tensor) -> dict[str, float]:
        equally_dense = scale_to_density(base.weights, drawn, density) * drawn
        return TunedMatrix(base, base.weights + equally_dense).overlaps()

    def isotropic() -> dict[str, float]:
        drawn = nulls.isotropic_update(update, generator)
        return TunedMatrix(base, base.weights + drawn).compare() | overlaps(drawn)

    def spectrum() -> dict[str, float]:
        drawn = nulls.spectrum_matched_update(update, generator)
        return TunedMatrix(base, base.weights + drawn).compare() | overlaps(nulls.with_entries_of(update, drawn))

    def shuffled() -> dict[str, float]:
        return overlaps(nulls.shuffled_update(update, generator))

    for null, draw in {"isotropic": isotropic, "spectrum": spectrum, "shuffled": shuffled}.items():
        draws = pd.DataFrame(draw() for _ in range(base.settings.null_draws))
        for statistic in draws:
            columns |= _columns(f"{statistic}_{null}", nulls.from_draws(draws[statistic].to_numpy()))
    return columns


def _mask_columns(tuned: TunedMatrix) -> dict[str, float]:
    """Chance overlap, fp32 energy enrichment and the binned null of both, for every mask."""
    columns: dict[str, float] = {}
    changed = tuned.changed.double() / tuned.changed.sum()
    energy = tuned.update.square() / tuned.update.square().sum()
    for name, mask in tuned.base.masks.items():
        density = masks.density(mask)
        overlap = nulls.binned_permutation(changed, mask, tuned.base.bins)
        enrichment = nulls.binned_permutation(energy / density, mask, tuned.base.bins)
        columns[f"overlap_{name}_chance"] = density
        columns |= _columns(f"overlap_{name}_binned", overlap)
        columns[f"energy_enrichment_{name}"] = masks.energy_enrichment(mask, tuned.update)
        columns |= _columns(f"energy_enrichment_{name}_binned", enrichment)
    return columns


def _row(tuned: TunedMatrix, generator: torch.Generator) -> dict[str, float]:
    base, (m, n) = tuned.base, tuned.weights.shape
    before, after = base.svd.S, tuned.svd.S
    comparison = tuned.compare()
    sine = math.sin(math.radians(max(comparison["max_angle_left"], comparison["max_angle_right"])))
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
    one draw under the null (isotropic, spectrum, binned; of overlaps also shuffled); ``<statistic>_chance`` is an
    analytic expectation.
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
    """Measure every weight matrix of a checkpoint directory against its base, streaming tensor by tensor.

    Norms, biases and tensors of unknown modules enter the summary only.

    Raises:
        CheckpointError: no matrix of a known kind, or see :func:`rlscape.geometry.checkpoints.stream_pair`.
    """
    rows, spectrum_frames, packed = [], [], {}
    totals = {"all": UpdateTotals(), "linear": UpdateTotals()}
    for tensor, before, after in stream_pair(base, tuned):
        identity = identify(tensor)
        total = UpdateTotals.of(before, after)
        totals["all"] += total
        if before.ndim != 2 or identity["kind"] is None:
            continue
        if identity["layer"] is not None:
            totals["linear"] += total
        matrix = TunedMatrix(BaseMatrix(before.double(), settings), after.double())
        rows.append(identity | _row(matrix, generator))
        spectrum_frames.append(_spectrum(matrix).assign(**identity))
        packed[f"{tensor}/shape"] = np.array(before.shape)
        for name, mask in {"update": matrix.changed, "principal": matrix.base.masks["principal"]}.items():
            packed[f"{tensor}/{name}"] = np.packbits(mask.numpy())
    if not rows:
        raise CheckpointError(
            f"{base}: no matrix is called {', '.join(MODULES.values())}; expected a causal language model"
        )
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
