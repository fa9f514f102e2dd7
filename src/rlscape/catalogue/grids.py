"""The values that sweeps run over: what arms are made of, and what figures arrange them by."""

# P1

LEARNING_RATES: dict[str, float] = {"half_lr": 0.5, "double_lr": 2.0}
"""Beside an arm's own rate: within fixed steps, a rate that is too small can end lower."""
LEARNING_RATE_CORE = ("scalerl", "baseline", "gspo", "cispo", "large_batch", "moe")
"""The comparisons whose arms have three learning rates at every scale: loss, batch and model."""
LEARNING_RATE_EXTRA = (
    *("deepseek_grpo", "qwen_dapo", "magistral", "minimax", "ppo8", "fp32_head", "zero_variance_filter"),
    *("no_positive_resampling", "prompt_average", "batch_norm", "small_batch", "long_budget", "generations_32"),
    *("dapo_clip_028", "math_and_code"),
)
"""One arm of every other family."""
FURTHER_RATES: dict[str, float] = {"x4_lr": 4.0, "x8_lr": 8.0}
FAIR_FAMILIES = (
    *("scalerl", "deepseek_grpo", "qwen_dapo", "magistral", "minimax", "baseline", "gspo", "cispo"),
    *("small_batch", "large_batch", "moe"),
)
"""Recipes, losses, batches and model, whose own best rates pilots choose: those of the two above have further ones."""


def learning_rate_arm(arm: str, rate: str) -> str:
    """E.g. ``"scalerl_half_lr"``."""
    return f"{arm}_{rate}"


# P2

FOOTPRINT = ("footprint_dapo", "footprint_grpo", "footprint_cispo", "footprint_gspo", "footprint_batch")
"""Five recipes on disjoint data: Figures 2 and 12, Table 2."""
AGENTS = ("agent_calculator", "agent_search", "agent_planning")

# Figure 9, Tables 4 and 5: which entries train. Paper: 320 and 500 steps. Here: one run of 500, evaluated at both.
MASKS = {
    "dense": "dense",
    "principal": r"$M_\mathrm{princ}$",
    "complement": r"$M_\mathrm{princ}^c$",
    "low": r"$M_\mathrm{low}$",
    "safe": r"$M_\mathrm{princ}^c \cup M_\mathrm{low}$",
    "random": r"random, as dense as $M_\mathrm{princ}^c \cup M_\mathrm{low}$",
}
EXTRA_MASKS = {
    "random_half": "random half",
    "random_magnitude": r"random, magnitudes of $M_\mathrm{princ}$",
    "low_complement": r"$M_\mathrm{low}^c$",
}
MASK_STEPS = (320, 500)

# Figures 10 and 11. Paper: 1e-4, 5e-5 and 1e-5 against 1e-6 for full fine-tuning; ranks 8, 32 and 64 of a width of
# 1,536. Here: the same ratios to our full rate; ranks scaled to the width, and at least 1.
ADAPTER_RATES = {"high": 100.0, "mid": 50.0, "low": 10.0}
ADAPTER_RANKS = (1, 4, 8)

# Controls: the learning rate. Of models from scratch SFT's is 30 times RL's; SFT at RL's is an arm of its own.
RATES = {"quarter": 0.25, "half": 0.5, "double": 2.0, "x4": 4.0, "x10": 10.0, "x30": 30.0}
SFT_RATES = {"tenth": 0.1, "third": 1 / 3}

SIZES = (1, 2, 3, 4)
"""Bases ``size_1`` and so on, in growing size; see each scale's file."""
