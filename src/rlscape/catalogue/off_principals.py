"""Runs and figures of P2, arXiv 2511.08567."""

from functools import partial
from typing import Any

from rlscape.catalogue.arms import Arm, Figure, Measurement, arm
from rlscape.catalogue.grids import (
    ADAPTER_RANKS,
    ADAPTER_RATES,
    AGENTS,
    EXTRA_MASKS,
    FOOTPRINT,
    MASK_STEPS,
    MASKS,
    RATES,
    SFT_RATES,
    SIZES,
)
from rlscape.settings.measurement import Intervention, LayerEdit
from rlscape.settings.training import AdapterSettings

rl, sft, dpo, simpo = (partial(arm, paper="off_principals", method=method) for method in ("rl", "sft", "dpo", "simpo"))

INTERVENTIONS: dict[str, Intervention] = {
    # Paper: layers 20 and 25 of Qwen3-4B's 36. Here: the same depths.
    "gauge": Intervention(
        edits=(LayerEdit(depth=20 / 36, rotate=True, permute=True), LayerEdit(depth=25 / 36, rotate=True))
    ),
    # A rotation mixes values, and with them whatever grid they lie on; a permutation moves them only.
    "permuted": Intervention(edits=(LayerEdit(depth=20 / 36, permute=True), LayerEdit(depth=25 / 36, permute=True))),
}
"""Changes of a base that leave its function as it is (Figure 6)."""

SGD_RATE = 3e3
"""Plain gradient descent's learning rate over AdamW's: of 3e3, 1e4 and 3e4 the one that learnt on pilot seed 100 of the
default scale (gain 0.16, x = 1.9; at 1e4 -0.08), and so did pilots of a pretrained model choose."""


ARMS: dict[str, Arm] = {
    # One base, two ways to fine-tune it
    "rlvr": rl("RLVR (DAPO)", "rlvr", snapshots=True),
    "sft": sft("SFT", snapshots=True),
    # Figures 2 and 12: what five runs on disjoint data have in common.
    # Paper: public checkpoints (GRPO on math and on code, Reinforce++). Here: five recipes of our own.
    "footprint_dapo": rl("DAPO, data 1", "rlvr", part=(0, 5)),
    "footprint_grpo": rl(
        "GRPO, data 2",
        "rlvr",
        loss="grpo",
        clip_high=0.2,
        aggregation="sample",
        zero_variance_filter=False,
        part=(1, 5),
    ),
    "footprint_cispo": rl("CISPO, data 3", "rlvr", loss="cispo", part=(2, 5)),
    "footprint_gspo": rl("GSPO, data 4", "rlvr", loss="gspo", clip_low=0.003, clip_high=0.004, part=(3, 5)),
    "footprint_batch": rl("batch-normalised, data 5", "rlvr", advantage_normalisation="batch", part=(4, 5)),
    # Figures 3, 14, 15, 16: a long run, and SFT before RL.
    "rlvr_long": rl("RLVR, long", "rlvr", scaled={"steps": 4.0}, snapshots=True),
    "sft_then_rl": rl("SFT, then RL", "rlvr", start="sft"),
    "sft_then_long_rl": rl("SFT, then long RL", "rlvr", start="sft", scaled={"steps": 4.0}),
    # Figure 6
    "rlvr_intervened": rl("RLVR, intervened base", "rlvr", intervention="gauge"),
    "rlvr_sgd": rl("RLVR, SGD", "rlvr", optimizer="sgd", scaled={"learning_rate": SGD_RATE}),
    "rlvr_permuted": rl("RLVR, permuted base", "rlvr", intervention="permuted", extra=True),
    "rlvr_intervened_sgd": rl(
        "RLVR, intervened base, SGD",
        "rlvr",
        intervention="gauge",
        optimizer="sgd",
        scaled={"learning_rate": SGD_RATE},
        extra=True,
    ),
    # Figures 7 and 8: agents
    "agent_calculator": rl("agent, calculator", "rlvr", tasks=("calculator",), base="agents"),
    "agent_search": rl("agent, search", "rlvr", tasks=("search",), base="agents"),
    "agent_planning": rl("agent, planning", "rlvr", tasks=("planning",), base="agents"),
    # Figures 11 and 13: other architectures
    "llama_full": rl("Llama, full", "rlvr", base="llama"),
    "mistral_full": rl("Mistral, full", "rlvr", base="mistral"),
    # Figure 18
    "dpo": dpo("DPO"),
    "simpo": simpo("SimPO"),
}

