"""Which weights two runs both change (P2, Figures 2, 6 and 12, Table 2), and the rows and columns they change.

Every similarity stands beside two baselines: independent masks of the same densities, and masks permuted at random
within strata of ``|W0|``, for runs from one base change the same small weights whatever moves them. The same is asked
of the fp32 updates, at equal density, where rounding plays no part.

A run whose base was changed by an intervention (:mod:`rlscape.models.interventions`) is read in two views: ``stored``,
and ``undone``, its update mapped back, put on the original base and read in bf16 there. If only the coordinates
changed, the overlap with the original's runs is back in the second view.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from rlscape.errors import CheckpointError
from rlscape.files import read_json
from rlscape.geometry import masks, nulls
from rlscape.geometry.checkpoints import measured_matrices, stream_pair
from rlscape.geometry.one_density import half_mask
from rlscape.geometry.profiles import AXES
from rlscape.geometry.sparsity import scale_to_density, update_mask
from rlscape.models.config import DecoderConfig
from rlscape.models.interventions import INTERVENTION_FILE, Gauge
from rlscape.models.quantisation import BLOCK
from rlscape.models.tensor_names import identify
from rlscape.schema import Settings
from rlscape.settings.measurement import GeometrySettings, Intervention

log = logging.getLogger(__name__)

TOP_SHARE = 0.2
"""Density of the masks that compare fp32 updates: the entries of largest ``|dW|``."""
COMPARED = ("", "_top")
"""Masks of which pairs of runs are compared."""
STRIPED = {"": "_half", "_top": "_top"}
"""Suffix of the columns of :func:`stripes` -> mask, at a density at which the update's size plays no part."""


class ComparedRun(Settings):
    """A run, where its model is, and what it started from."""

    run: str
    base: Path
    model: Path
    original: Path | None = None
    """Of a run from a changed base: the base before the change that ``base/intervention.json`` describes."""


@dataclass(frozen=True)
class View:
    """One tensor of one run, in one set of coordinates."""

    masks: dict[str, Tensor]
    """Bool ``[m, n]``: "" for the update mask M; "_half" for that of :func:`rlscape.geometry.one_density.half_mask`;
    "_top" for the ``TOP_SHARE`` of largest ``|dW|`` in fp32, or all that moved, if fewer."""
    bins: Tensor
    """Stratum of magnitude of every entry of W0."""
    rotated: list[dict[str, Tensor]]
    """The masks of draws of the spectrum-matched null, with the update's entries and as many of them changed."""

    @classmethod
    def of(cls, base: Tensor, tuned: Tensor, settings: GeometrySettings, generator: torch.Generator) -> "View":
        """The view of W0 and W+ ``[m, n]``."""
        base, update = base.double(), tuned.double() - base.double()
        found = _masks(base, update)
        density = masks.density(found[""])
        rotated = (nulls.spectrum_matched_update(update, generator) for _ in range(settings.null_draws))
        draws = (nulls.with_entries_of(update, each) for each in rotated)
        return cls(
            found,
            nulls.magnitude_strata(base, settings.stratum_bits),
            [_masks(base, draw, scale_to_density(base, draw, density)) for draw in draws],
        )


