"""A base model: its shape and how it is pretrained."""

from typing import Literal, assert_never

from pydantic import Field, field_validator, model_validator

from rlscape.schema import Settings
from rlscape.settings.precision import Precision
from rlscape.tasks.registry import TaskName

Architecture = Literal["qwen2", "qwen3", "qwen3_moe", "llama", "mistral"]


class ModelSettings(Settings):
    """Shape of a causal language model built from scratch."""

    architecture: Architecture = "qwen3"
    vocab_size: int = Field(64, ge=23)
    """Rows of embedding and head. The words of the tasks (:mod:`rlscape.tasks.vocabulary`) take the first ones;
    arithmetic alone needs 23."""
    hidden_size: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=4)
    intermediate_size: int = Field(ge=8)
    """Of a mixture: the size of each expert."""
    experts: int | None = Field(None, ge=1)
    experts_per_token: int | None = Field(None, ge=1)
    """Both for qwen3_moe only: a mixture of experts in every layer."""

    @model_validator(mode="after")
    def _mixture(self) -> "ModelSettings":
        experts, per_token = self.experts, self.experts_per_token
        match self.architecture:
            case "qwen3_moe":
                fits = experts is not None and per_token is not None and per_token <= experts
            case "qwen2" | "qwen3" | "llama" | "mistral":
                fits = experts is None and per_token is None
            case _:
                assert_never(self.architecture)
        if not fits:
            raise ValueError(
                f"experts ({experts}) and experts_per_token ({per_token}) do not suit {self.architecture}: "
                "qwen3_moe needs both, with experts_per_token <= experts; other architectures take neither"
            )
        return self

    @model_validator(mode="after")
    def _grouped(self) -> "ModelSettings":
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        return self


class PretrainSettings(Settings):
    """How a base model is made, with the flaws that leave reinforcement learning something to do."""

    steps: int = Field(ge=0)
    """0: the base stays as it was initialised."""
    sequences_per_step: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    mix: dict[TaskName, float]
    """Task -> its part of the sequences, relative to the others; how long problems are is in the task's settings."""
    tail_rate: float = Field(0.0, ge=0, le=1)
    """Share of each task's problems, in the second half of the steps, that come from its tail of longer ones."""
    flawed_from: float = Field(ge=0, le=1)
    """Fraction of the steps after which flawed traces are mixed in."""
    wrong_step_rate: float = Field(ge=0, le=1)
    """Flawed phase: probability that an intermediate result is off."""
    thoughtless_rate: float = Field(ge=0, le=1)
    """Flawed phase: share of traces that answer without thinking."""
    interrupted_rate: float = Field(ge=0, le=1)
    """Share of traces whose thinking is cut short by the interruption phrase."""
    seed: int = 0

    @field_validator("mix")
    @classmethod
    def _some_of_each(cls, mix: dict[str, float]) -> dict[str, float]:
        if not mix or any(part <= 0 for part in mix.values()):
            raise ValueError("needs at least one task, and a positive number for each; leave out a task that has none")
        return mix


class BaseSettings(Settings):
    """A base model: its shape and its pretraining."""

    model: ModelSettings
    pretraining: PretrainSettings
    precision: Precision = "bf16"
    """Of the values at the end of pretraining, which are stored in fp32 either way; bf16: rounded to that grid."""