for _mask, _label in (MASKS | EXTRA_MASKS).items():
    ARMS[f"mask_{_mask}"] = rl(
        _label, "rlvr", mask=_mask, scaled={"steps": MASK_STEPS[1] / MASK_STEPS[0]}, extra=_mask in EXTRA_MASKS
    )

_KINDS = {"lora": "LoRA", "pissa": "PiSSA", "milora": "MiLoRA", "subspace": "random subspace"}


def _adapter(kind: str, rank: int, rate: str, base: str | None = None, extra: bool = False, dropout: float = 0) -> Arm:
    suffix = f", dropout {dropout:g}" if dropout else ""
    return rl(
        f"{_KINDS[kind]} rank {rank}, rate x {ADAPTER_RATES[rate]:g}{suffix}",
        "rlvr",
        adapter=AdapterSettings.model_validate({"kind": kind, "rank": rank, "dropout": dropout}),
        scaled={"learning_rate": ADAPTER_RATES[rate]},
        base=base,
        extra=extra,
    )


for _rank in ADAPTER_RANKS:
    for _kind in ("lora", "pissa"):
        for _rate in ADAPTER_RATES:
            ARMS[f"{_kind}_r{_rank}_{_rate}"] = _adapter(_kind, _rank, _rate)
for _kind in ("lora", "pissa"):
    for _rate in ADAPTER_RATES:
        ARMS[f"llama_{_kind}_{_rate}"] = _adapter(_kind, ADAPTER_RANKS[-1], _rate, base="llama")
    ARMS[f"{_kind}_r8_mid_dropout"] = _adapter(_kind, ADAPTER_RANKS[-1], "mid", extra=True, dropout=0.05)
for _kind in ("milora", "subspace"):
    ARMS[f"{_kind}_r8_mid"] = _adapter(_kind, ADAPTER_RANKS[-1], "mid", extra=True)

# Controls: the learning rate.
for _rate, _factor in RATES.items():
    ARMS[f"rlvr_lr_{_rate}"] = rl(f"RLVR, rate x {_factor:g}", "rlvr", scaled={"learning_rate": _factor})
for _rate, _factor in SFT_RATES.items():
    ARMS[f"sft_lr_{_rate}"] = sft(f"SFT, rate / {1 / _factor:.0f}", scaled={"learning_rate": _factor}, snapshots=True)
ARMS["sft_rl_rate"] = sft("SFT, RL's rate", at_rl_rate=True, snapshots=True)
# As far as gradients of a norm above the clip take it, step by step as long as those of `rlvr_sgd`
ARMS["sft_sgd"] = sft(
    "SFT, SGD, RL's rate",
    at_rl_rate=True,
    optimizer="sgd",
    scaled={"learning_rate": SGD_RATE},
    snapshots=True,
    extra=True,
)

# Controls: what of it is RL? Other bases, other data for SFT.
ARMS |= {
    "rlvr_second_base": rl("RLVR, second base", "rlvr", base="deep_second"),
    "rlvr_brief_base": rl("RLVR, a tenth of the pretraining", "rlvr", base="deep_brief"),
    "sft_random_base": sft("SFT, random base", base="deep_random"),
    "sft_self": sft("SFT on own correct samples", data="self"),
    "sft_noisy": sft("SFT, noisy weights", noise=1.0),
    "sft_taught": sft("SFT on RL's correct samples", data="self", teacher="rlvr", at_rl_rate=True, extra=True),
    "sft_likeliest": sft("SFT on likeliest own samples", data="likeliest", extra=True),
    # epsilon 1e-8, torch's default, at which small gradients make smaller steps
    "rlvr_adam_epsilon": rl("RLVR, Adam epsilon 1e-8", "rlvr", settings={"adam_epsilon": 1e-8}, extra=True),
    # 0.95, common in pretraining: AdamW forgets the size of old gradients 50 times as fast
    "rlvr_adam_beta": rl("RLVR, Adam beta2 0.95", "rlvr", settings={"adam_betas": (0.9, 0.95)}, extra=True),
    # What of an update is the optimiser's? Nothing to learn: a coin for a verifier, and no gradient at all.
    "rlvr_random_rewards": rl("RLVR, random rewards", "rlvr", rewards="random", extra=True),
    "rlvr_sgd_random_rewards": rl(
        "RLVR, SGD, random rewards",
        "rlvr",
        optimizer="sgd",
        rewards="random",
        scaled={"learning_rate": SGD_RATE},
        extra=True,
    ),
    "rlvr_noise": rl("noise through AdamW", "rlvr", optimizer="adamw_on_noise", extra=True),
    # What the grid of a quantised base does: a base from scratch put on one, and a pretrained one without its own.
    "rlvr_quantised": rl("RLVR, quantised base", "rlvr", base="deep_quantised", extra=True),
    "rlvr_dithered": rl("RLVR, dithered base", "rlvr", base="dithered", extra=True),
    "sft_dithered": sft("SFT, dithered base", base="dithered", at_rl_rate=True, extra=True),
    # Three ways to store: fp32 from a base on the bf16 grid (all others), bf16 at every update, fp32 and no grid.
    "rlvr_bf16_weights": rl("RLVR, weights stored in bf16", "rlvr", storage="bf16", extra=True),
    "rlvr_fp32": rl(
        "RLVR, fp32 throughout",
        "rlvr",
        generator_head="fp32",
        trainer_head="fp32",
        base="deep_fp32",
        settings={"generator_precision": "fp32"},
        extra=True,
    ),
}

