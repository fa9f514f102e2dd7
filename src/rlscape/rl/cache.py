"""Keys and values of the sequences in flight: one allocation, rows that come and go.

Every row has its own length, rows are admitted and removed at any time, and the active rows are always the first
ones, so that decoding never copies the cache.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rlscape.models.decoder import Attend


def untouched_zeros(*shape: int) -> Tensor:
    """Zeros in fp32 whose memory, on a CPU, is taken when it is used: few rows ever have the greatest length."""
    if torch.get_default_device().type == "cpu":
        return torch.from_numpy(np.zeros(shape, np.float32))
    return torch.zeros(shape)


class SlotCache:
    """Preallocated keys and values: (layers, 2, slots, kv_heads, max_length, head_dim)."""

    def __init__(self, layers: int, slots: int, kv_heads: int, max_length: int, head_dim: int) -> None:
        self.data = untouched_zeros(layers, 2, slots, kv_heads, max_length, head_dim)

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
