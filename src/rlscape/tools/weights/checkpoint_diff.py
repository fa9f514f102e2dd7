"""Did a fine-tuning touch few weights, off the principal directions, and is that more than magnitude and rounding?

The measurements of :mod:`rlscape.geometry` for checkpoints of any size. What differs from there, for speed and memory:

1. Tensors are read one pair at a time and swept in chunks; nothing of a tensor is held in float64.
2. Matrices whose smaller side exceeds :attr:`DiffOptions.exact` get their top k singular triples from a block Krylov
   space (:mod:`rlscape.tools.weights.low_rank`), with a bound on the error of the angles in a column beside them.
3. The nulls of overlaps are analytic, on the bf16 grid itself (:mod:`rlscape.tools.weights.bf16_bins`): no draws.
   The isotropic null is that of equal density, as in the pipeline.
4. The mask of low magnitude is made of whole bf16 magnitudes, so its density is alpha to within one of them.

A tensor of three dimensions (fused experts) is measured as that many matrices; a kernel of a convolution, which has
short sides or more dimensions, as one matrix, output channels by the rest. Vectors get sparsity and norms only.
"""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rlscape.errors import UserError
from rlscape.models.tensor_names import kind_of, listed
from rlscape.tools.weights import low_rank
from rlscape.tools.weights.bf16_bins import Counts, shared_entries
from rlscape.tools.weights.checkpoints import Checkpoint, Match, match_tensors
from rlscape.tools.weights.diff_options import DiffOptions
from rlscape.tools.weights.diff_tables import pair_table, remarks, summarise_kinds, tensor_table
from rlscape.tools.weights.matrix_diff import compare_matrix
from rlscape.tools.weights.stored_base import LEAST_SIDE, Clock, StoredBase

__all__ = ["DiffError", "DiffOptions", "DiffResult", "Progress", "diff_checkpoints", "memory_needed"]

GIB = 1 << 30
FIXED_BYTES = int(0.8 * GIB)
"""What Python, torch and the chunks take, whatever the tensor."""
SIDE_BY_SIDE = 5.0
"""GiB; tensors are measured side by side while their estimates stay below, if no limit is given."""

Progress = Callable[[int, int], None]
"""Called with the entries just done and those in all; every checkpoint counts once, and so does the base."""


class DiffError(UserError):
    """Checkpoints that cannot be compared as asked."""


@dataclass(frozen=True)
class DiffResult:
    """What :func:`diff_checkpoints` found."""

    tensors: pd.DataFrame
    """A row per checkpoint and matrix or vector; columns: ``rlscape diff --help``."""
    kinds: pd.DataFrame
    """A row per checkpoint and kind of tensor, and one for ``all``."""
    pairs: pd.DataFrame
    """Update masks of two checkpoints: a row per pair and matrix, and one for ``all``; empty with one checkpoint."""
    notes: tuple[str, ...]
    """What was renamed, left out or is unusual."""
    seconds: dict[str, float]
    """Spent on reading, SVDs and masks."""


@dataclass(frozen=True)
class _Job:
    """A tensor of the base and its counterparts."""

    name: str
    base: str
    rows: tuple[int, int] | None
    shape: tuple[int, ...]
    tuned: tuple[tuple[int, Match], ...]
    """Index of a checkpoint, and where it holds the tensor."""

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def fused(self) -> bool:
        """Several matrices in one tensor."""
        return len(self.shape) == 3 and min(self.shape[1:]) >= LEAST_SIDE

    @property
    def matrix(self) -> tuple[int, int]:
        """Shape of what is measured; a vector is one row."""
        if self.fused:
            return self.shape[1], self.shape[2]
        rows = self.shape[0] if len(self.shape) > 1 else 1
        return rows, self.elements // rows

    @property
    def work(self) -> int:
        return self.elements * (1 + len(self.tuned))