def _masks(base: Tensor, update: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
    """Masks of a view, of which only the first depends on the update's size, here multiplied by ``scale``."""
    return {
        "": update_mask(base, base + scale * update),
        "_half": half_mask(base, update),
        "_top": masks.top_mask(update.abs(), min(TOP_SHARE, masks.density(update != 0))),
    }


class _Tensor(NamedTuple):
    name: str
    edit: str
    views: dict[str, View]

    @property
    def shape(self) -> torch.Size:
        return self.views["stored"].bins.shape


def _gauge(base: Path) -> Gauge:
    file = base / INTERVENTION_FILE
    if not file.exists():
        raise CheckpointError(f"{file}: no such file; rlscape.pipeline.intervene_base writes it with the changed base")
    return Gauge.of(Intervention.model_validate(read_json(file)["settings"]), DecoderConfig.read(base / "config.json"))


def _stream(run: ComparedRun, settings: GeometrySettings, generator: torch.Generator) -> Iterator[_Tensor]:
    """The matrices inside the blocks, by sorted name."""
    gauge = _gauge(run.base) if run.original else None
    originals = stream_pair(run.original or run.base, run.base)
    measured = measured_matrices(run.base, settings.block_stride)
    for (name, before, after), (_, original, _) in zip(stream_pair(run.base, run.model), originals, strict=True):
        if name not in measured:
            continue
        views = {"stored": View.of(before, after, settings, generator)}
        if gauge is not None:
            update = gauge.undo({name: after.double() - before.double()})[name]
            views["undone"] = View.of(original, original.double() + update, settings, generator)
        yield _Tensor(name, gauge.edit_of(name) if gauge else "none", views)


def similarity(both: float, first: float, second: float, size: int) -> dict[str, float]:
    """Jaccard index, phi and ``|A & B| / |B|`` of masks of ``size`` entries, from ``|A & B|``, ``|A|`` and ``|B|``.

    NaN where a mask is empty (phi: or full).
    """
    counts = torch.tensor([both, first, second], dtype=torch.float64)
    joint, p, q = counts / size
    return {
        "jaccard": (joint / (p + q - joint)).item(),
        "phi": ((joint - p * q) / (p * (1 - p) * q * (1 - q)).sqrt()).item(),
        "overlap": (joint / q).item(),
    }


def compare(first: Tensor, second: Tensor, bins: Tensor) -> dict[str, float]:
    """Two update masks A, B ``[m, n]``: their similarities, chance, and ``<similarity>_binned`` with its 95% range.

    Chance is that of independent masks; of phi it is 0, of the overlap A's density. Under the binned null B's
    entries are permuted within ``bins``, those of the base that B started from. Where both started from one base,
    permuting A as well would change nothing: the distribution of ``|A & B|`` is the same.
    """
    size, a, b = first.numel(), first.sum().item(), second.sum().item()
    shared = nulls.binned_permutation(second, first, bins)
    limits = {"": shared.mean, "_low": shared.low, "_high": shared.high}
    chance = similarity(a * b / size, a, b, size)
    return (
        {"size": size, "density_a": a / size, "density_b": b / size}
        | similarity((first & second).sum().item(), a, b, size)
        | {"jaccard_chance": chance["jaccard"], "overlap_chance": chance["overlap"]}
        | {
            f"{name}_binned{limit}": value
            for limit, both in limits.items()
            for name, value in similarity(both, a, b, size).items()
        }
    )


def stripe_share(mask: Tensor, axis: str) -> float:
    """Share of the variance of a mask's entries that lies between its rows (or columns), bool ``[m, n]``.

    The variance component of a two-way analysis of variance over ``p (1 - p)``, p the mask's density: its expectation
    is the variance of the rates themselves, whatever the number of rows, of entries in each, and of stripes across
    them; 0 without stripes, so an estimate may lie below 0. The variance of the densities over a binomial one, which
    it replaces, grows with the length of a line. NaN for an empty or a full mask, and for a single line.
    """
    values = mask.double()
    density = values.mean()
    lines = {name: values.mean(dim) - density for name, dim in AXES.items()}
    rows, columns = (deviation.shape[0] - 1 for deviation in lines.values())
    rest = (values - density - lines["row"][:, None] - lines["column"]).square().sum() / (rows * columns)
    between = lines[axis].var() - rest / mask.shape[AXES[axis]]
    return (between / (density * (1 - density))).item()


def segment_share(mask: Tensor) -> float:
    """Share of the variance of a mask's entries that lies between the segments of its rows, bool ``[m, n]``.

    A segment is ``BLOCK`` entries that share one scale where weights are quantised. One-way analysis of variance over
    ``p (1 - p)``, so whole rows or columns that change more are in it, too; 0 if none does. NaN for an empty or a full
    mask, for a single segment, and where rows are not made of whole ones.
    """
    if mask.shape[1] % BLOCK:
        return math.nan
    segments = mask.double().reshape(-1, BLOCK)
    density = segments.mean()
    between = segments.mean(1).var() - segments.var(1).mean() / BLOCK
    return (between / (density * (1 - density))).item()


def permuted_in_bins(mask: Tensor, bins: Tensor, generator: torch.Generator) -> Tensor:
    """One draw of the binned null: the mask with its entries permuted at random within each stratum."""
    flat, order = bins.flatten(), torch.randperm(bins.numel(), generator=generator)
    shuffled = order[flat[order].argsort(stable=True)]
    permuted = torch.empty_like(mask.flatten())
    permuted[flat.argsort(stable=True)] = mask.flatten()[shuffled]
    return permuted.view_as(mask)


def _null_columns(name: str, draws: list[float]) -> dict[str, float]:
    null = nulls.from_draws(np.array(draws))
    return {name: null.mean, f"{name}_low": null.low, f"{name}_high": null.high}


def stripes(view: View, generator: torch.Generator) -> dict[str, float]:
    """:func:`stripe_share` along both axes, of half of the entries and of the top ones, with two nulls: binned and
    spectrum-matched.

    Columns ``<row|column>_stripes[_top]``, and with ``_<null>``, ``_<null>_low`` and ``_<null>_high``. An update of
    low rank has stripes whatever its directions are: the second null shows them. Both nulls keep the base, so what a
    base's own rows, or its grid, do to any update is in them.
    """
    columns = {"density": masks.density(view.masks[""])}
    for suffix, name_of_mask in STRIPED.items():
        measures = {f"{axis}_stripes{suffix}": partial(stripe_share, axis=axis) for axis in AXES}
        columns |= _beside_nulls(view, name_of_mask, measures, generator)
    return columns


def segments(view: View, generator: torch.Generator) -> dict[str, float]:
    """:func:`segment_share` of the update mask as it is, with the nulls of :func:`stripes`."""
    return _beside_nulls(view, "", {"segment_share": segment_share}, generator)


def _beside_nulls(
    view: View, name_of_mask: str, measures: Mapping[str, Callable[[Tensor], float]], generator: torch.Generator
) -> dict[str, float]:
    mask = view.masks[name_of_mask]
    draws = {
        "binned": [permuted_in_bins(mask, view.bins, generator) for _ in view.rotated],
        "spectrum": [rotated[name_of_mask] for rotated in view.rotated],
    }
    columns = {}
    for name, measure in measures.items():
        columns[name] = measure(mask)
        for null, drawn in draws.items():
            columns |= _null_columns(f"{name}_{null}", [measure(draw) for draw in drawn])
    return columns


class RunComparison(NamedTuple):
    """What :func:`compare_runs` found."""

    pairs: pd.DataFrame
    """A row per pair (``run_a`` before ``run_b`` in the list), view and tensor: layer, kind, edit, the columns of
    :func:`compare`, ``phi_top`` for the fp32 updates with its binned null, and ``phi[_top]_spectrum`` with its range:
    both updates rotated at random."""
    stripes: pd.DataFrame
    """A row per run, view and tensor: layer, kind, edit and the columns of :func:`stripes` and :func:`segments`."""


def compare_runs(runs: Sequence[ComparedRun], settings: GeometrySettings, generator: torch.Generator) -> RunComparison:
    """Compare every pair of runs, one tensor at a time.

    A pair has the view ``undone`` if one of the two runs has it; the other is as stored. ``edit`` says what was done
    to the tensor in the base of at least one of them.

    Raises:
        CheckpointError: the runs do not have the same matrices, none has a known kind, a changed base does not say
            how, or see :func:`rlscape.geometry.checkpoints.stream_pair`.
    """
    pairs, profiles = [], []
    apart = torch.Generator().manual_seed(generator.initial_seed() + 1)  # other draws stay as they were without it
    streams = zip(*(_stream(run, settings, generator) for run in runs), strict=True)
    total = len(measured_matrices(runs[0].base, settings.block_stride))
    bar = tqdm(streams, total=total, desc=f"{len(runs)} runs", unit="matrix", disable=None)
    for done, tensors in enumerate(bar, start=1):
        name = tensors[0].name
        for run, tensor in zip(runs, tensors, strict=True):
            if (tensor.name, tensor.shape) != (name, tensors[0].shape):
                raise CheckpointError(
                    f"{run.model}: {tensor.name} against {name} of {runs[0].model}; compare one shape"
                )
            for view, matrix in tensor.views.items():
                row = {"run": run.run, "view": view} | identify(name) | {"edit": tensor.edit}
                profiles.append(row | stripes(matrix, generator) | segments(matrix, apart))
        for (run_a, a), (run_b, b) in combinations(zip(runs, tensors, strict=True), 2):
            edit = a.edit if a.edit != "none" else b.edit
            for view in dict.fromkeys((*a.views, *b.views)):
                pair = {"run_a": run_a.run, "run_b": run_b.run, "view": view} | identify(name) | {"edit": edit}
                pairs.append(pair | _compare_views(*(side.views.get(view, side.views["stored"]) for side in (a, b))))
        log.info("%d runs, %s: matrix %d of %d", len(runs), name, done, total)
    if not pairs:
        raise CheckpointError(
            f"{len(runs)} runs, no pair with a matrix of a known kind; expected two causal language models or more"
        )
    return RunComparison(pd.DataFrame(pairs), pd.DataFrame(profiles))


def _compare_views(a: View, b: View) -> dict[str, float]:
    top = compare(a.masks["_top"], b.masks["_top"], b.bins)
    columns = compare(a.masks[""], b.masks[""], b.bins)
    columns |= {f"phi_top{suffix}": top[f"phi{suffix}"] for suffix in ("", "_binned", "_binned_low", "_binned_high")}
    for suffix in COMPARED:
        draws = zip(a.rotated, b.rotated, strict=True)
        phis = [masks.phi(first[suffix], second[suffix]) for first, second in draws]
        columns |= _null_columns(f"phi{suffix}_spectrum", phis)
    return columns
