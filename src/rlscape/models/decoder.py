"""The decoder that the engine runs on packed tokens, equal to ``transformers``' Qwen2 and 3, Qwen3-MoE, Llama, Mistral.

Parameters have the names of ``transformers`` checkpoints, so ``state_dict`` and ``load_state_dict`` go both ways.
What differs is the work: tokens lie end to end without padding, query, key and value come from one product, and
who attends to what is the caller's (:data:`Attend`): training, prefill and decoding share one forward pass.
Importing the stock models takes longer than importing torch; a training job needs neither them nor a tokenizer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlscape.kernels import functions as kernels
from rlscape.models.config import DecoderConfig, MixtureConfig
from rlscape.models.functions import (
    Keep,
    Rotations,
    norm_rotate,
    rms_norm,
    rotations,
    swiglu,
    to_bf16_values,
    unchanged,
)
from rlscape.models.weight_files import HEAD
from rlscape.settings.precision import Precision

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries (T, heads, d), keys (T, kv_heads, d), values (T, kv_heads, d)) -> (T, heads * d)."""


class Linear(nn.Linear):
    """A matrix, and a bias if there is one, whose values come from a checkpoint."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias=bias)

    def reset_parameters(self) -> None:
        """Not now: drawing values that a checkpoint replaces takes time."""


class Embedding(nn.Embedding):
    """A table whose values come from a checkpoint."""

    def reset_parameters(self) -> None:
        """As :class:`Linear`."""


class Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = Linear(config.hidden_size, queries, config.qkv_biases)
        self.k_proj = Linear(config.hidden_size, keys, config.qkv_biases)
        self.v_proj = Linear(config.hidden_size, keys, config.qkv_biases)
        self.o_proj = Linear(queries, config.hidden_size, config.o_biases)
        if config.qk_norms:
            self.q_norm = Norm(config.head_dim)
            self.k_norm = Norm(config.head_dim)


class MLP(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def weights(self, keep: Keep) -> "DenseWeights":
        return DenseWeights(
            gate_up=keep(torch.cat((self.gate_proj.weight, self.up_proj.weight))), down=keep(self.down_proj.weight)
        )


class Experts(nn.Module):
    """Matrices of all experts, one upon the other."""

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__()
        experts, size, hidden_size = config.num_local_experts, config.moe_intermediate_size, config.hidden_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * size, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden_size, size))


class Mixture(nn.Module):
    def __init__(self, config: MixtureConfig) -> None:
        super().__init__()
        self.experts = Experts(config)
        self.gate = Linear(config.hidden_size, config.num_local_experts)
        self.experts_per_token = config.num_experts_per_tok

    @property
    def idle_parameters(self) -> int:
        """How many parameters a token does not use: those of the experts that it is not sent to."""
        return sum(parameter[self.experts_per_token :].numel() for parameter in self.experts.parameters())

    def weights(self, keep: Keep) -> "MixtureWeights":
        return MixtureWeights(
            router=keep(self.gate.weight),
            gate_up=keep(self.experts.gate_up_proj),
            down=keep(self.experts.down_proj),
            experts_per_token=self.experts_per_token,
        )


class Layer(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Mixture(config) if isinstance(config, MixtureConfig) else MLP(config)
        self.input_layernorm = Norm(config.hidden_size)
        self.post_attention_layernorm = Norm(config.hidden_size)


class Backbone(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size)


@dataclass(frozen=True)
class DenseWeights:
    """A gated perceptron: gate and up (2 f, d), down (d, f)."""

    gate_up: Tensor
    down: Tensor

    def __call__(self, x: Tensor, keep: Keep) -> Tensor:
        """(T, d) to (T, d)."""
        compiled = keep is unchanged and kernels.has_kernels(x, self.gate_up, self.down)
        if compiled and kernels.suits_perceptron(*self.down.shape):
            return kernels.GatedPerceptron.apply(x, self.gate_up, self.down)  # type: ignore[no-any-return]
        return keep(F.linear(keep(swiglu(keep(F.linear(x, self.gate_up)))), self.down))


@dataclass(frozen=True)
class MixtureWeights:
    """Gated perceptrons of which every token uses a few: router (E, d), gate and up (E, 2 f, d), down (E, d, f)."""

    router: Tensor
    gate_up: Tensor
    down: Tensor
    experts_per_token: int

    def __call__(self, x: Tensor, keep: Keep) -> Tensor:
        """(T, d) to (T, d). Pairs of a token and its expert are sorted by expert: one product for each expert."""
        probabilities, experts = keep(F.linear(x, self.router)).softmax(-1).topk(self.experts_per_token)
        shares = keep(probabilities / probabilities.sum(-1, keepdim=True))
        order = experts.flatten().argsort(stable=True)
        counts = experts.flatten().bincount(minlength=len(self.router)).tolist()

        def linear(rows: Tensor, weights: Tensor) -> Tensor:
            parts = zip(rows.split(counts), weights.unbind(), strict=True)
            return keep(torch.cat([F.linear(part, weight) for part, weight in parts]))

        rows = linear(x.index_select(0, order // self.experts_per_token), self.gate_up)
        rows = linear(keep(swiglu(rows)), self.down)
        by_token = rows.index_select(0, order.argsort()).unflatten(0, (-1, self.experts_per_token))
        return keep(keep(by_token * shares[..., None]).sum(1))


@dataclass(frozen=True)
class LayerWeights:
    """One layer as it is computed with."""

    qkv: Tensor
    qkv_bias: Tensor | None
    """(queries + 2 keys,), or None where the model has none."""
    qk_norm: Tensor | None
    """(heads + kv_heads, head_dim), or None where the architecture has none."""
    o: Tensor
    o_bias: Tensor | None
    mlp: DenseWeights | MixtureWeights
    attention_norm: Tensor
    mlp_norm: Tensor


@dataclass(frozen=True)
class Weights:
    """A decoder's weights, joined where one product does the work of several.

    Under ``bf16`` everything that a bf16 model would store (weights, and the result of every step) is rounded.
    """

    config: DecoderConfig
    precision: Precision
    embedding: Tensor
    layers: list[LayerWeights]
    norm: Tensor
    rotations: Rotations

    def hidden_states(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """The head's inputs (T, hidden_size) for packed tokens ``ids`` (T,) at ``positions`` (T,)."""
        config, epsilon = self.config, self.config.rms_norm_eps
        heads, kv_heads, dimensions = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        cosine, sine = self.rotations.at(positions)
        keep = _keep(self.precision)

        def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return keep(F.linear(x, weight, bias))

        x = F.embedding(ids, self.embedding)
        for index, layer in enumerate(self.layers):
            normed = keep(rms_norm(x, layer.attention_norm, epsilon))
            qkv = linear(normed, layer.qkv, layer.qkv_bias).unflatten(-1, (-1, dimensions))
            qk, values = qkv.split((heads + kv_heads, kv_heads), 1)
            qk = norm_rotate(qk, layer.qk_norm, cosine, sine, epsilon, keep)
            queries, keys = qk.split((heads, kv_heads), 1)
            x = keep(x + linear(keep(attend(index, queries, keys, values)), layer.o, layer.o_bias))
            normed = keep(rms_norm(x, layer.mlp_norm, epsilon))
            x = keep(x + layer.mlp(normed, keep))
        return keep(rms_norm(x, self.norm, epsilon))


