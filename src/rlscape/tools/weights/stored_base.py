"""W0 as it is stored, swept in chunks; only the SVD holds a float32 copy of it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rlscape.tools.weights import low_rank
from rlscape.tools.weights.bf16_bins import MAGNITUDE, NOT_FINITE, Grid, bf16_bits, bins_of
from rlscape.tools.weights.diff_options import DiffOptions

LEAST_SIDE = 8
"""A matrix with a shorter side is treated as a vector."""
CHUNK = 1 << 20
"""Entries per step of a sweep."""


@dataclass
class Clock:
    """Seconds of work by kind, summed over threads."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("reading", "svd", "masks"), 0.0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def __call__(self, work: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        with self.lock:
            self.seconds[work] += time.perf_counter() - started


def chunks(matrix: Tensor) -> Iterator[slice]:
    rows, columns = matrix.shape
    step = max(1, CHUNK // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def upper_mask(scores: Tensor, density: float) -> Tensor:
    """The ``round(density * size)`` largest of non-negative float32 scores; entries equal to the least are all in.

    :func:`rlscape.geometry.masks.top_mask` without a sort: the order of floats is that of their bits, so a histogram
    of the upper 16 leaves few candidates for the threshold.
    """
    flat, count = scores.flatten(), round(density * scores.numel())
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    upper = torch.zeros(1 << 15, dtype=torch.int64)
    for part in flat.view(torch.int32).split(CHUNK):
        upper += torch.bincount(part >> 16, minlength=1 << 15)
    at_least = upper.flip(0).cumsum(0).flip(0)
    edge = int((at_least >= count).nonzero()[-1])
    candidates = torch.cat([part[(part >> 16) == edge] for part in flat.view(torch.int32).split(CHUNK)])
    above = int(at_least[edge]) - len(candidates)
    threshold = candidates.sort(descending=True).values[count - above - 1].view(torch.float32)
    return scores >= threshold


class StoredBase:
    """W0 ``[m, n]`` in its dtype of storage, with what every comparison against it needs, computed once."""

    def __init__(self, weights: Tensor, options: DiffOptions, clock: Clock) -> None:
        self.weights, self.options, self.clock = weights, options, clock
        with clock("masks"):
            self._sweep()

    def _sweep(self) -> None:
        size, energy, off_lattice = torch.zeros(MAGNITUDE + 1, dtype=torch.int64), 0.0, 0
        for rows in chunks(self.weights):
            chunk = self.weights[rows]
            values, bits = chunk.float(), bf16_bits(chunk)
            size += torch.bincount(bins_of(bits).flatten(), minlength=MAGNITUDE + 1)
            energy += float(torch.dot(values.flatten(), values.flatten()))
            if chunk.dtype != torch.bfloat16:
                off_lattice += int((bits.view(torch.bfloat16) != values).count_nonzero())
        self.energy, self.off_lattice = energy, off_lattice
        self.finite = not size[NOT_FINITE:].any()
        self.grid = Grid(size[:NOT_FINITE].numpy(), off_lattice == 0)

    @property
    def is_matrix(self) -> bool:
        return min(self.weights.shape) >= LEAST_SIDE and self.energy > 0

    @property
    def rank(self) -> int:
        return self.options.rank_of(*self.weights.shape)

    @property
    def exact(self) -> bool:
        return self.options.is_exact(*self.weights.shape)

    def decompose(self, weights: Tensor) -> tuple[low_rank.TopSVD, Tensor | None]:
        """The top k triples of W0 or of a W+ by the same method; all singular values too if that is exact."""
        with self.clock("svd"):
            if self.exact:
                return low_rank.exact_svd(weights, self.rank)
            return low_rank.top_svd(weights.float(), self.rank), None

    @cached_property
    def _decomposition(self) -> tuple[low_rank.TopSVD, Tensor | None]:
        return self.decompose(self.weights)

    @property
    def svd(self) -> low_rank.TopSVD:
        return self._decomposition[0]

    @property
    def singular_values(self) -> Tensor | None:
        return self._decomposition[1]

    @cached_property
    def principal(self) -> Tensor:
        """M_princ, bool ``[m, n]``."""
        svd = self.svd
        with self.clock("masks"):
            return upper_mask(((svd.U * svd.S).float() @ svd.Vh.float()).abs_(), self.options.density)

    @cached_property
    def low(self) -> np.ndarray:
        """The bins of M_low, bool ``[bins]``: as many of the smallest as come closest to alpha."""
        share = np.cumsum(self.grid.size) / self.grid.size.sum()
        return np.arange(len(share)) <= np.argmin(np.abs(share - self.options.density))
