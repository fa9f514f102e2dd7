"""How a run trains and is evaluated: the numbers of a scale that a method needs."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rlscape.schema import Settings
from rlscape.settings.precision import Precision

Method = Literal["rl", "sft", "dpo", "simpo"]
Optimizer = Literal["adamw", "sgd", "adamw_on_noise"]
MaskName = Literal[
    "dense", "principal", "complement", "low", "safe", "random", "random_half", "random_magnitude", "low_complement"
]
"""Entries of a matrix that sparse fine-tuning trains; see :mod:`rlscape.training.masks`."""


class EvaluationSettings(Settings):
    """Held-out evaluation during a run. Samples = prompts x samples_per_prompt."""

    evaluations: int = Field(ge=2)
    """Evaluations after the one at step 0, evenly spaced; the last is at the final step."""
    prompts: int = Field(ge=1)
    samples_per_prompt: int = Field(ge=1)
    final_factor: int = Field(4, ge=1)
    """The final evaluation draws this many times more samples per prompt."""
    downstream_prompts: int = Field(ge=0)
    downstream_samples_per_prompt: int = Field(1, ge=1)


class RLSettings(Settings):
    """The scale of an RL run: what P1's numbers shrink to. The recipe itself is in the catalogue."""

    steps: int = Field(ge=2)
    """Optimiser steps at the paper's 48 prompts per batch; other batches get as many prompts, hence other steps."""
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(0.01, ge=0)
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = Field(1e-15, gt=0)
    max_gradient_norm: float = Field(1.0, gt=0)
    prompt_scale: float = Field(0.25, gt=0)
    """Prompts per batch here over the paper's (48 -> 12)."""
    thinking_tokens: int = Field(ge=2)
    answer_tokens: int = Field(ge=2)
    """Budgets in the paper's ratio 6:1 (12,288 and 2,048). A completion is at most their sum."""
    interruption_window: tuple[float, float] = (10 / 14, 12 / 14)
    """The forced interruption falls uniformly in this part of the output budget (10k-12k of 14k)."""
    penalty_window: float = Field(2 / 14, gt=0, le=1)
    """L_cache / L_max of the length penalty (P1, Eq 9)."""
    generator_accelerators: int = Field(64, ge=1)
    trainer_accelerators: int = Field(16, ge=1)
    decode_utilisation: float = Field(1 / 12, gt=0)
    """FLOP utilisation of decoding relative to training.
    Paper: only the 64:16 split is stated. Here: the split is read as the one at which neither pool waits:
    2N / (64 u) = 6N / 16, hence u = 1/12."""
    accelerator_flops: float = Field(1e9, gt=0)
    """FLOP/s of one virtual accelerator while training; sets the unit of compute only."""
    micro_batch_tokens: int = Field(2048, ge=64)
    """Completion tokens per forward-backward pass; a limit on memory; the gradient stays but for rounding."""
    generator_precision: Precision = "bf16"
    """Of the generator's body while sampling for training; its head's is the recipe's. Evaluations are in fp32."""
    checkpoint_seconds: float = Field(60.0, ge=0)
    """Wall-clock time between resumable checkpoints; without effect on the result."""


class AdapterSettings(Settings):
    """A low-rank adapter on every matrix inside the blocks; see :mod:`rlscape.training.adapters`."""

    kind: Literal["lora", "pissa", "milora", "subspace"]
    rank: int = Field(ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class Traces(Settings):
    """Supervised fine-tuning on traces."""

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    sequences_per_step: int = Field(ge=1)
    passes: int = Field(1, ge=1, exclude_if=lambda passes: passes == 1)
    """Forward-backward passes per step, each on an equal part of its sequences; a limit on memory, as RL's
    ``micro_batch_tokens``."""
    warmup_steps: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _equal_parts(self) -> Self:
        if self.sequences_per_step % self.passes:
            raise ValueError(f"passes ({self.passes}) do not divide sequences_per_step ({self.sequences_per_step})")
        return self


class SFTSettings(Traces):
    """Supervised fine-tuning on correct traces of the training problems."""

    data: Literal["reference", "self", "likeliest"] = "reference"
    """Reference traces, or correct completions that the model sampled itself before training, or its teacher did: as
    many as there are reference traces, or of every problem the one that the sampler finds likeliest."""
    samples_per_prompt: int = Field(16, ge=1)
    """Completions sampled for each training problem, unless traces are the reference's."""
    noise: float = Field(0.0, ge=0)
    """Each sequence's loss is multiplied by 1 + noise z, z standard normal and drawn anew at every step."""


class PreferenceSettings(Settings):
    """Preference tuning on pairs of a correct and an incorrect completion; see :mod:`rlscape.training.preference`."""

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    pairs_per_step: int = Field(ge=1)
    warmup_steps: int = Field(0, ge=0)
    samples_per_prompt: int = Field(16, ge=2)
    """Completions sampled for each training problem, of which pairs are made."""
    beta: float = Field(0.1, gt=0)
    """Of DPO: weight of the divergence from the base; of SimPO: scale of the margin.
    Paper (arXiv 2511.08567): measures public checkpoints, without their settings. Here: ``trl``'s defaults, as for
    ``simpo_gamma``."""
    simpo_gamma: float = Field(0.5, ge=0)
    """Target margin of SimPO."""
