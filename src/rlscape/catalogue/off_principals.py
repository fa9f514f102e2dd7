"""Runs and figures of P2, arXiv 2511.08567."""

from typing import Any

from rlscape.catalogue.arms import Arm, Figure, Measurement
from rlscape.config import AdapterSettings, Intervention, LayerEdit

INTERVENTIONS: dict[str, Intervention] = {
    # Paper: layers 20 and 25 of Qwen3-4B's 36. Here: the same depths.
    "gauge": Intervention(
        edits=(LayerEdit(depth=20 / 36, rotate=True, permute=True), LayerEdit(depth=25 / 36, rotate=True))
    ),
}
"""Changes of a base that leave its function as it is (Figure 6)."""


def _rlvr(label: str, recipe: dict[str, Any] | None = None, **settings: Any) -> Arm:
    """The paper's reinforcement learning, with ``recipe`` fields and settings of the arm changed.

    Paper: DAPO on 256 prompts in mini-batches of 64, clip "as DAPO", token average, over-length penalty.
    Here: the penalty falls on correct completions only, as P1 has it (Eq 9).
    """
    changes = {
        "aggregation": "token",
        "clip_high": 0.28,
        "off_policy_steps": 4,
        "prompts_per_batch": 64,
        "length_control": "penalty",
    }
    return Arm(
        paper="off_principals",
        method="rl",
        label=label,
        recipe="qwen_dapo",
        changes=changes | (recipe or {}),
        **settings,
    )


def _supervised(label: str, method: str = "sft", **settings: Any) -> Arm:
    return Arm.model_validate({"paper": "off_principals", "method": method, "label": label} | settings)


ARMS: dict[str, Arm] = {
    # One base, two ways to fine-tune it
    "rlvr": _rlvr("RLVR (DAPO)", snapshots=True),
    "sft": _supervised("SFT", snapshots=True),
    # Figures 2 and 12: what five runs on disjoint data have in common.
    # Paper: public checkpoints (GRPO on math and on code, Reinforce++). Here: five recipes of our own.
    "footprint_dapo": _rlvr("DAPO, data 1", part=(0, 5)),
    "footprint_grpo": _rlvr(
        "GRPO, data 2",
        {"loss": "grpo", "clip_high": 0.2, "aggregation": "sample", "zero_variance_filter": False},
        part=(1, 5),
    ),
    "footprint_cispo": _rlvr("CISPO, data 3", {"loss": "cispo"}, part=(2, 5)),
    "footprint_gspo": _rlvr("GSPO, data 4", {"loss": "gspo", "clip_low": 3e-3, "clip_high": 4e-3}, part=(3, 5)),
    "footprint_batch": _rlvr("batch-normalised, data 5", {"advantage_normalisation": "batch"}, part=(4, 5)),
    # Figures 3, 14, 15, 16: a long run, and SFT before RL.
    "rlvr_long": _rlvr("RLVR, long", times={"steps": 4.0}, snapshots=True),
    "sft_then_rl": _rlvr("SFT, then RL", start="sft"),
    "sft_then_long_rl": _rlvr("SFT, then long RL", start="sft", times={"steps": 4.0}),
    # Figure 6
    "rlvr_intervened": _rlvr("RLVR, intervened base", intervention="gauge"),
    # Of 3e3, 1e4 and 3e4 times AdamW's rate, the one that learnt on pilot seed 100 (gain 0.16, x = 1.9; at 1e4 -0.08).
    "rlvr_sgd": _rlvr("RLVR, SGD", optimizer="sgd", times={"learning_rate": 3e3}),
    "rlvr_intervened_sgd": _rlvr(
        "RLVR, intervened base, SGD",
        intervention="gauge",
        optimizer="sgd",
        times={"learning_rate": 3e3},
        extra=True,
    ),
    # Figures 7 and 8: agents
    "agent_calculator": _rlvr("agent, calculator", {"tasks": ("calculator",)}, base="agents"),
    "agent_search": _rlvr("agent, search", {"tasks": ("search",)}, base="agents"),
    "agent_planning": _rlvr("agent, planning", {"tasks": ("planning",)}, base="agents"),
    # Figures 11 and 13: other architectures
    "llama_full": _rlvr("Llama, full", base="llama"),
    "mistral_full": _rlvr("Mistral, full", base="mistral"),
    # Figure 18
    "dpo": _supervised("DPO", "dpo"),
    "simpo": _supervised("SimPO", "simpo"),
}