def _keep(precision: Precision) -> Keep:
    match precision:
        case "bf16":
            return to_bf16_values
        case "fp32":
            return unchanged
        case _:
            assert_never(precision)


class Decoder(nn.Module):
    """Parameters of a causal language model; :meth:`weights` is what to compute with.

    Where the head is tied to the embedding, ``lm_head`` is ``model.embed_tokens``: one parameter, and one tensor of
    the ``state_dict``, that of the embedding.
    """

    lm_head: Linear | Embedding

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        if config.tie_word_embeddings:
            object.__setattr__(self, "lm_head", self.model.embed_tokens)  # a name, not a second module
        else:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        rope = config.rope_parameters
        tables = partial(rotations, dimensions=config.head_dim, theta=rope.rope_theta, scaled=rope.scaled)
        self._rotations = Rotations(tables, config.max_position_embeddings)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As every module's; a tied head may come with the embedding, as ``transformers``' models have it."""
        if self.config.tie_word_embeddings:
            state_dict = {name: values for name, values in state_dict.items() if name != HEAD}
        return super().load_state_dict(state_dict, strict, assign)

    @property
    def active_parameters(self) -> int:
        """How many parameters one token uses: all, but of a mixture's experts only those that it is sent to.

        A token costs about twice as many floating-point operations forward, and four times as many backward.
        """
        idle = sum(module.idle_parameters for module in self.modules() if isinstance(module, Mixture))
        return sum(parameter.numel() for parameter in self.parameters()) - idle

    def weights(self, precision: Precision = "fp32") -> Weights:
        """The backbone's weights, differentiable with respect to the parameters."""
        config, keep = self.config, _keep(precision)

        def joined(*parts: Any) -> Tensor:
            return keep(parts[0] if len(parts) == 1 else torch.cat(parts))

        def qk_norm(attention: Any) -> Tensor | None:
            if not config.qk_norms:
                return None
            rows = [attention.q_norm.weight] * config.num_attention_heads
            return keep(torch.stack(rows + [attention.k_norm.weight] * config.num_key_value_heads))

        def of_layer(layer: Any) -> LayerWeights:
            attention = layer.self_attn
            qkv = attention.q_proj, attention.k_proj, attention.v_proj
            return LayerWeights(
                qkv=joined(*(matrix.weight for matrix in qkv)),
                qkv_bias=joined(*(matrix.bias for matrix in qkv)) if config.qkv_biases else None,
                qk_norm=qk_norm(attention),
                o=joined(attention.o_proj.weight),
                o_bias=joined(attention.o_proj.bias) if config.o_biases else None,
                mlp=layer.mlp.weights(keep),
                attention_norm=joined(layer.input_layernorm.weight),
                mlp_norm=joined(layer.post_attention_layernorm.weight),
            )

        return Weights(
            config,
            precision,
            joined(self.model.embed_tokens.weight),
            [of_layer(layer) for layer in self.model.layers],
            joined(self.model.norm.weight),
            self._rotations,
        )