def _plan(base: Checkpoint, tuned: Sequence[Checkpoint], options: DiffOptions) -> tuple[list[_Job], list[str]]:
    notes: list[str] = []
    found: dict[tuple[str, str, tuple[int, int] | None, tuple[int, ...]], list[tuple[int, Match]]] = defaultdict(list)
    for index, checkpoint in enumerate(tuned):
        matching = match_tensors(base, checkpoint)
        notes += [note for note in matching.notes if note not in notes]
        for match in matching.matches:
            found[match.name, match.base, match.base_rows, match.shape].append((index, match))
    if options.only is not None:
        try:
            wanted = re.compile(options.only)
        except re.error as error:
            raise DiffError(f"--only {options.only}: not a regular expression ({error})") from None
        found = defaultdict(list, {key: value for key, value in found.items() if wanted.search(key[0])})
        if not found:
            raise DiffError(
                f"--only {options.only}: no tensor of {base.name} matches; names look like "
                + ", ".join(list(base.tensors)[:3])
            )
    jobs = [_Job(*key, tuple(value)) for key, value in found.items()]
    kept = [job for job in jobs if base.tensors[job.base].dtype.is_floating_point and job.elements]
    if left_out := [job.name for job in jobs if job not in kept]:
        notes.append(f"{listed(left_out)} without floating-point numbers left out")
    return kept, notes


def memory_needed(m: int, n: int, base_bytes: int, tuned_bytes: int, masks: int, rank: int, exact: bool) -> int:
    """Bytes that a tensor takes while it is measured, an estimate; :data:`FIXED_BYTES` come on top.

    Args:
        m, n: shape of the matrix, or of one of the matrices in a tensor.
        base_bytes, tuned_bytes: of what is held of the stored tensors.
        masks: update masks that are kept, one per checkpoint.
        rank: k.
        exact: float64 SVD (W0, W+, both bases and LAPACK's workspace), or a float32 copy and a Krylov space.
    """
    krylov = 4 * (m + n) * low_rank.MAX_STEPS * low_rank.block_size(rank)
    working = 64 * m * n if exact else 4 * m * n + 2 * krylov
    return base_bytes + tuned_bytes + (1 + masks) * m * n + working


@dataclass
class _Found:
    """What the measurement of one job found."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    not_finite: list[tuple[str, str]] = field(default_factory=list)
    """Checkpoint and tensor."""


@dataclass(frozen=True)
class _Diff:
    """Checkpoints, options and clock: what every job needs."""

    base: Checkpoint
    tuned: Sequence[Checkpoint]
    options: DiffOptions
    advance: Callable[[int], None]
    clock: Clock = field(default_factory=Clock)

    def memory(self, job: _Job) -> int:
        """Bytes that a job takes.

        Raises:
            DiffError: more than allowed.
        """
        m, n = job.matrix
        sizes = [self.tuned[index].tensors[match.tuned].dtype.itemsize * job.elements for index, match in job.tuned]
        # Fused experts are measured one after the other, so all their counterparts are held.
        held = sum(sizes) if job.fused else max(sizes)
        held += 4 * m * n if self.options.angle_null else 0
        of_base = self.base.tensors[job.base].dtype.itemsize * job.elements
        rank, exact = self.options.rank_of(m, n), self.options.is_exact(m, n)
        need = memory_needed(m, n, of_base, held, len(sizes), rank, exact)
        total, allowed = (FIXED_BYTES + need) / GIB, self.options.max_memory
        if allowed is not None and total > allowed:
            raise DiffError(
                f"{job.name} ({' x '.join(map(str, job.shape))}) needs about {total:.1f} GiB, more than --max-memory "
                f"{allowed:g}; allow {np.ceil(10 * total) / 10:.1f}, or leave it out with --only REGEX "
                r"(for instance --only 'layers\.')"
            )
        return need

    def _read(self, checkpoint: Checkpoint, name: str, rows: tuple[int, int] | None, job: _Job) -> Tensor:
        """``[e, m, n]``: experts, or one matrix; a vector is one row."""
        with self.clock("reading"):
            return checkpoint.read(name, rows).reshape(-1, *job.matrix)

    def measure(self, job: _Job) -> _Found:
        """Every matrix of a tensor, in every checkpoint."""
        found = _Found()
        layer, kind = kind_of(job.name)
        before = self._read(self.base, job.base, job.rows, job)

        def read(index: int, match: Match) -> Tensor:
            return self._read(self.tuned[index], match.tuned, match.tuned_rows, job)

        held = {index: read(index, match) for index, match in job.tuned} if job.fused else {}
        for expert, weights in enumerate(before):
            label = f"{job.name}[{expert}]" if job.fused else job.name
            identity = {"tensor": job.name, "expert": expert if job.fused else None, "layer": layer, "kind": kind}
            matrix = StoredBase(weights, self.options, self.clock)
            if not matrix.finite:
                found.not_finite.append((self.base.name, label))
                self.advance(weights.numel() * (1 + len(job.tuned)))
                continue
            if matrix.is_matrix:
                _ = matrix.principal
            self.advance(weights.numel())
            masks: dict[str, tuple[Tensor, Counts]] = {}
            for index, match in job.tuned:
                after = held[index][expert] if job.fused else read(index, match)[0]
                name = self.names[index]
                if compared := compare_matrix(matrix, after):
                    columns, sums = compared
                    dtypes = {"dtype_base": _dtype(weights), "dtype_tuned": _dtype(after)}
                    found.rows.append(identity | {"checkpoint": name} | dtypes | columns)
                    if len(self.tuned) > 1:
                        masks[name] = sums.changed, sums.counts[:, 1].sum(0)
                else:
                    found.not_finite.append((name, label))
                del after  # before the next one is read
                self.advance(weights.numel())
            with self.clock("masks"):
                found.pairs += [identity | pair for pair in _shared(matrix.grid.size, masks)]
        return found

    @property
    def names(self) -> list[str]:
        """As typed; a checkpoint that is given twice gets a number."""
        names = [checkpoint.name for checkpoint in self.tuned]
        return [
            name if names.count(name) == 1 else f"{name} ({names[:i].count(name) + 1})" for i, name in enumerate(names)
        ]


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shared(size: Counts, masks: dict[str, tuple[Tensor, Counts]]) -> Iterator[dict[str, Any]]:
    """Entries that two update masks share; ``masks`` holds each with its entries per bin."""
    for (first, (mask, a)), (second, (other, b)) in combinations(masks.items(), 2):
        expected, variance = shared_entries(size, a, b)
        yield {
            "first": first,
            "second": second,
            "parameters": int(size.sum()),
            "first_changed": int(a.sum()),
            "second_changed": int(b.sum()),
            "shared": int((mask & other).count_nonzero()),
            "shared_binned": expected,
            "shared_variance": variance,
        }


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Tensors are measured side by side, each by one thread: those of one operation would wait for each other.

    Yields the number of threads that torch was set to.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def _run(jobs: Sequence[_Job], diff: _Diff, budget: float) -> list[_Found]:
    """All jobs in order, side by side as far as threads and memory (bytes) allow; one alone may exceed the budget."""
    needs = [diff.memory(job) for job in jobs]
    with _one_thread_each() as default, ThreadPoolExecutor(workers := diff.options.threads or default) as pool:
        running: dict[Future[_Found], int] = {}
        futures = []
        try:
            for job, need in zip(jobs, needs, strict=True):
                while running and sum(running.values()) + need > budget:
                    _collect(running)
                future = pool.submit(diff.measure, job)
                running[future] = need
                futures.append(future)
                if len(running) >= workers:
                    _collect(running)
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _collect(running: dict[Future[_Found], int]) -> None:
    """Wait for a job to end; its error, if it had one, is raised."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        del running[future]
        future.result()