# Figure 9, Tables 4 and 5: which entries train. Paper: 320 and 500 steps. Here: one run of 500, evaluated at both.
_MASKS = {
    "dense": "dense",
    "principal": r"$M_\mathrm{princ}$",
    "complement": r"$M_\mathrm{princ}^c$",
    "low": r"$M_\mathrm{low}$",
    "safe": r"$M_\mathrm{princ}^c \cup M_\mathrm{low}$",
    "random": r"random, as dense as $M_\mathrm{princ}^c \cup M_\mathrm{low}$",
}
_EXTRA_MASKS = {
    "random_half": "random half",
    "random_magnitude": r"random, magnitudes of $M_\mathrm{princ}$",
    "low_complement": r"$M_\mathrm{low}^c$",
}
MASK_STEPS = (320, 500)
for _mask, _label in (_MASKS | _EXTRA_MASKS).items():
    ARMS[f"mask_{_mask}"] = _rlvr(
        _label, mask=_mask, times={"steps": MASK_STEPS[1] / MASK_STEPS[0]}, extra=_mask in _EXTRA_MASKS
    )

# Figures 10 and 11. Paper: 1e-4, 5e-5 and 1e-5 against 1e-6 for full fine-tuning; ranks 8, 32 and 64 of a width of
# 1,536. Here: the same ratios to our full rate; ranks scaled to the width, and at least 1.
ADAPTER_RATES = {"high": 100.0, "mid": 50.0, "low": 10.0}
ADAPTER_RANKS = (1, 4, 8)
_KINDS = {"lora": "LoRA", "pissa": "PiSSA", "milora": "MiLoRA", "subspace": "random subspace"}


def _adapter(kind: str, rank: int, rate: str, base: str | None = None, extra: bool = False, dropout: float = 0) -> Arm:
    suffix = f", dropout {dropout:g}" if dropout else ""
    return _rlvr(
        f"{_KINDS[kind]} rank {rank}, rate x {ADAPTER_RATES[rate]:g}{suffix}",
        adapter=AdapterSettings.model_validate({"kind": kind, "rank": rank, "dropout": dropout}),
        times={"learning_rate": ADAPTER_RATES[rate]},
        base=base,
        extra=extra,
    )


for _rank in ADAPTER_RANKS:
    for _kind in ("lora", "pissa"):
        for _rate in ADAPTER_RATES:
            ARMS[f"{_kind}_r{_rank}_{_rate}"] = _adapter(_kind, _rank, _rate)
for _kind in ("lora", "pissa"):
    for _rate in ADAPTER_RATES:
        ARMS[f"llama_{_kind}_{_rate}"] = _adapter(_kind, ADAPTER_RANKS[-1], _rate, base="llama", extra=_rate != "mid")
    ARMS[f"{_kind}_r8_mid_dropout"] = _adapter(_kind, ADAPTER_RANKS[-1], "mid", extra=True, dropout=0.05)
for _kind in ("milora", "subspace"):
    ARMS[f"{_kind}_r8_mid"] = _adapter(_kind, ADAPTER_RANKS[-1], "mid", extra=True)

