"""How an update grows: every snapshot of a run against its base, and the rows and columns that change first.

P2, Figures 3 and 14: row densities ``rho_i(t)`` and column densities ``kappa_j(t)`` of the update mask of the
query and output projections, over training. A later mask contains most of an earlier one, and weights of small
magnitude change first whatever moves them; so every density stands beside what the magnitudes alone predict, and
beside the share of *new* changes, which nothing makes similar to the first snapshot's.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from rlscape.geometry import masks, nulls, spectra
from rlscape.geometry.checkpoints import measured_matrices
from rlscape.geometry.measure import BaseMatrix, TunedMatrix
from rlscape.geometry.snapshots import stream_history
from rlscape.geometry.sparsity import UpdateTotals
from rlscape.settings.measurement import GeometrySettings

PROFILED_KINDS = ("q", "o")
AXES = {"row": 1, "column": 0}
"""Axis of a profile -> the dimension that it averages over."""


def describe(tuned: TunedMatrix) -> dict[str, float]:
    """What :func:`rlscape.geometry.measure.measure_matrix` says without simulating anything, angles in degrees.

    Per mask: the overlap, chance, its mean under the binned null, and the fp32 energy enrichment with the binned
    null's mean.
    """
    base = tuned.base
    columns = (
        UpdateTotals.of(base.weights, tuned.weights).summary()
        | {"nss": spectra.nss(base.svd.S, tuned.svd.S)}
        | tuned.compare()
        | base.overlaps(tuned.changed)
        | spectra.subspace_energies(base.svd, tuned.update, base.rank)
    )
    changed = tuned.changed.double() / tuned.changed.sum()
    energy = tuned.update.square() / tuned.update.square().sum()
    for name, mask in base.masks.items():
        chance = masks.density(mask)
        columns |= {
            f"overlap_{name}_chance": chance,
            f"overlap_{name}_binned": nulls.binned_permutation(changed, mask, base.bins).mean,
            f"energy_enrichment_{name}": masks.energy_enrichment(mask, tuned.update),
            f"energy_enrichment_{name}_binned": nulls.binned_permutation(energy / chance, mask, base.bins).mean,
        }
    return columns


def profile(mask: Tensor, entries: Tensor, axis: str) -> Tensor:
    """Share of the ``entries`` of each row (``rho [m]``) or column (``kappa [n]``) that are in a mask.

    Args:
        mask, entries: bool ``[m, n]``; a row or column without entries is NaN.
    """
    return (mask & entries).sum(AXES[axis]).double() / entries.sum(AXES[axis])


def profile_by_magnitude(mask: Tensor, entries: Tensor, bins: Tensor, axis: str) -> Tensor:
    """The expected profile of a mask whose entries are permuted at random within each magnitude bin.

    Args:
        mask, entries: as in :func:`profile`; only ``entries`` are permuted.
        bins: int64 ``[m, n]``.
    """
    count = int(bins.max()) + 1
    changed = torch.bincount(bins[entries], mask[entries].double(), minlength=count)
    rate = changed / torch.bincount(bins[entries], minlength=count).clamp(min=1)
    return (rate[bins] * entries).sum(AXES[axis]) / entries.sum(AXES[axis])


class History(NamedTuple):
    """What :func:`measure_over_time` found."""

    over_time: pd.DataFrame
    """A row per step and matrix: step, tensor, layer, kind, m, n, k and the columns of :func:`describe`."""
    profiles: pd.DataFrame
    """A row per step, query or output projection, axis and index (from 0), with the columns of :func:`matrix_profiles`.

    ``share`` is rho_i (row) or kappa_j (column); ``new`` counts only entries that the first snapshot had not changed.
    """


def matrix_profiles(first: TunedMatrix, tuned: TunedMatrix) -> pd.DataFrame:
    """Both profiles of one matrix: axis, index, and share and new changes, each with its expectation by magnitude.

    Args:
        first: the same matrix at the run's first snapshot.
    """
    changed, bins = tuned.changed, tuned.base.bins
    frames = []
    for axis in AXES:
        columns = {}
        for name, entries in {"share": torch.ones_like(changed), "new": ~first.changed}.items():
            columns[name] = profile(changed, entries, axis).numpy()
            columns[f"{name}_by_magnitude"] = profile_by_magnitude(changed, entries, bins, axis).numpy()
        frames.append(pd.DataFrame(columns).assign(axis=axis, index=range(len(columns["share"]))))
    return pd.concat(frames, ignore_index=True)


def measure_over_time(base: Path, snapshots: Path, settings: GeometrySettings) -> History:
    """Measure the weight matrices inside the blocks at every snapshot of a run, streaming tensor by tensor.

    Raises:
        CheckpointError: see :func:`rlscape.geometry.checkpoints.measured_matrices` and
            :func:`rlscape.geometry.snapshots.stream_history`.
    """
    rows, profiles = [], []
    measured = measured_matrices(base, settings.block_stride)
    for history in stream_history(base, snapshots):
        if history.tensor not in measured:
            continue
        identity = measured[history.tensor]
        start = BaseMatrix(history.base.double(), settings)
        sizes = {"m": start.weights.shape[0], "n": start.weights.shape[1], "k": start.rank}
        tuned = {step: TunedMatrix(start, after.double()) for step, after in history.after.items()}
        first = tuned[min(tuned)]
        for step, matrix in tuned.items():
            rows.append({"step": step} | identity | sizes | describe(matrix))
            if identity["kind"] in PROFILED_KINDS:
                profiles.append(matrix_profiles(first, matrix).assign(step=step, **identity))
    order = ["step", "tensor", "layer", "kind", "axis", "index"]
    return History(
        pd.DataFrame(rows).sort_values(["step", "tensor"], ignore_index=True),
        pd.concat(profiles, ignore_index=True).set_index(order).reset_index(),
    )
