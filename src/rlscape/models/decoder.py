"""The decoder that the engine runs on packed tokens, equal to ``transformers``' Qwen3, Qwen3-MoE, Llama and Mistral.

Parameters have the names of ``transformers`` checkpoints, so ``state_dict`` and ``load_state_dict`` go both ways.
What differs is the work: tokens lie end to end without padding, query, key and value come from one product, and
who attends to what is the caller's (:data:`Attend`): training, prefill and decoding share one forward pass.
Importing the stock models takes longer than importing torch; a training job needs neither them nor a tokenizer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator
from torch import Tensor, nn

from rlscape.errors import CheckpointError
from rlscape.files import read_json
from rlscape.kernels import functions as kernels
from rlscape.models.functions import (
    Keep,
    norm_rotate,
    rms_norm,
    rotations,
    swiglu,
    to_bf16_values,
    unchanged,
)
from rlscape.settings.base_model import Architecture
from rlscape.settings.precision import Precision

WEIGHTS = "model.safetensors"

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries (T, heads, d), keys (T, kv_heads, d), values (T, kv_heads, d)) -> (T, heads * d)."""


class RopeParameters(BaseModel):
    rope_theta: float
    rope_type: Literal["default"] = "default"


class DecoderConfig(BaseModel):
    """What the engine reads of a checkpoint's ``config.json``; values that it cannot run are refused."""

    model_type: Architecture
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int = Field(multiple_of=2)
    rms_norm_eps: float
    rope_parameters: RopeParameters
    max_position_embeddings: int
    hidden_act: Literal["silu"] = "silu"
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    tie_word_embeddings: Literal[False] = False
    sliding_window: int | None = None
    """Never reached: sequences are shorter."""

    @field_validator("num_key_value_heads")
    @classmethod
    def _shared_evenly(cls, value: int, info: ValidationInfo) -> int:
        heads = info.data.get("num_attention_heads", value)
        if value < 1 or heads % value:
            raise ValueError(f"num_attention_heads ({heads}) is not a multiple of it")
        return value

    @property
    def qk_norms(self) -> bool:
        """Whether queries and keys are normalised."""
        match self.model_type:
            case "qwen3" | "qwen3_moe":
                return True
            case "llama" | "mistral":
                return False
            case _:
                assert_never(self.model_type)

    @staticmethod
    def parse(values: Mapping[str, Any]) -> "DecoderConfig":
        """Raises ValidationError: not a model that the engine knows."""
        architecture: Any = values.get("model_type")
        return CONFIGS.get(architecture, DecoderConfig).model_validate(values)

    @classmethod
    def read(cls, path: Path) -> "DecoderConfig":
        """Raises CheckpointError: not a model that the engine knows."""
        try:
            config = cls.parse(read_json(path))
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(map(str, problem["loc"]))
            raise CheckpointError(f"{path}: {key}: {problem['msg']} (found {problem['input']!r})") from None
        if config.sliding_window is not None and config.sliding_window < config.max_position_embeddings:
            raise CheckpointError(f"{path}: sliding_window: a window shorter than max_position_embeddings")
        return config


class MixtureConfig(DecoderConfig):
    """A mixture of experts in every layer; ``intermediate_size`` is of no account."""

    num_local_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    norm_topk_prob: Literal[True]
    decoder_sparse_step: Literal[1]
    mlp_only_layers: tuple[()]


CONFIGS: dict[Architecture, type[DecoderConfig]] = {
    "qwen3": DecoderConfig,
    "qwen3_moe": MixtureConfig,
    "llama": DecoderConfig,
    "mistral": DecoderConfig,
}


class Linear(nn.Linear):
    """A matrix whose values come from a checkpoint."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

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
        self.q_proj = Linear(config.hidden_size, queries)
        self.k_proj = Linear(config.hidden_size, keys)
        self.v_proj = Linear(config.hidden_size, keys)
        self.o_proj = Linear(queries, config.hidden_size)
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
    qk_norm: Tensor | None
    """(heads + kv_heads, head_dim), or None where the architecture has none."""
    o: Tensor
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
    cosine: Tensor
    sine: Tensor

    def hidden_states(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """The head's inputs (T, hidden_size) for packed tokens ``ids`` (T,) at ``positions`` (T,)."""
        config, epsilon = self.config, self.config.rms_norm_eps
        heads, kv_heads, dimensions = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        cosine, sine = self.cosine.index_select(0, positions), self.sine.index_select(0, positions)
        keep = _keep(self.precision)

        def linear(x: Tensor, weight: Tensor) -> Tensor:
            return keep(F.linear(x, weight))

        x = F.embedding(ids, self.embedding)
        for index, layer in enumerate(self.layers):
            normed = keep(rms_norm(x, layer.attention_norm, epsilon))
            qk, values = (
                linear(normed, layer.qkv).unflatten(-1, (-1, dimensions)).split((heads + kv_heads, kv_heads), 1)
            )
            qk = norm_rotate(qk, layer.qk_norm, cosine, sine, epsilon, keep)
            queries, keys = qk.split((heads, kv_heads), 1)
            x = keep(x + linear(keep(attend(index, queries, keys, values)), layer.o))
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
    """Parameters of a causal language model; :meth:`weights` is what to compute with."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self._cosine, self._sine = rotations(
            config.max_position_embeddings, config.head_dim, config.rope_parameters.rope_theta
        )

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

        def joined(*modules: Any) -> Tensor:
            parts = [module.weight for module in modules]
            return keep(parts[0] if len(parts) == 1 else torch.cat(parts))

        def qk_norm(attention: Any) -> Tensor | None:
            if not config.qk_norms:
                return None
            rows = [attention.q_norm.weight] * config.num_attention_heads
            return keep(torch.stack(rows + [attention.k_norm.weight] * config.num_key_value_heads))

        layers: list[Any] = list(self.model.layers)
        return Weights(
            config,
            precision,
            joined(self.model.embed_tokens),
            [
                LayerWeights(
                    qkv=joined(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                    qk_norm=qk_norm(layer.self_attn),
                    o=joined(layer.self_attn.o_proj),
                    mlp=layer.mlp.weights(keep),
                    attention_norm=joined(layer.input_layernorm),
                    mlp_norm=joined(layer.post_attention_layernorm),
                )
                for layer in layers
            ],
            joined(self.model.norm),
            self._cosine,
            self._sine,
        )