# Controls: the learning rate. SFT's is 30 times RL's, so that a thirtieth of the one and 30 times the other are equal.
RATES = {"quarter": 0.25, "half": 0.5, "double": 2.0, "x4": 4.0, "x10": 10.0, "x30": 30.0}
SFT_RATES = {"thirtieth": 1 / 30, "tenth": 0.1, "third": 1 / 3}
for _rate, _factor in RATES.items():
    ARMS[f"rlvr_lr_{_rate}"] = _rlvr(f"RLVR, rate x {_factor:g}", times={"learning_rate": _factor})
for _rate, _factor in SFT_RATES.items():
    ARMS[f"sft_lr_{_rate}"] = _supervised(
        f"SFT, rate / {1 / _factor:.0f}", times={"learning_rate": _factor}, snapshots=True
    )

# Controls: what of it is RL? Other bases, other data for SFT.
ARMS |= {
    "rlvr_second_base": _rlvr("RLVR, second base", base="deep_second"),
    "rlvr_brief_base": _rlvr("RLVR, a tenth of the pretraining", base="deep_brief"),
    "sft_random_base": _supervised("SFT, random base", base="deep_random"),
    "sft_self": _supervised("SFT on own correct samples", changes={"data": "self"}),
    "sft_noisy": _supervised("SFT, noisy weights", changes={"noise": 1.0}),
    "sft_likeliest": _supervised("SFT on likeliest own samples", changes={"data": "likeliest"}, extra=True),
    # epsilon 1e-8, torch's default, at which small gradients make smaller steps
    "rlvr_adam_epsilon": _rlvr("RLVR, Adam epsilon 1e-8", engine={"adam_epsilon": 1e-8}, extra=True),
    # 0.95, common in pretraining: AdamW forgets the size of old gradients 50 times as fast
    "rlvr_adam_beta": _rlvr("RLVR, Adam beta2 0.95", engine={"adam_betas": (0.9, 0.95)}, extra=True),
    # Three ways to store: fp32 from a base on the bf16 grid (all others), bf16 at every update, fp32 and no grid.
    "rlvr_bf16_weights": _rlvr("RLVR, weights stored in bf16", storage="bf16", extra=True),
    "rlvr_fp32": _rlvr(
        "RLVR, fp32 throughout",
        {"generator_head": "fp32", "trainer_head": "fp32"},
        base="deep_fp32",
        engine={"generator_precision": "fp32"},
        extra=True,
    ),
}

# Control: the size of the model.
SIZES = (1, 2, 3, 4)
"""Bases ``size_1`` and so on, in growing size; see each scale's file."""
for _size in SIZES:
    ARMS[f"size_{_size}"] = _rlvr(
        f"RLVR, size {_size}",
        base=f"size_{_size}",
        times={"learning_rate": 2.0, "steps": 2.0},
        snapshots=True,
    )
ARMS["size_1_sft"] = _supervised("SFT, size 1", base="size_1")


_FOOTPRINT = tuple(arm for arm in ARMS if arm.startswith("footprint_"))
_AGENTS = tuple(arm for arm in ARMS if arm.startswith("agent_"))
_MASKED = tuple(f"mask_{mask}" for mask in _MASKS)
_MASKED_EXTRA = tuple(f"mask_{mask}" for mask in _EXTRA_MASKS)
_ADAPTERS = tuple(
    f"{kind}_r{rank}_{rate}" for rank in ADAPTER_RANKS for kind in ("lora", "pissa") for rate in ADAPTER_RATES
)
_ADAPTERS_EXTRA = ("milora_r8_mid", "subspace_r8_mid", "lora_r8_mid_dropout", "pissa_r8_mid_dropout")
_LLAMA = ("llama_full", "llama_lora_mid", "llama_pissa_mid")
_LLAMA_EXTRA = tuple(f"llama_{kind}_{rate}" for kind in ("lora", "pissa") for rate in ("high", "low"))
_RATES = tuple(f"rlvr_lr_{rate}" for rate in RATES)
_SFT_RATES = tuple(f"sft_lr_{rate}" for rate in SFT_RATES)
_SIZES = tuple(f"size_{size}" for size in SIZES)


