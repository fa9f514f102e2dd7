"""Changes of an attention layer's weights that leave the model's function as it is (P2, Figure 6).

- Rotation: each KV group's value channels are turned by an orthogonal matrix, which the output projection undoes.
  Attention mixes positions, not value channels, so the layer computes what it did. Queries and keys cannot be
  turned so: their channels meet rotary positions and norm gains.
- Permutation: heads change places, in groups that share a key and value head; gains and positions are the same for
  all heads.

Paper: one rotation for all heads. Here: one per KV group, uniformly random (Haar), and a permutation that moves
every group. In every case a weight is multiplied by an orthogonal matrix ``A`` on the side of the heads,
``W' = A W`` for queries, keys and values and ``W' = W A^T`` for the output projection, so singular values stay, and
an update ``dW'`` of the changed model is read in the coordinates of the first one by the inverse.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rlscape.errors import ConfigError
from rlscape.models.build import snap_to_bf16_
from rlscape.models.config import DecoderConfig
from rlscape.models.decoder import Decoder
from rlscape.random_matrices import haar_orthogonal
from rlscape.settings.measurement import Intervention, LayerEdit

INTERVENTION_FILE = "intervention.json"
"""In the directory of a changed base: its settings, and how exact the change is."""

ChannelMaps = dict[str, Tensor]
"""Projection (``q_proj`` ...) -> its orthogonal ``A``, float64."""


def rotate_value_output(rotations: Tensor, repeats: int) -> ChannelMaps:
    """``W_v' = R_kv^T W_v`` and ``W_o' = W_o R_q``.

    Args:
        rotations: orthogonal ``R_g`` of every KV group, ``[kv_heads, head_dim, head_dim]``.
        repeats: query heads per KV head.
    """
    return {
        "v_proj": torch.block_diag(*rotations.mT),
        "o_proj": torch.block_diag(*rotations.mT.repeat_interleave(repeats, 0)),
    }


def permute_heads(order: Tensor, repeats: int, head_dim: int) -> ChannelMaps:
    """``W' = P W`` for queries, keys and values, and ``W_o' = W_o P_q^T``.

    Args:
        order: ``[kv_heads]``; group ``order[g]`` becomes group g.
        repeats: query heads per KV head.
    """
    groups = torch.eye(len(order), dtype=torch.float64)[order]
    shared, single = (torch.kron(groups, torch.eye(n * head_dim, dtype=torch.float64)) for n in (1, repeats))
    return {"q_proj": single, "k_proj": shared, "v_proj": shared, "o_proj": single}


def derangement(size: int, generator: torch.Generator) -> Tensor:
    """A uniformly random permutation ``[size]`` that leaves nothing in its place.

    Raises:
        ConfigError: of one thing there is none.
    """
    if size < 2:
        raise ConfigError("permute: one KV head has no other place; rotate only, or take a model with more kv_heads")
    while True:
        order = torch.randperm(size, generator=generator)
        if (order != torch.arange(size)).all():
            return order


def random_rotation(kv_heads: int, repeats: int, head_dim: int, generator: torch.Generator) -> ChannelMaps:
    """Of the value channels, a Haar rotation per KV group."""
    rotations = torch.stack([haar_orthogonal(head_dim, generator) for _ in range(kv_heads)])
    return rotate_value_output(rotations, repeats)


def random_permutation(kv_heads: int, repeats: int, head_dim: int, generator: torch.Generator) -> ChannelMaps:
    """Of the heads, no KV group in its place.

    Raises:
        ConfigError: there is one KV head.
    """
    return permute_heads(derangement(kv_heads, generator), repeats, head_dim)


@dataclass(frozen=True)
class Gauge:
    """The maps of one intervention on one architecture."""

    edited: dict[int, LayerEdit]
    """Layer -> what is done to it."""
    maps: ChannelMaps
    """By full module name, e.g. ``model.layers.4.self_attn.q_proj``."""

    @classmethod
    def of(cls, intervention: Intervention, config: DecoderConfig) -> "Gauge":
        """The same settings give the same maps.

        Raises:
            ConfigError: two edits fall on one layer, an edit does nothing, or there is one KV head to permute.
        """
        generator = torch.Generator().manual_seed(intervention.seed)
        kv_heads, head_dim = config.num_key_value_heads, config.head_dim
        repeats = config.num_attention_heads // kv_heads
        edited: dict[int, LayerEdit] = {}
        maps: ChannelMaps = {}
        for edit in intervention.edits:
            layer = int(edit.depth * config.num_hidden_layers)
            if layer in edited or not (edit.rotate or edit.permute):
                raise ConfigError(
                    f"intervention: depth {edit.depth:.3g} is layer {layer} of {config.num_hidden_layers}, which is "
                    "edited already or not at all; give each edit a layer of its own, and rotate or permute"
                )
            edited[layer] = edit
            steps: list[ChannelMaps] = []
            if edit.rotate:
                steps.append(random_rotation(kv_heads, repeats, head_dim, generator))
            if edit.permute:
                steps.append(random_permutation(kv_heads, repeats, head_dim, generator))
            for step in steps:
                for projection, matrix in step.items():
                    module = f"model.layers.{layer}.self_attn.{projection}"
                    maps[module] = matrix @ maps[module] if module in maps else matrix
        return cls(edited, maps)

    def apply(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights (and biases) of the changed model, computed in float64, in the dtypes of ``state``."""
        return self._map(state, inverse=False)

    def undo(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of :meth:`apply`; of an update too, since both are linear."""
        return self._map(state, inverse=True)

    def edit_of(self, tensor: str) -> str:
        """What is done to a tensor: ``none``, ``rotated``, ``permuted`` or ``rotated and permuted``."""
        module = tensor.removesuffix(".weight")
        if module not in self.maps:
            return "none"
        edit = self.edited[int(module.split(".")[2])]
        rotated = edit.rotate and module.endswith(("v_proj", "o_proj"))
        return " and ".join(word for word, done in (("rotated", rotated), ("permuted", edit.permute)) if done)

    def changes(self, tensor: str) -> bool:
        """Whether :meth:`apply` changes a tensor; the output projection's bias stays."""
        module, _, part = tensor.rpartition(".")
        return module in self.maps and not (module.endswith("o_proj") and part == "bias")

    def _map(self, state: Mapping[str, Tensor], inverse: bool) -> dict[str, Tensor]:
        mapped = dict(state)
        for name, values in state.items():
            if not self.changes(name):
                continue
            module = name.rpartition(".")[0]
            matrix = self.maps[module].mT if inverse else self.maps[module]
            product = values.double() @ matrix.mT if module.endswith("o_proj") else matrix @ values.double()
            mapped[name] = product.to(values.dtype)
        return mapped


@torch.no_grad()
def logits(model: Decoder, ids: Tensor) -> Tensor:
    """Next-token logits (n, t, vocabulary) of sequences (n, t), in the model's dtype."""

    def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q, k, v = (part.transpose(0, 1) for part in (queries, keys, values))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(0, 1).flatten(1)

    weights, positions = model.weights(), torch.arange(ids.shape[1])
    return torch.stack([F.linear(weights.hidden_states(row, positions, attend), model.lm_head.weight) for row in ids])


def changed_model(model: Decoder, gauge: Gauge) -> Decoder:
    """A copy of a model with its weights as :meth:`Gauge.apply` has them."""
    changed = copy.deepcopy(model)
    changed.load_state_dict(gauge.apply(model.state_dict()))
    return changed


def logit_differences(model: Decoder, gauge: Gauge, ids: Tensor) -> dict[str, float]:
    """The largest absolute change of a logit, by where it comes from, and ``scale``, the largest absolute logit.

    ``float64`` and ``fp32``: the map itself, computed so; ``bf16``: of the model whose weights are rounded to bf16
    again; ``rounding``: that model against the unrounded one.
    """
    changed, double = changed_model(model, gauge), copy.deepcopy(model).double()
    before, after = logits(model, ids), logits(changed, ids)
    exact = logits(changed_model(double, gauge), ids) - logits(double, ids)
    snap_to_bf16_(changed)
    rounded = logits(changed, ids)
    differences = {
        "float64": exact,
        "fp32": after - before,
        "bf16": rounded - before,
        "rounding": rounded - after,
        "scale": before,
    }
    return {name: difference.abs().max().item() for name, difference in differences.items()}
