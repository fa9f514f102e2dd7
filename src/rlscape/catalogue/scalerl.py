"""Runs and figures of P1, arXiv 2510.13786."""

from functools import partial
from typing import Any

from rlscape.catalogue.arms import Arm, Figure, arm
from rlscape.catalogue.grids import (
    FAIR_FAMILIES,
    FURTHER_RATES,
    LEARNING_RATE_CORE,
    LEARNING_RATE_EXTRA,
    LEARNING_RATES,
    learning_rate_arm,
)

rl = partial(arm, paper="scalerl", method="rl")

_FP32: dict[str, Any] = {"generator_head": "fp32", "trainer_head": "fp32"}

ARMS: dict[str, Arm] = {
    # Figure 2: five recipes
    "scalerl": rl("ScaleRL", "scalerl"),
    "deepseek_grpo": rl("DeepSeek (GRPO)", "deepseek_grpo"),
    "qwen_dapo": rl("Qwen2.5 (DAPO)", "qwen_dapo"),
    "magistral": rl("Magistral", "magistral"),
    "minimax": rl("MiniMax-M1", "minimax"),
    # Figure 4: who computes when. The baseline is PipelineRL-8.
    "baseline": rl("DAPO (baseline)", "baseline"),
    "ppo1": rl("PPO-off-policy-1", "baseline", schedule="ppo_off_policy", off_policy_steps=1),
    "ppo8": rl("PPO-off-policy-8", "baseline", schedule="ppo_off_policy"),
    "pipeline4": rl("PipelineRL-4", "baseline", off_policy_steps=4),
    "pipeline12": rl("PipelineRL-12", "baseline", off_policy_steps=12),
    # Within its bound on staleness, not at it
    "pipeline8_loose": rl("PipelineRL-8, 4 batches in flight", "baseline", batches_in_flight=4),
    # Decoding at twice and at half the speed: does Figure 4 depend on the cost ratio of the virtual clock?
    "pipeline8_fast": rl("PipelineRL-8, fast decoding", "baseline", scaled={"decode_utilisation": 2.0}),
    "pipeline8_slow": rl("PipelineRL-8, slow decoding", "baseline", scaled={"decode_utilisation": 0.5}),
    "ppo8_fast": rl(
        "PPO-off-policy-8, fast decoding", "baseline", schedule="ppo_off_policy", scaled={"decode_utilisation": 2.0}
    ),
    "ppo8_slow": rl(
        "PPO-off-policy-8, slow decoding", "baseline", schedule="ppo_off_policy", scaled={"decode_utilisation": 0.5}
    ),
    # Figure 5: the loss, and the precision of the head on either side, crossed with the loss
    "gspo": rl("GSPO", "baseline", loss="gspo", clip_low=3e-3, clip_high=4e-3),
    "cispo": rl("CISPO", "baseline", loss="cispo"),
    "fp32_head": rl("FP32 head", "baseline", **_FP32),
    "fp32_trainer": rl("FP32 head, trainer only", "baseline", trainer_head="fp32"),
    "fp32_generator": rl("FP32 head, generator only", "baseline", generator_head="fp32"),
    "cispo_fp32_head": rl("CISPO, FP32 head", "baseline", loss="cispo", **_FP32),
    "cispo_fp32_trainer": rl("CISPO, FP32 head, trainer only", "baseline", loss="cispo", trainer_head="fp32"),
    "cispo_fp32_generator": rl("CISPO, FP32 head, generator only", "baseline", loss="cispo", generator_head="fp32"),
    # From which mismatch on would the head's precision matter? bf16 has 7 mantissa bits.
    "head_m5": rl("generator head, 5 mantissa bits", "baseline", generator_head="m5"),
    "head_m3": rl("generator head, 3 mantissa bits", "baseline", generator_head="m3"),
    "head_m2": rl("generator head, 2 mantissa bits", "baseline", generator_head="m2"),
    "head_m1": rl("generator head, 1 mantissa bit", "baseline", generator_head="m1"),
    "cispo_head_m2": rl("CISPO, generator head, 2 mantissa bits", "baseline", loss="cispo", generator_head="m2"),
    "cispo_head_m1": rl("CISPO, generator head, 1 mantissa bit", "baseline", loss="cispo", generator_head="m1"),
    # Figure 6: which prompts
    "zero_variance_filter": rl("zero-variance filter", "baseline", zero_variance_filter=True),
    "no_positive_resampling": rl("No-Positive-Resampling", "baseline", no_positive_resampling=True),
    # Figures 7 and 15: from ScaleRL, one change each
    "loo_prompt_norm": rl("prompt-level advantage norm", "scalerl", advantage_normalisation="prompt"),
    "loo_length_penalty": rl("length penalty", "scalerl", length_control="penalty"),
    "loo_batch": rl("zero-variance kept", "scalerl", zero_variance_filter=False),
    "loo_ppo8": rl("PPO-off-policy-8 (leave-one-out)", "scalerl", schedule="ppo_off_policy"),
    "loo_bf16_head": rl("no FP32 head", "scalerl", generator_head="bf16", trainer_head="bf16"),
    "loo_sample_average": rl("sample average", "scalerl", aggregation="sample"),
    "loo_uniform": rl("uniform sampling", "scalerl", no_positive_resampling=False),
    "loo_dapo": rl("DAPO loss", "scalerl", loss="dapo"),
    # Figures 1, 8, 9, 10, 11: model size, generation budget, batch, tasks
    "moe": rl("ScaleRL, MoE", "scalerl", base="moe"),
    "moe_bf16_head": rl(
        "ScaleRL, MoE, no FP32 head", "scalerl", base="moe", generator_head="bf16", trainer_head="bf16"
    ),
    "moe_head_m2": rl(
        "MoE, generator head, 2 mantissa bits", "scalerl", base="moe", generator_head="m2", trainer_head="bf16"
    ),
    "moe_head_m1": rl(
        "MoE, generator head, 1 mantissa bit", "scalerl", base="moe", generator_head="m1", trainer_head="bf16"
    ),
    # Paper: 14k tokens, 12k of them for thinking, against 34k and 32k. Here: the ratio of the thinking budgets.
    "long_budget": rl("34k budget", "scalerl", scaled={"thinking_tokens": 32 / 12}),
    "small_batch": rl("batch 512", "scalerl", prompts_per_batch=32),
    # The long run that Figure 1 forecasts: twice the completions of the others.
    "large_batch": rl("batch 2048", "scalerl", prompts_per_batch=128, scaled={"steps": 2.0}),
    "math_only": rl("math only", "scalerl", base="joint"),
    "math_and_code": rl("math and code", "scalerl", base="joint", tasks=("math", "code")),
    # Figure 14: aggregation and normalisation
    "prompt_average": rl("prompt average", "baseline", aggregation="prompt"),
    "token_average": rl("token average", "baseline", aggregation="token"),
    "batch_norm": rl("batch-level advantage norm", "baseline", advantage_normalisation="batch"),
    "no_norm": rl("no advantage norm", "baseline", advantage_normalisation="none"),
    # Figure 17: generations per prompt at a fixed number of completions
    "generations_8": rl("8 generations", "scalerl", generations_per_prompt=8, prompts_per_batch=96),
    "generations_24": rl("24 generations", "scalerl", generations_per_prompt=24, prompts_per_batch=32),
    "generations_32": rl("32 generations", "scalerl", generations_per_prompt=32, prompts_per_batch=24),
    # Figures 19 and 20: clips. Paper: the values of 19a were not recovered, its text names 0.2, 0.26 and 0.28.
    # Here: these, and 0.4, so that the range of the sweep exceeds that of the names.
    "dapo_clip_020": rl("DAPO, upper clip 0.2", "baseline", clip_high=0.2),
    "dapo_clip_028": rl("DAPO, upper clip 0.28", "baseline", clip_high=0.28),
    "dapo_clip_040": rl("DAPO, upper clip 0.4", "baseline", clip_high=0.4),
    "cispo_cap_4": rl("CISPO, cap 4", "baseline", loss="cispo", cispo_cap=4.0),
    "cispo_cap_8": rl("CISPO, cap 8", "baseline", loss="cispo", cispo_cap=8.0),
    "gspo_1e4": rl("GSPO, 4e-4 / 3e-4", "baseline", loss="gspo", clip_low=3e-4, clip_high=4e-4),
    "gspo_1e2": rl("GSPO, 4e-2 / 3e-2", "baseline", loss="gspo", clip_low=3e-2, clip_high=4e-2),
    "gspo_1e1": rl("GSPO, 4e-1 / 3e-1", "baseline", loss="gspo", clip_low=3e-1, clip_high=4e-1),
    "gspo_5": rl("GSPO, 5e-3 / 3e-3", "baseline", loss="gspo", clip_low=3e-3, clip_high=5e-3),
}