def _figure(
    stem: str,
    *arms: str,
    optional: tuple[str, ...] = (),
    measurements: tuple[Measurement, ...] = (),
    downstream: bool = False,
    divergence: bool = False,
) -> Figure:
    return Figure(
        paper="off_principals",
        stem=stem,
        arms=arms,
        optional=optional,
        measurements=measurements,
        downstream=downstream,
        divergence=divergence,
    )


FIGURES: tuple[Figure, ...] = (
    _figure("fig01", "rlvr", "sft", measurements=("landscape",)),
    _figure("fig02", *_FOOTPRINT, measurements=("pairs_footprint",)),
    _figure("fig03", "rlvr_long", measurements=("over_time",)),
    _figure("fig04", "sft", "sft_then_rl"),
    _figure("fig05", "rlvr"),
    _figure("fig06", "rlvr", "rlvr_intervened", measurements=("pairs_intervened",)),
    _figure("fig07", "agent_search", "agent_planning"),
    _figure("fig08", *_AGENTS),
    _figure("fig09", *_MASKED, optional=_MASKED_EXTRA, downstream=True, divergence=True),
    _figure("fig10", *_ADAPTERS, downstream=True),
    _figure("fig11", *_LLAMA, optional=_LLAMA_EXTRA, downstream=True),
    _figure("fig12", *_FOOTPRINT, measurements=("pairs_footprint",)),
    _figure("fig13", "llama_full", "mistral_full"),
    _figure("fig14", "rlvr_long", measurements=("over_time",)),
    _figure("fig15", "rlvr", "rlvr_long", "sft", divergence=True),
    _figure("fig16", "sft", "sft_then_long_rl"),
    _figure("fig17", "rlvr", "sft"),
    _figure("fig18", "dpo", "simpo"),
    _figure(
        "table1",
        *("rlvr", "sft", *_FOOTPRINT, "rlvr_long", "sft_then_rl", "sft_then_long_rl"),
        *(*_AGENTS, "dpo", "simpo", "llama_full", "mistral_full"),
    ),
    _figure("table2", *_FOOTPRINT, measurements=("pairs_footprint",)),
    _figure("table3", *_AGENTS, "dpo", "simpo"),
    _figure("table4", *_MASKED, optional=_MASKED_EXTRA, downstream=True),
    _figure("table5", *_MASKED, optional=_MASKED_EXTRA, downstream=True),
    _figure("control_learning_rate", "rlvr", *_RATES, "sft", *_SFT_RATES),
    _figure("control_matching", "rlvr", "sft", "sft_lr_thirtieth", measurements=("matching",), divergence=True),
    _figure(
        "control_origin",
        *("rlvr", "sft", "sft_self", "sft_noisy", "sft_random_base", "rlvr_brief_base", "rlvr_second_base"),
        *("rlvr_sgd", "dpo", "simpo"),
        optional=("sft_likeliest", "rlvr_adam_epsilon", "rlvr_adam_beta", "rlvr_bf16_weights", "rlvr_fp32"),
    ),
    _figure("control_nulls", "rlvr", "sft"),
    _figure("control_operators", "rlvr", "sft", measurements=("operators",)),
    _figure("control_precision", "rlvr", "sft", measurements=("operators",)),
    _figure("control_bounds", "rlvr", "sft"),
    _figure("control_kl", "rlvr", *_RATES, "sft", *_SFT_RATES, divergence=True),
    _figure(
        "control_gauge",
        *("rlvr", "rlvr_intervened"),
        optional=("rlvr_intervened_sgd",),
        measurements=("pairs_intervened",),
    ),
    _figure("control_curvature", "size_1", "size_1_sft", measurements=("curvature",)),
    _figure("control_model_size", "rlvr", *_SIZES, measurements=("over_time",)),
    _figure("control_adapters", *_ADAPTERS, optional=_ADAPTERS_EXTRA),
)