# Control: the size of the model.
for _size in SIZES:
    ARMS[f"size_{_size}"] = rl(
        f"RLVR, size {_size}",
        "rlvr",
        base=f"size_{_size}",
        scaled={"learning_rate": 2.0, "steps": 2.0},
        snapshots=True,
    )
ARMS["size_1_sft"] = sft("SFT, size 1", base="size_1")


_MASKED = tuple(f"mask_{mask}" for mask in MASKS)
_MASKED_EXTRA = tuple(f"mask_{mask}" for mask in EXTRA_MASKS)
_ADAPTERS = tuple(
    f"{kind}_r{rank}_{rate}" for rank in ADAPTER_RANKS for kind in ("lora", "pissa") for rate in ADAPTER_RATES
)
_ADAPTERS_EXTRA = ("milora_r8_mid", "subspace_r8_mid", "lora_r8_mid_dropout", "pissa_r8_mid_dropout")
_LLAMA = ("llama_full", *(f"llama_{kind}_{rate}" for kind in ("lora", "pissa") for rate in ADAPTER_RATES))
_RATES = tuple(f"rlvr_lr_{rate}" for rate in RATES)
_SFT_RATES = ("sft_rl_rate", *(f"sft_lr_{rate}" for rate in SFT_RATES))
_SIZES = tuple(f"size_{size}" for size in SIZES)


MEASURED: dict[Measurement, tuple[str, ...]] = {
    "masks": (),
    "spectra": (),
    "recorded_sizes": (),  # of another scale
    "over_time": (),
    "operators": (),
    "margins": ("rlvr_sgd", "sft_sgd"),
    "landscape": ("rlvr", "sft"),
    "curvature": ("rlvr", "sft"),
    "matching": (),
    "pairs_footprint": (*FOOTPRINT, "rlvr", "sft"),
    "pairs_intervened": ("rlvr", "rlvr_intervened"),
    "pairs_shared": ("rlvr", "sft_rl_rate", "rlvr_noise"),
    "ratios": ("baseline", "fp32_head"),  # of P1
}
"""Arms whose runs a measurement compares; none: it is of those of each figure."""
_CURVED_TOO = (*_SIZES, "size_1_sft", "rlvr_second_base", "agent_calculator", "llama_full", "mistral_full")
_SHARED_TOO = ("rlvr_random_rewards", "sft_taught", "rlvr_sgd", "rlvr_quantised", "rlvr_dithered", "sft_dithered")
MEASURED_TOO: dict[str, tuple[tuple[str, ...], ...]] = {
    "pairs_intervened": (("rlvr_permuted",), ("rlvr_sgd", "rlvr_intervened_sgd")),
    "pairs_shared": tuple((arm,) for arm in _SHARED_TOO),
    "margins": (("rlvr_sgd_random_rewards",),),
    # The base with a tenth of the pretraining is an early stage of that of ``rlvr``, no other one.
    "curvature": tuple((arm,) for arm in _CURVED_TOO),
}
"""Groups of arms that it compares too where the scale runs all of a group."""


def _figure(stem: str, *arms: str, **details: Any) -> Figure:
    return Figure(paper="off_principals", stem=stem, arms=arms, **details)


