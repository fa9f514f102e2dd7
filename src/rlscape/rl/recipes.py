"""The recipes of P1 (arXiv 2510.13786): section 3's baseline, Figure 2's five methods, and ScaleRL.

A recipe has one field per axis that the paper varies, in the paper's own units (prompts per batch
of an 8B run); how a scale shrinks them is the business of :class:`rlscape.config.RLSettings`.
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

from pydantic import Field, model_validator

from rlscape.settings import HeadPrecision, Precision, Settings, Task

Loss = Literal["cispo", "dapo", "grpo", "gspo"]
"""Functions of :mod:`rlscape.rl.losses`."""
Aggregation = Literal["sample", "prompt", "token"]
AdvantageNormalisation = Literal["prompt", "batch", "none"]
LengthControl = Literal["interruption", "penalty", "none"]
Schedule = Literal["ppo_off_policy", "pipeline"]

REFERENCE_BATCH = 48
"""Prompts per optimiser step of P1's standard run."""
REFERENCE_COMPLETIONS = 16 * REFERENCE_BATCH
"""Completions per optimiser step of that run, 768."""


class Recipe(Settings):
    """One method: every axis of P1 as a field."""

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
    """Precision of the language-model head while sampling."""
    trainer_head: Precision
    """Precision of the language-model head while training."""
    zero_variance_filter: bool
    """Drop prompts whose rewards are all equal, and average over the survivors."""
    no_positive_resampling: bool
    """Drop prompts for good once their pass rate reaches ``npr_threshold``."""
    npr_threshold: float = Field(0.9, gt=0, le=1)
    length_control: LengthControl = "interruption"
    schedule: Schedule
    off_policy_steps: int = Field(8, ge=1)
    """k of PPO-off-policy-k and PipelineRL-k."""
    prompts_per_batch: int = Field(REFERENCE_BATCH, ge=1)
    """Prompts per optimiser step at the paper's scale."""
    generations_per_prompt: int = Field(16, ge=2)
    temperature: float = Field(1.0, gt=0)
    tasks: tuple[Task, ...] = ("math",)
    """Where the prompts come from; with several, an epoch passes through the pools of all of them."""

    @model_validator(mode="after")
    def _clip_low_below_one(self) -> "Recipe":
        if self.clip_low >= 1:
            raise ValueError("clip_low must be below 1: importance ratios are positive")
        return self

    @model_validator(mode="after")
    def _grpo_has_one_clip(self) -> "Recipe":
        if self.loss == "grpo" and self.clip_low != self.clip_high:
            raise ValueError(
                f"clip_low ({self.clip_low}) and clip_high ({self.clip_high}) differ: make them equal, or take dapo"
            )
        return self


BASELINE = Recipe(
    # P1 section 3, with PipelineRL-8 ("updated baseline"): the reference of Figures 4b, 5 and 6.
    loss="dapo",
    aggregation="sample",
    advantage_normalisation="prompt",
    generator_head="bf16",
    trainer_head="bf16",
    zero_variance_filter=False,
    no_positive_resampling=False,
    schedule="pipeline",
)

SCALERL = Recipe(
    loss="cispo",
    aggregation="prompt",
    advantage_normalisation="batch",
    generator_head="fp32",
    trainer_head="fp32",
    zero_variance_filter=True,
    no_positive_resampling=True,
    schedule="pipeline",
)

# Figure 2. Paper: GRPO's batch, Magistral's k and batch and MiniMax's k are not stated.
# Here: the batch of the section 3 baseline, "as DAPO", and k = 8 throughout.
DEEPSEEK_GRPO = BASELINE.changed(loss="grpo", clip_high=0.2, schedule="ppo_off_policy")
QWEN_DAPO = BASELINE.changed(
    aggregation="prompt", zero_variance_filter=True, schedule="ppo_off_policy", prompts_per_batch=80
)
MAGISTRAL = QWEN_DAPO.changed(schedule="pipeline")
MINIMAX = QWEN_DAPO.changed(loss="cispo", generator_head="fp32", trainer_head="fp32")

RECIPES: dict[str, Recipe] = {
    "baseline": BASELINE,
    "scalerl": SCALERL,
    "deepseek_grpo": DEEPSEEK_GRPO,
    "qwen_dapo": QWEN_DAPO,
    "magistral": MAGISTRAL,
    "minimax": MINIMAX,
}
