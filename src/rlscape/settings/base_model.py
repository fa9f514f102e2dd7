"""A base model: made from scratch, with its shape and how it is pretrained, or a checkpoint, with how it starts."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, assert_never

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from rlscape.schema import Settings
from rlscape.settings.precision import Precision
from rlscape.settings.training import Traces
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
    """A base model from scratch: its shape and its pretraining."""

    model: ModelSettings
    pretraining: PretrainSettings
    quantisation: Literal["q4_1"] | None = None
    """Of the values at the end of pretraining: q4_1 leaves each block of 32 a grid of 16 values, as GGUF's files do."""
    precision: Precision = "bf16"
    """Of the values at the end of pretraining, which are stored in fp32 either way; bf16: rounded to that grid."""


class StartSettings(Traces):
    """A short supervised fine-tuning on reference traces, from which a checkpoint learns the form of its answers.

    The tasks that runs from this base train on share the sequences evenly.
    """

    seed: int = 0
    """Of the problems, of which none is in a set of the task, and of their order."""


class CheckpointSettings(Settings):
    """A base model that others have trained."""

    checkpoint: str
    """A directory, ``smollm2-135m`` (``make models`` fetches it), or a model's id on the Hub, in its cache."""
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    """Commit of a model on the Hub."""
    start: StartSettings | None = None
    """None: runs start from the checkpoint as it is."""
    dither: bool = False
    """Add noise, uniform over a step of the grid that a block of 32 values was quantised to, before anything else."""
    precision: Precision = "bf16"
    """Of the values that runs start from, stored in fp32 either way; bf16: rounded to that grid."""


KINDS: dict[str, type[Settings]] = {"[scratch]": BaseSettings, "[checkpoint]": CheckpointSettings}
"""By the tag that an error's location has."""


def _kind(value: Any) -> str:
    given = value if isinstance(value, Mapping) else vars(value) if isinstance(value, Settings) else {}
    return "[checkpoint]" if "checkpoint" in given else "[scratch]"


AnyBase = Annotated[
    Annotated[BaseSettings, Tag("[scratch]")] | Annotated[CheckpointSettings, Tag("[checkpoint]")],
    Discriminator(_kind),
]
"""Either kind, told apart by the key ``checkpoint``."""