for _arm in (*LEARNING_RATE_CORE, *LEARNING_RATE_EXTRA):
    for _rate, _factor in LEARNING_RATES.items():
        ARMS[learning_rate_arm(_arm, _rate)] = ARMS[_arm].changed(
            label=f"{ARMS[_arm].label}, learning rate x {_factor:g}",
            scaled=ARMS[_arm].scaled | {"learning_rate": _factor},
            extra=_arm in LEARNING_RATE_EXTRA,
        )


_RECIPES = ("deepseek_grpo", "qwen_dapo", "magistral", "minimax", "scalerl")
_LEAVE_ONE_OUT = (
    *("scalerl", "loo_prompt_norm", "loo_length_penalty", "loo_batch", "loo_ppo8", "loo_bf16_head"),
    *("loo_sample_average", "loo_uniform", "loo_dapo"),
)
_GENERATIONS = ("generations_8", "scalerl", "generations_24", "generations_32")
_HEADS = ("baseline", "fp32_trainer", "fp32_generator", "fp32_head", "head_m2", "head_m1")
_FURTHER_HEADS = (
    *("cispo", "cispo_fp32_trainer", "cispo_fp32_generator", "cispo_fp32_head", "cispo_head_m2", "cispo_head_m1"),
    *("head_m5", "head_m3", "moe_bf16_head", "moe_head_m2", "moe_head_m1"),
)
"""Another loss, a larger model, and doses between."""

