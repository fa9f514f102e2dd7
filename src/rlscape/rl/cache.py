"""Keys and values of the sequences in flight: one allocation, rows that come and go.

Every row has its own length, rows are admitted and removed at any time, and the active rows are always the first
ones, so that decoding never copies the cache.
"""

import ctypes
import math
import mmap
from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import Tensor

from rlscape.models.decoder import Attend

LARGE = 2**26
"""Bytes from which memory is worth giving back: to take it anew costs time, page by page."""


class UntouchedZeros:
    """Zeros in fp32 whose memory, on a CPU, is taken when it is used: few rows ever have the greatest length.

    They lie in a map of their own, since what is freed in the C library's heap stays with the process. What lies freed
    there when a large one is made goes back first.
    """

    def __init__(self, *shape: int) -> None:
        self._pages: mmap.mmap | None = None
        size = 4 * math.prod(shape)
        if torch.get_default_device().type != "cpu" or not size or not hasattr(mmap, "MADV_DONTNEED"):
            self.tensor = torch.zeros(shape)
            return
        if size >= LARGE:
            with suppress(AttributeError, OSError):  # another C library than glibc
                ctypes.CDLL(None).malloc_trim(0)
        self._pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without large pages
                self._pages.madvise(mmap.MADV_HUGEPAGE)
        self.tensor = torch.frombuffer(self._pages, dtype=torch.float32).view(shape)

    def give_back(self) -> None:
        """What was written is not needed any more: let the system have the memory until the next use, if it is much."""
        if self._pages is not None and len(self._pages) >= LARGE:
            with suppress(OSError):  # pages that are locked
                self._pages.madvise(mmap.MADV_DONTNEED)


class SlotCache:
    """Preallocated keys and values: (layers, 2, slots, kv_heads, max_length, head_dim)."""

    def __init__(self, layers: int, slots: int, kv_heads: int, max_length: int, head_dim: int) -> None:
        self.memory = UntouchedZeros(layers, 2, slots, kv_heads, max_length, head_dim)
        self.data = self.memory.tensor

    def decode(self, positions: Tensor) -> Attend:
        """Attention of one token per active row, the first ``len(positions)``, written at ``positions`` (active,)."""
        kv_heads, max_length, head_dim = self.data.shape[3:]
        active, length = len(positions), int(positions.max()) + 1
        matrices = torch.arange(active * kv_heads)
        at = matrices * max_length + positions.repeat_interleave(kv_heads)
        bias = torch.where(torch.arange(length) <= positions[:, None], 0.0, -torch.inf)
        bias = bias.repeat_interleave(kv_heads, 0)[:, None]

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            for stored, new in zip(self.data[layer], (keys, values), strict=True):
                stored.flatten(0, 2).index_copy_(0, at, new.flatten(0, 1))
            stored_keys, stored_values = self.data[layer, :, :active].flatten(1, 2)[:, :, :length]
            # One product per key head; the queries that share it are its rows.
            shared = queries.reshape(active * kv_heads, -1, head_dim)
            scores = torch.baddbmm(bias, shared, stored_keys.transpose(1, 2), alpha=head_dim**-0.5)
            return torch.bmm(scores.softmax(-1), stored_values).view(active, -1)

        return attend

    def prefill(self, prompts: int, first_row: int) -> Attend:
        """Causal attention within ``prompts`` contexts of equal padded length, written to a row each."""
        rows = slice(first_row, first_row + prompts)

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            q, k, v = (part.unflatten(0, (prompts, -1)).transpose(1, 2) for part in (queries, keys, values))
            for stored, new in zip(self.data[layer], (k, v), strict=True):
                stored[rows, :, : new.shape[2]] = new
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            return attended.transpose(1, 2).flatten(0, 1).flatten(1)

        return attend

    def move(self, sources: Tensor, targets: Tensor, length: int) -> None:
        """Overwrite rows ``targets`` with the first ``length`` entries of rows ``sources``."""
        for stored in self.data.flatten(0, 1):
            stored[targets, :, :length] = stored[sources, :, :length]
