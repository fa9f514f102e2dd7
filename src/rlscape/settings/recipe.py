"""A recipe: one RL method, every axis of P1 (arXiv 2510.13786) as a field.

Its numbers are in the paper's own units (prompts per batch
of an 8B run); how a scale shrinks them is the business of :class:`rlscape.settings.training.RLSettings`.
The named ones are in :mod:`rlscape.catalogue.recipes`.
What the paper leaves unstated is fixed here, once, before any run:

- Base clip: 0.2 / 0.26 (the paper states it for DAPO only). CISPO cap: 5, absolute (the curve of the
  cap sweep that coincides with the loss comparison's).
- Temperature 1.0; gradient norm clipped at 1.0.
- No-Positive-Resampling looks at a prompt's last visit (a cumulative rate would keep a prompt that
  the policy has just learnt for many more epochs).
- Injected interruption tokens are masked from the loss: the policy did not choose them.
- A completion that reaches its token limit without an answer is a wrong answer and stays in the batch.
"""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from rlscape.schema import Settings
from rlscape.settings.precision import HeadPrecision, Precision
from rlscape.tasks.registry import TaskName

Loss = Literal["cispo", "dapo", "grpo", "gspo"]
"""Functions of :mod:`rlscape.rl.losses`."""
Aggregation = Literal["sample", "prompt", "token"]
AdvantageNormalisation = Literal["prompt", "batch", "none"]
LengthControl = Literal["interruption", "penalty", "none"]
Rewards = Literal["verified", "random"]
Schedule = Literal["ppo_off_policy", "pipeline"]

REFERENCE_BATCH = 48
"""Prompts per optimiser step of P1's standard run."""
REFERENCE_COMPLETIONS = 16 * REFERENCE_BATCH
"""Completions per optimiser step of that run, 768."""


class Recipe(Settings):
    """One method."""

    loss: Loss
    clip_low: float = Field(0.2, ge=0)
    """Lower clip: ratios below ``1 - clip_low`` are clipped (DAPO, GRPO, GSPO)."""
    clip_high: float = Field(0.26, ge=0)
    """Upper clip: ratios above ``1 + clip_high`` are clipped (DAPO, GSPO; GRPO has one clip: as ``clip_low``)."""
    cispo_cap: float = Field(5.0, gt=0)
    """CISPO's absolute cap on the importance weight, ``min(rho, cispo_cap)`` (P1, Eq 4)."""
    aggregation: Aggregation
    advantage_normalisation: AdvantageNormalisation
    generator_head: HeadPrecision
    """Precision of the language-model head while sampling for training; evaluations have an fp32 one."""
    trainer_head: Precision
    """Precision of the language-model head while training."""
    zero_variance_filter: bool
    """Drop prompts whose rewards are all equal, and average over the survivors."""
    no_positive_resampling: bool
    """Drop prompts for good once their pass rate reaches ``npr_threshold``."""
    npr_threshold: float = Field(0.9, gt=0, le=1)
    rewards: Rewards = "verified"
    """random: a fair coin in place of the verifier, a control with nothing to learn from; pass rates stay verified."""
    length_control: LengthControl = "interruption"
    schedule: Schedule
    off_policy_steps: int = Field(8, ge=1)
    """k of PPO-off-policy-k and PipelineRL-k."""
    batches_in_flight: int | None = Field(None, ge=1)
    """Batches that PipelineRL generates or holds at most. Paper: not stated. Here: k, unless said otherwise; each then
    waits for about k updates, so that its staleness sits at the bound."""
    prompts_per_batch: int = Field(REFERENCE_BATCH, ge=1)
    """Prompts per optimiser step at the paper's scale."""
    generations_per_prompt: int = Field(16, ge=2)
    temperature: float = Field(1.0, gt=0)
    tasks: tuple[TaskName, ...] = ("math",)
    """Where the prompts come from; with several, an epoch passes through the pools of all of them."""

    @model_validator(mode="after")
    def _clip_low_below_one(self) -> "Recipe":
        if self.clip_low >= 1:
            raise ValueError("clip_low must be below 1: importance ratios are positive")
        return self

    @model_validator(mode="after")
    def _flights_within_the_bound(self) -> "Recipe":
        if self.batches_in_flight is not None:
            if self.schedule != "pipeline":
                raise ValueError(f"batches_in_flight: {self.schedule} generates off_policy_steps batches at a time")
            if self.batches_in_flight > self.off_policy_steps:
                raise ValueError(
                    f"batches_in_flight ({self.batches_in_flight}): more than off_policy_steps "
                    f"({self.off_policy_steps}) would be too stale to train on"
                )
        return self

    @field_validator("tasks")
    @classmethod
    def _tasks_have_columns(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if not tasks or len(set(tasks)) < len(tasks) or "math" in tasks[1:]:
            raise ValueError("needs at least one task, each once, and math first: its columns have no prefix")
        return tasks

    @model_validator(mode="after")
    def _grpo_has_one_clip(self) -> "Recipe":
        if self.loss == "grpo" and self.clip_low != self.clip_high:
            raise ValueError(
                f"clip_low ({self.clip_low}) and clip_high ({self.clip_high}) differ: make them equal, or take dapo"
            )
        return self
