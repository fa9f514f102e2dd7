"""A training batch without padding and without repeated prompts: tokens end to end, each prompt there once.

All that depends on a token alone (embedding, norms, projections, feed-forward, head) runs over the packed tokens.
Only attention pads, and within blocks of completions of similar length; compiled, not even that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rlscape.kernels import functions as kernels

BLOCK = 32
"""Completions per attention block."""


@dataclass(frozen=True)
class _Block:
    """Segments that attend in one padded product: n segments, of which each sees its prompt and its own past."""

    queries: Tensor
    """(n * longest,) packed rows; padding repeats row 0."""
    keys: Tensor
    """(n * (longest prompt + longest),) packed rows."""
    bias: Tensor
    """(n, longest, keys per segment): 0 where a key is seen, else -inf."""
    filled: Tensor
    """(tokens,) places in ``queries`` that are no padding, in packed order."""


class Packing:
    """Groups of completions as one row of tokens: first the prompts, then the completions without their last token.

    Args:
        prompts: token ids of each prompt.
        completions: token ids (n,) of each completion, best sorted by length.
        prompt_of: the prompt of each completion.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], completions: Sequence[Tensor], prompt_of: Tensor) -> None:
        prompt_ids = torch.cat([torch.tensor(prompt) for prompt in prompts])
        prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
        prompt_starts = prompt_lengths.cumsum(0) - prompt_lengths
        tokens = torch.tensor([len(completion) for completion in completions])
        lengths = tokens - 1  # nothing is predicted from a completion's last token
        starts = len(prompt_ids) + lengths.cumsum(0) - lengths
        index = _positions(tokens)
        self.targets = torch.cat(list(completions))
        """(T,) every completion token, completion by completion."""
        self.ids = torch.cat((prompt_ids, self.targets[index < lengths.repeat_interleave(tokens)]))
        """(rows,) what the model reads."""
        self.positions = torch.cat(
            (_positions(prompt_lengths), _positions(lengths) + prompt_lengths[prompt_of].repeat_interleave(lengths))
        )
        """(rows,) place of each row in its sequence."""
        last_of_prompt = (prompt_starts + prompt_lengths - 1)[prompt_of]
        self.sources = torch.where(
            index == 0,
            last_of_prompt.repeat_interleave(tokens),
            starts.repeat_interleave(tokens) + index - 1,
        )
        """(T,) the row from which each target is predicted."""
        none = torch.zeros_like(prompt_starts)
        of_prompts = torch.stack((prompt_starts, prompt_lengths, none, none), 1)
        of_completions = torch.stack((starts, lengths, prompt_starts[prompt_of], prompt_lengths[prompt_of]), 1)
        self._segments = torch.cat((of_prompts, of_completions))
        """(n, 4), the prompts first: first row, length, and the same of the rows that all of a segment sees."""
        self._prompts = len(of_prompts)
        self._biases: list[Tensor] = []
        """Those of ``_blocks`` for every key head and each of the queries that share it."""

    @cached_property
    def _blocks(self) -> list[_Block]:
        prompts, completions = self._segments[: self._prompts], self._segments[self._prompts :]
        parts = [part for part in completions.split(BLOCK) if part[:, 1].any()]
        return [_block(*part.unbind(1)) for part in (prompts, *parts)]

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Causal attention of every row to its own sequence; shapes as in :data:`rlscape.models.decoder.Attend`."""
        if kernels.has_kernels(queries, keys, values):
            return kernels.Attention.apply(queries, keys, values, self._segments)  # type: ignore[no-any-return]
        kv_heads, dimensions = keys.shape[1:]
        # Head-major, so that a gathered block is a batch of matrices as it stands; the queries that share a key
        # head are rows of one product.
        q = queries.unflatten(1, (kv_heads, -1)).flatten(2).transpose(0, 1)
        k, v = keys.transpose(0, 1), values.transpose(0, 1)
        shared = q.shape[-1] // dimensions
        if not self._biases:  # the same in all layers
            self._biases = [block.bias.repeat_interleave(shared, 1).repeat(kv_heads, 1, 1) for block in self._blocks]
        results = []
        for block, bias in zip(self._blocks, self._biases, strict=True):
            segments, longest, seen = block.bias.shape
            block_q = q.index_select(1, block.queries).reshape(kv_heads * segments, longest * shared, dimensions)
            block_k, block_v = (
                part.index_select(1, block.keys).view(kv_heads * segments, seen, dimensions) for part in (k, v)
            )
            scores = torch.baddbmm(bias, block_q, block_k.transpose(1, 2), alpha=dimensions**-0.5)
            attended = torch.bmm(scores.softmax(-1), block_v).view(kv_heads, -1, shared * dimensions)
            results.append(attended.index_select(1, block.filled))
        return torch.cat(results, 1).transpose(0, 1).flatten(1)


def _positions(lengths: Tensor) -> Tensor:
    """0 .. n - 1 for each n of ``lengths``, end to end."""
    starts = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) - starts.repeat_interleave(lengths)


def _block(starts: Tensor, lengths: Tensor, seen_starts: Tensor, seen_lengths: Tensor) -> _Block:
    """Segments of consecutive rows from ``starts``, each of which sees all of its ``seen`` rows and its own past."""
    device = starts.device
    own, before = (torch.arange(int(counted.max()), device=device) for counted in (lengths, seen_lengths))
    real, seen = own < lengths[:, None], before < seen_lengths[:, None]
    queries = torch.where(real, starts[:, None] + own, 0)
    keys = torch.cat((torch.where(seen, seen_starts[:, None] + before, 0), queries), 1)
    visible = torch.cat(
        (
            seen[:, None].expand(-1, len(own), -1),
            (own <= own[:, None]).expand(len(starts), -1, -1),
        ),
        -1,
    )
    return _Block(
        queries.flatten(),
        keys.flatten(),
        torch.zeros(visible.shape, device=device).masked_fill_(~visible, -torch.inf),
        real.flatten().nonzero()[:, 0],
    )