_FIGURES: tuple[Figure, ...] = (
    Figure(paper="scalerl", stem="fig01", arms=("large_batch", "moe"), downstream=True),
    # Claim S22 compares both pass rates of these recipes; the figure itself shows one.
    Figure(paper="scalerl", stem="fig02", arms=_RECIPES, downstream=True),
    Figure(paper="scalerl", stem="fig03"),
    Figure(
        paper="scalerl",
        stem="fig04",
        arms=(
            *("ppo1", "ppo8", "baseline", "pipeline4", "pipeline12", "pipeline8_loose"),
            *("ppo8_slow", "ppo8_fast", "pipeline8_slow", "pipeline8_fast"),
        ),
    ),
    Figure(paper="scalerl", stem="fig05", arms=("baseline", "gspo", "cispo", "fp32_head")),
    Figure(paper="scalerl", stem="fig06", arms=("baseline", "zero_variance_filter", "no_positive_resampling")),
    Figure(paper="scalerl", stem="fig07", arms=_LEAVE_ONE_OUT),
    Figure(paper="scalerl", stem="fig08", arms=("scalerl", "moe", "moe_bf16_head")),
    Figure(paper="scalerl", stem="fig09", arms=("scalerl", "long_budget"), downstream=True),
    Figure(paper="scalerl", stem="fig10", arms=("small_batch", "scalerl", "large_batch"), downstream=True),
    Figure(paper="scalerl", stem="fig11", arms=("math_only", "math_and_code")),
    Figure(paper="scalerl", stem="fig12"),
    Figure(paper="scalerl", stem="fig13"),
    Figure(
        paper="scalerl",
        stem="fig14",
        arms=("baseline", "prompt_average", "token_average", "batch_norm", "no_norm"),
    ),
    Figure(paper="scalerl", stem="fig15", arms=_LEAVE_ONE_OUT),
    Figure(paper="scalerl", stem="fig16", arms=("scalerl", "large_batch")),
    Figure(paper="scalerl", stem="fig17", arms=_GENERATIONS, downstream=True),
    Figure(paper="scalerl", stem="fig18", arms=(*_GENERATIONS, "math_and_code"), downstream=True),
    Figure(
        paper="scalerl",
        stem="fig19",
        arms=("dapo_clip_020", "baseline", "dapo_clip_028", "dapo_clip_040", "cispo_cap_4", "cispo", "cispo_cap_8"),
    ),
    Figure(paper="scalerl", stem="fig20", arms=("gspo_1e4", "gspo", "gspo_1e2", "gspo_1e1", "gspo_5")),
    Figure(
        paper="scalerl",
        stem="table1",
        arms=(
            *("long_budget", "generations_8", "generations_24", "generations_32", "moe"),
            *("small_batch", "large_batch", "math_and_code"),
        ),
    ),
    Figure(paper="scalerl", stem="table_fig7", arms=_LEAVE_ONE_OUT),
    Figure(paper="scalerl", stem="table_robustness", arms=(*_RECIPES, "large_batch")),
    Figure(
        paper="scalerl",
        stem="control_learning_rate",
        arms=tuple(
            shown
            for name in LEARNING_RATE_CORE
            for shown in (name, *(learning_rate_arm(name, rate) for rate in LEARNING_RATES))
        ),
        optional=(
            *(learning_rate_arm(name, rate) for name in LEARNING_RATE_EXTRA for rate in LEARNING_RATES),
            *(learning_rate_arm(name, rate) for name in FAIR_FAMILIES for rate in FURTHER_RATES),
        ),
    ),
    Figure(paper="scalerl", stem="control_head_precision", arms=_HEADS, optional=_FURTHER_HEADS),
    Figure(paper="scalerl", stem="camera_ready", arms=("baseline", "fp32_head", "ppo8"), measurements=("ratios",)),
)

_SHOWN = {name for figure in _FIGURES for name in figure.arms} | {*_FURTHER_HEADS}
FIGURES = (
    *_FIGURES,
    Figure(paper="scalerl", stem="table_truncation", arms=tuple(name for name in ARMS if name in _SHOWN)),
)
"""A.15's table has every arm that another figure has."""
