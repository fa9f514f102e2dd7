"""The named recipes: P1's baseline, Figure 2's five methods and ScaleRL
(arXiv 2510.13786); P2's RLVR (arXiv 2511.08567).

An arm is one of these and what it changes.
"""

from rlscape.settings.recipe import Recipe

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

# Paper (P2): DAPO on 256 prompts in mini-batches of 64, clip "as DAPO", token average, over-length penalty.
# Here: the penalty falls on correct completions only, as P1 has it (Eq 9).
RLVR = QWEN_DAPO.changed(
    aggregation="token", clip_high=0.28, off_policy_steps=4, prompts_per_batch=64, length_control="penalty"
)

RECIPES: dict[str, Recipe] = {
    "baseline": BASELINE,
    "scalerl": SCALERL,
    "deepseek_grpo": DEEPSEEK_GRPO,
    "qwen_dapo": QWEN_DAPO,
    "magistral": MAGISTRAL,
    "minimax": MINIMAX,
    "rlvr": RLVR,
}