def diff_checkpoints(
    base: Checkpoint,
    tuned: Sequence[Checkpoint],
    options: DiffOptions = DiffOptions(),  # noqa: B008
    progress: Progress | None = None,
) -> DiffResult:
    """Measure fine-tuned checkpoints against the base that they started from, one tensor at a time.

    Tensors with NaN or infinities are left out and named in a note.

    Raises:
        DiffError: nothing can be compared, ``options.only`` fits nothing, or a tensor exceeds ``options.max_memory``.
        CheckpointError: see :mod:`rlscape.tools.weights.checkpoints`.
    """
    jobs, notes = _plan(base, tuned, options)
    total = sum(job.work for job in jobs)
    lock = threading.Lock()

    def advance(done: int) -> None:
        if progress:
            with lock:
                progress(done, total)

    diff = _Diff(base, tuned, options, advance)
    found = _run(jobs, diff, (options.max_memory or SIDE_BY_SIDE) * GIB - FIXED_BYTES)
    not_finite: dict[str, list[str]] = defaultdict(list)
    for name, label in (pair for each in found for pair in each.not_finite):
        not_finite[name].append(label)
    notes += [f"{name}: {listed(labels)} with NaN or infinities left out" for name, labels in not_finite.items()]
    if not (rows := [row for each in found for row in each.rows]):
        raise DiffError("; ".join([f"{base.name}: no tensor could be compared", *notes]))
    tensors = tensor_table(rows)
    pairs = pair_table([pair for each in found for pair in each.pairs])
    return DiffResult(tensors, summarise_kinds(tensors), pairs, (*notes, *remarks(tensors)), diff.clock.seconds)
