"""What the generator decodes with: a policy's weights and the keys and values of the sequences in flight.

Compiled for a dense decoder on a CPU, else on torch (:class:`TorchDecoding`). Both write the same values up to the
order of sums, each into a cache of its own layout.
"""

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from os.path import commonprefix
from typing import Any, Protocol

import torch
from torch import Tensor

from rlscape.errors import CheckpointError
from rlscape.kernels.decoding import DecoderWeights, LayerWeights, padded, panels
from rlscape.kernels.functions import has_kernels
from rlscape.kernels.library import library
from rlscape.models.config import DecoderConfig, MixtureConfig
from rlscape.models.decoder import DenseWeights, Weights
from rlscape.rl.cache import SlotCache, UntouchedZeros


class Decoding(Protocol):
    """Rows of a cache, the active ones first, and the weights that read and write it.

    Rows may have been written by older weights: after a weight swap the stale entries stay, as in PipelineRL.
    """

    def load(self, weights: Weights) -> None:
        """Compute with a copy of ``weights`` from now on; the one before is freed."""

    def prefill(self, contexts: Sequence[Sequence[int]], first_row: int) -> None:
        """Write tokens from position 0 on to a row for each context."""

    def decode(self, ids: Tensor, positions: Tensor) -> Tensor:
        """The head's inputs (rows, hidden_size) of one token per row, the first ``len(ids)``, at ``positions``."""

    def move(self, sources: Tensor, targets: Tensor, length: int) -> None:
        """Overwrite rows ``targets`` with the first ``length`` positions of rows ``sources``."""

    def clear(self) -> None:
        """Nothing in the rows is needed any more; the memory of a large cache is given back until its next use."""

    def state_dict(self, rows: int) -> dict[str, Any]:
        """The weights, and a copy of the first rows."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Overwrite the weights and the first rows."""


def make_decoding(weights: Weights, slots: int, longest: int) -> Decoding:
    """A cache of ``slots`` rows of up to ``longest`` positions, and ``weights``.

    Raises:
        CheckpointError: the model has fewer positions.
    """
    if longest > weights.config.max_position_embeddings:
        raise CheckpointError(
            f"sequences may have {longest} tokens, prompt included, but the base model has "
            f"max_position_embeddings: {weights.config.max_position_embeddings}; lower thinking_tokens or answer_tokens"
        )
    if has_kernels(weights.embedding) and not isinstance(weights.config, MixtureConfig):
        return CompiledDecoding(weights, slots, longest)
    return TorchDecoding(weights, slots, longest)


