"""What the engine reads of a checkpoint's ``config.json``, as ``transformers`` 4 and 5 write it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator
from torch import Tensor

from rlscape.errors import CheckpointError
from rlscape.files import read_json
from rlscape.models.weight_files import require
from rlscape.settings.base_model import Architecture


class RopeParameters(BaseModel):
    """Frequencies of rotary positions, and how they are scaled."""

    rope_theta: float = 10_000.0
    rope_type: Literal["default", "linear", "llama3"] = "default"
    factor: float = Field(1.0, gt=0)
    low_freq_factor: float = Field(1.0, gt=0)
    high_freq_factor: float = Field(4.0, gt=0)
    original_max_position_embeddings: int = Field(8192, gt=0)

    @model_validator(mode="after")
    def _complete(self) -> "RopeParameters":
        needed = {"linear": {"factor"}, "llama3": {"factor", "low_freq_factor", "high_freq_factor"}}
        if missing := needed.get(self.rope_type, set()) - self.model_fields_set:
            raise ValueError(f"rope_type {self.rope_type} needs {', '.join(sorted(missing))}")
        return self

    def scaled(self, frequencies: Tensor) -> Tensor:
        """Radians per position (d / 2,) from the unscaled ones, as ``transformers`` computes them."""
        match self.rope_type:
            case "default":
                return frequencies
            case "linear":
                return frequencies / self.factor
            case "llama3":
                return self._low_ones_scaled(frequencies)
            case _:
                assert_never(self.rope_type)

    def _low_ones_scaled(self, frequencies: Tensor) -> Tensor:
        """Waves longer than one length are stretched, those shorter than another stay; between them a blend."""
        length, low, high = self.original_max_position_embeddings, self.low_freq_factor, self.high_freq_factor
        waves = 2 * math.pi / frequencies
        share = (length / waves - low) / (high - low)
        blend = (1 - share) * frequencies / self.factor + share * frequencies
        stretched = torch.where(waves > length / low, frequencies / self.factor, blend)
        return torch.where(waves < length / high, frequencies, stretched)


class DecoderConfig(BaseModel):
    """A decoder's shape; values that the engine cannot run are refused."""

    model_type: Architecture
    vocab_size: int
    hidden_size: int = Field(ge=1)
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(default_factory=lambda data: data["num_attention_heads"], validate_default=True)
    head_dim: int = Field(
        default_factory=lambda data: data["hidden_size"] // data["num_attention_heads"],
        multiple_of=2,
        validate_default=True,
    )
    rms_norm_eps: float
    max_position_embeddings: int
    rope_parameters: RopeParameters
    hidden_act: Literal["silu"] = "silu"
    attention_bias: bool = False
    mlp_bias: Literal[False] = False
    tie_word_embeddings: bool = False
    """Whether the head's matrix is the embedding."""
    sliding_window: int | None = None
    """Never reached: sequences are shorter."""

    @model_validator(mode="before")
    @classmethod
    def _as_written_today(cls, values: Any) -> Any:
        """What is null is absent; rotary positions where ``transformers`` 5 has them; a window only if it is used."""
        given = {key: value for key, value in values.items() if value is not None}
        rope = given.get("rope_parameters", given.get("rope_scaling", {}))
        if isinstance(rope, dict):
            outside = {"rope_theta": "rope_theta", "original_max_position_embeddings": "max_position_embeddings"}
            defaults = {key: given[other] for key, other in outside.items() if other in given}
            rope = defaults | {"rope_type": rope.get("type", "default")} | rope
        given["rope_parameters"] = rope
        if not given.get("use_sliding_window", given.get("model_type") == "mistral"):
            given.pop("sliding_window", None)
        return given

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
            case "llama" | "mistral" | "qwen2":
                return False
            case _:
                assert_never(self.model_type)

    @property
    def qkv_biases(self) -> bool:
        """Whether something is added to queries, keys and values."""
        match self.model_type:
            case "qwen2":
                return True
            case "llama" | "qwen3" | "qwen3_moe":
                return self.attention_bias
            case "mistral":
                return False
            case _:
                assert_never(self.model_type)

    @property
    def o_biases(self) -> bool:
        """The same of what attention hands on."""
        return self.qkv_biases and self.model_type != "qwen2"

    @staticmethod
    def parse(values: Mapping[str, Any]) -> "DecoderConfig":
        """Raises ValidationError: not a model that the engine knows."""
        architecture: Any = values.get("model_type")
        return CONFIGS.get(architecture, DecoderConfig).model_validate(values)

    @classmethod
    def read(cls, path: Path) -> "DecoderConfig":
        """Raises CheckpointError: no such file, not JSON, or not a model that the engine knows."""
        require(path)
        try:
            values = read_json(path)
        except ValueError as error:
            raise CheckpointError(f"{path}: not valid JSON ({error})") from None
        if (architecture := values.get("model_type")) not in CONFIGS:
            raise CheckpointError(
                f"{path}: model_type: not one that the engine runs (found {architecture!r}); "
                f"the engine knows {', '.join(sorted(CONFIGS))}"
            )
        try:
            config = cls.parse(values)
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
    "qwen2": DecoderConfig,
    "qwen3": DecoderConfig,
    "qwen3_moe": MixtureConfig,
    "llama": DecoderConfig,
    "mistral": DecoderConfig,
}