FIGURES: tuple[Figure, ...] = (
    _figure("fig01", "rlvr", "sft", measurements=("masks", "spectra", "landscape")),
    _figure("fig02", *FOOTPRINT, measurements=("masks", "pairs_footprint")),
    _figure("fig03", "rlvr_long", measurements=("over_time",)),
    _figure("fig04", "sft", "sft_then_rl", measurements=("spectra",)),
    _figure("fig05", "rlvr"),
    _figure("fig06", "rlvr", "rlvr_intervened", measurements=("pairs_intervened",)),
    _figure("fig07", "agent_search", "agent_planning", measurements=("masks",)),
    _figure("fig08", *AGENTS, measurements=("spectra",)),
    _figure("fig09", *_MASKED, optional=_MASKED_EXTRA, downstream=True, divergence=True),
    _figure("fig10", *_ADAPTERS, downstream=True),
    _figure("fig11", *_LLAMA, downstream=True),
    _figure("fig12", *FOOTPRINT, measurements=("pairs_footprint",)),
    _figure("fig13", "llama_full", "mistral_full", measurements=("masks",)),
    _figure("fig14", "rlvr_long", measurements=("over_time",)),
    _figure("fig15", "rlvr", "rlvr_long", "sft", divergence=True),
    _figure("fig16", "sft", "sft_then_long_rl", measurements=("spectra",)),
    _figure("fig17", "rlvr", "sft", measurements=("spectra",)),
    _figure("fig18", "dpo", "simpo", measurements=("spectra",)),
    _figure(
        "table1",
        *("rlvr", "sft"),
        optional=(
            *(*FOOTPRINT, "rlvr_long", "sft_then_rl", "sft_then_long_rl"),
            *(*AGENTS, "dpo", "simpo", "llama_full", "mistral_full"),
            *("rlvr_dithered", "sft_dithered"),
        ),
    ),
    _figure("table2", *FOOTPRINT, measurements=("pairs_footprint",)),
    _figure("table3", *AGENTS, "dpo", "simpo"),
    _figure("table4", *_MASKED, optional=_MASKED_EXTRA, downstream=True),
    _figure("table5", *_MASKED, optional=_MASKED_EXTRA, downstream=True),
    _figure("control_learning_rate", "rlvr", "sft", optional=(*_RATES, *_SFT_RATES)),
    _figure("control_matching", "rlvr", "sft", "sft_rl_rate", measurements=("matching",), divergence=True),
    _figure(
        "control_origin",
        *("rlvr", "sft"),
        optional=(
            "sft_rl_rate",
            *("sft_self", "sft_noisy", "sft_random_base", "rlvr_brief_base", "rlvr_second_base"),
            *("rlvr_sgd", "rlvr_sgd_random_rewards", "sft_sgd", "dpo", "simpo"),
            "sft_taught",
            "sft_likeliest",
            "rlvr_random_rewards",
            "rlvr_noise",
            "rlvr_adam_epsilon",
            "rlvr_adam_beta",
            "rlvr_bf16_weights",
            "rlvr_fp32",
            *("rlvr_quantised", "rlvr_dithered", "sft_dithered"),
        ),
    ),
    _figure("control_nulls", "rlvr", "sft"),
    _figure("control_operators", "rlvr", "sft", measurements=("operators",)),
    _figure("control_precision", "rlvr", "sft", measurements=("operators",)),
    _figure("control_bounds", "rlvr", "sft"),
    _figure(
        "control_optimizer",
        *("rlvr_sgd", "sft_sgd"),
        optional=("rlvr_sgd_random_rewards", "rlvr", "sft", "sft_rl_rate"),
        measurements=("matching", "margins"),
    ),
    _figure("control_kl", "rlvr", *_RATES, "sft", *_SFT_RATES, divergence=True),
    _figure(
        "control_gauge",
        *("rlvr", "rlvr_intervened"),
        optional=("rlvr_permuted", "rlvr_sgd", "rlvr_intervened_sgd"),
        measurements=("pairs_intervened",),
    ),
    _figure(
        "control_shared",
        *("rlvr", "sft_rl_rate", "rlvr_noise"),
        optional=_SHARED_TOO,
        measurements=("pairs_shared",),
    ),
    _figure("control_curvature", "rlvr", "sft", optional=_CURVED_TOO, measurements=("curvature",)),
    _figure("control_model_size", "rlvr", optional=_SIZES, measurements=("over_time", "recorded_sizes")),
    _figure("control_adapters", *_ADAPTERS, optional=_ADAPTERS_EXTRA),
)