class TorchDecoding:
    """The model's own forward pass over a :class:`SlotCache`."""

    def __init__(self, weights: Weights, slots: int, longest: int) -> None:
        config = weights.config
        self.load(weights)
        self.cache = SlotCache(config.num_hidden_layers, slots, config.num_key_value_heads, longest, config.head_dim)

    def load(self, weights: Weights) -> None:
        self.weights = _copied(weights)

    def prefill(self, contexts: Sequence[Sequence[int]], first_row: int) -> None:
        width = max(map(len, contexts))
        ids = torch.zeros(len(contexts), width, dtype=torch.long)
        for row, context in enumerate(contexts):
            ids[row, : len(context)] = torch.tensor(context)
        attend = self.cache.prefill(len(contexts), first_row)
        self.weights.hidden_states(ids.flatten(), torch.arange(width).repeat(len(contexts)), attend)

    def decode(self, ids: Tensor, positions: Tensor) -> Tensor:
        return self.weights.hidden_states(ids, positions, self.cache.decode(positions))

    def move(self, sources: Tensor, targets: Tensor, length: int) -> None:
        self.cache.move(sources, targets, length)

    def clear(self) -> None:
        self.cache.memory.give_back()

    def state_dict(self, rows: int) -> dict[str, Any]:
        return {"weights": list(_tensors_in(self.weights)), "cache": self.cache.data[:, :, :rows].clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _overwrite(_tensors_in(self.weights), state["weights"])
        self.cache.data[:, :, : state["cache"].shape[2]] = state["cache"]


class CompiledDecoding:
    """One call of ``kernels/decoding.cpp`` per token; what it reads of a sequence lies in pages."""

    def __init__(self, weights: Weights, slots: int, longest: int) -> None:
        compiled = library()
        assert compiled is not None
        self.compiled = compiled
        self.panel = compiled.panel()
        config = weights.config
        self.pages = padded(longest, self.panel) // self.panel
        page = config.num_key_value_heads * compiled.floats_of_page(config.head_dim)
        self.slots = slots
        self.memory = UntouchedZeros(config.num_hidden_layers, slots, self.pages, page)
        self.cache = self.memory.tensor
        self.load(weights)

    def load(self, weights: Weights) -> None:
        config: DecoderConfig = weights.config
        self.tensors: list[Tensor] = []  # the earlier ones make room
        tensors = self.tensors

        def address(x: Tensor | None) -> int | None:
            if x is None:
                return None
            tensors.append(x.detach().clone(memory_format=torch.contiguous_format))
            return tensors[-1].data_ptr()

        def panelled(x: Tensor) -> int:
            tensors.append(panels(x.detach(), self.panel))  # a copy
            return tensors[-1].data_ptr()

        reach = min(self.pages * self.panel, config.max_position_embeddings)
        cosine, sine = weights.rotations.upto(reach)
        layers = (LayerWeights * config.num_hidden_layers)()
        for index, layer in enumerate(weights.layers):
            assert isinstance(layer.mlp, DenseWeights)
            layers[index] = LayerWeights(
                qkv=panelled(layer.qkv),
                o=panelled(layer.o),
                gate_up=panelled(layer.mlp.gate_up),
                down=panelled(layer.mlp.down),
                qkv_bias=address(layer.qkv_bias),
                o_bias=address(layer.o_bias),
                attention_norm=address(layer.attention_norm),
                mlp_norm=address(layer.mlp_norm),
                qk_norm=address(layer.qk_norm),
                cache=self.cache[index].data_ptr(),
            )
        addresses = DecoderWeights(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            size=config.head_dim,
            slots=self.slots,
            pages=self.pages,
            vocabulary=config.vocab_size,
            rounded=weights.precision == "bf16",
            epsilon=config.rms_norm_eps,
            embedding=address(weights.embedding),
            norm=address(weights.norm),
            cosine=address(cosine),
            sine=address(sine),
            layer=layers,
        )
        self.weights = addresses  # into the tensors
        self.hidden_size = config.hidden_size

    def prefill(self, contexts: Sequence[Sequence[int]], first_row: int) -> None:
        # What all begin with, such as a system message, is computed for the first and copied, in whole pages.
        shared = len(commonprefix([list(context) for context in contexts])) // self.panel * self.panel
        if len(contexts) == 1 or not shared:
            self._write(contexts, first_row, 0)
            return
        self._write(contexts[:1], first_row, 0)
        others = torch.arange(first_row + 1, first_row + len(contexts))
        self.move(torch.full_like(others, first_row), others, shared)
        self._write(contexts[1:], first_row + 1, shared)

    def _write(self, contexts: Sequence[Sequence[int]], first_row: int, start: int) -> None:
        """A row for each of some contexts, from position ``start`` on."""
        lengths = torch.tensor([len(context) - start for context in contexts])
        rows = torch.arange(first_row, first_row + len(contexts)).repeat_interleave(lengths)
        positions = torch.cat([torch.arange(start, len(context)) for context in contexts])
        self._forward(torch.tensor([token for context in contexts for token in context[start:]]), positions, rows)

    def decode(self, ids: Tensor, positions: Tensor) -> Tensor:
        return self._forward(ids, positions, torch.arange(len(ids)))

    def _forward(self, ids: Tensor, positions: Tensor, rows: Tensor) -> Tensor:
        hidden = torch.empty(len(ids), self.hidden_size)
        numbers = [tensor.to(torch.int64).contiguous() for tensor in (ids, positions, rows)]
        addresses = (tensor.data_ptr() for tensor in (*numbers, hidden))
        if self.compiled.decode(ctypes.byref(self.weights), len(ids), *addresses):
            raise IndexError(
                f"a token, a position or a row out of range: the model has {self.weights.vocabulary} tokens, the cache "
                f"{self.slots} rows of {self.pages * self.panel} positions"
            )
        return hidden

    def move(self, sources: Tensor, targets: Tensor, length: int) -> None:
        addresses = sources.data_ptr(), targets.data_ptr()
        self.compiled.copy_slots(ctypes.byref(self.weights), len(sources), *addresses, length)

    def clear(self) -> None:
        self.memory.give_back()

    def state_dict(self, rows: int) -> dict[str, Any]:
        return {"weights": self.tensors, "cache": self.cache[:, :rows].clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _overwrite(self.tensors, state["weights"])
        self.cache[:, : state["cache"].shape[1]] = state["cache"]


def _copied(weights: Any) -> Any:
    """The same, of tensors of its own."""
    if isinstance(weights, Tensor):
        return weights.detach().clone()
    if isinstance(weights, list):
        return [_copied(part) for part in weights]
    if is_dataclass(weights) and not isinstance(weights, type):
        return replace(weights, **{part.name: _copied(getattr(weights, part.name)) for part in fields(weights)})
    return weights


def _tensors_in(weights: Any) -> Iterator[Tensor]:
    """Of a dataclass, of lists of them and so on, in order."""
    if isinstance(weights, Tensor):
        yield weights
    elif isinstance(weights, list):
        for part in weights:
            yield from _tensors_in(part)
    elif is_dataclass(weights):
        for part in fields(weights):
            yield from _tensors_in(getattr(weights, part.name))


@torch.no_grad()
def _overwrite(tensors: Iterable[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, saved in zip(tensors, values, strict=True):
        tensor.copy_(saved)
