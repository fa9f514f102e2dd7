"""A key-value cache whose rows come and go, usable by the stock ``transformers`` attention layers.

``DynamicCache`` appends to all rows alike. Here every row has its own length, rows are admitted and
removed at any time, and the active rows are always the first ones, so that decoding never copies the cache.
"""

import torch
from torch import Tensor


class SlotCache:
    """Preallocated keys and values: (layers, 2, slots, kv_heads, max_length, head_dim).

    ``begin`` announces where the next token of each active row is written; the model's layers then call
    ``update`` with one token per row. Rows may have been written by older weights: after a weight swap the
    stale entries stay, as in PipelineRL.
    """

    def __init__(
        self, layers: int, slots: int, kv_heads: int, max_length: int, head_dim: int, dtype: torch.dtype
    ) -> None:
        self.data = torch.zeros(layers, 2, slots, kv_heads, max_length, head_dim, dtype=dtype)
        self._positions = torch.empty(0, dtype=torch.long)
        self._rows = torch.empty(0, dtype=torch.long)
        self._length = 0

    def begin(self, positions: Tensor) -> Tensor:
        """Set the write positions (active,) of the next step; returns its attention mask (active, 1, 1, length)."""
        self._positions = positions
        self._rows = torch.arange(len(positions))
        self._length = int(positions.max()) + 1
        return (torch.arange(self._length) <= positions[:, None])[:, None, None, :]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object) -> tuple[Tensor, Tensor]:
        """Write one token per active row, (active, kv_heads, 1, head_dim); returns all keys and values so far."""
        active = len(self._rows)
        stored_keys, stored_values = self.data[layer]
        stored_keys[self._rows, :, self._positions] = keys[:, :, 0]
        stored_values[self._rows, :, self._positions] = values[:, :, 0]
        return stored_keys[:active, :, : self._length], stored_values[:active, :, : self._length]

    def insert(self, prompts: Tensor, first_row: int, copies: int) -> None:
        """Copy each prompt's entries (layers, 2, prompts, ...) into ``copies`` consecutive rows."""
        length = prompts.shape[-2]
        rows = slice(first_row, first_row + prompts.shape[2] * copies)
        self.data[:, :, rows, :, :length] = prompts.repeat_interleave(copies, dim=2)

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Overwrite rows ``targets`` with rows ``sources``."""
        self.data[:, :, targets] = self.data[:, :, sources]
