"""The catalogue of runs: an arm is a named recipe plus the one thing it changes; a figure names its arms.

Adding an ablation is one line in ``ARMS`` (and its number of seeds in each scale's file); adding a figure
is one line in ``FIGURES`` and one function under ``rlscape/figures/``. Arms shared by figures run once.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from rlscape.config import (
    BaseSettings,
    CodeSettings,
    Config,
    EvaluationSettings,
    MathSettings,
    Paper,
    RLSettings,
    SFTSettings,
    load_config,
)
from rlscape.errors import ConfigError
from rlscape.rl.recipes import RECIPES, REFERENCE_COMPLETIONS, Recipe
from rlscape.settings import Settings, Task

Method = Literal["rl", "sft"]


class Arm(Settings):
    """What distinguishes a set of runs; its seeds are in the scale's file."""

    paper: Paper
    method: Method
    label: str
    """The name in legends, the same in every figure."""
    recipe: str | None = None
    changes: dict[str, Any] = {}
    """Recipe fields replaced by this arm."""
    times: dict[str, float] = {}
    """The scale's RL settings (:class:`rlscape.config.RLSettings`) that this arm multiplies."""
    base: str | None = None
    """Base model; None: that of the paper's study."""
    extra: bool = False
    """Not in a figure of the papers: runs where the scale's ``seeds.extras`` says so."""


def _rl(
    label: str,
    recipe: str,
    paper: Paper = "scalerl",
    times: dict[str, float] | None = None,
    base: str | None = None,
    extra: bool = False,
    **changes: Any,
) -> Arm:
    return Arm(
        paper=paper,
        method="rl",
        label=label,
        recipe=recipe,
        changes=changes,
        times=times or {},
        base=base,
        extra=extra,
    )


_FP32: dict[str, Any] = {"generator_head": "fp32", "trainer_head": "fp32"}

ARMS: dict[str, Arm] = {
    # Figure 2: five recipes
    "scalerl": _rl("ScaleRL", "scalerl"),
    "deepseek_grpo": _rl("DeepSeek (GRPO)", "deepseek_grpo"),
    "qwen_dapo": _rl("Qwen2.5 (DAPO)", "qwen_dapo"),
    "magistral": _rl("Magistral", "magistral"),
    "minimax": _rl("MiniMax-M1", "minimax"),
    # Figure 4: who computes when. The baseline is PipelineRL-8.
    "baseline": _rl("DAPO (baseline)", "baseline"),
    "ppo1": _rl("PPO-off-policy-1", "baseline", schedule="ppo_off_policy", off_policy_steps=1),
    "ppo8": _rl("PPO-off-policy-8", "baseline", schedule="ppo_off_policy"),
    "pipeline4": _rl("PipelineRL-4", "baseline", off_policy_steps=4),
    "pipeline12": _rl("PipelineRL-12", "baseline", off_policy_steps=12),
    # Decoding at twice and at half the speed: does Figure 4 depend on the cost ratio of the virtual clock?
    "pipeline8_fast": _rl("PipelineRL-8, fast decoding", "baseline", times={"decode_utilisation": 2.0}),
    "pipeline8_slow": _rl("PipelineRL-8, slow decoding", "baseline", times={"decode_utilisation": 0.5}),
    "ppo8_fast": _rl(
        "PPO-off-policy-8, fast decoding", "baseline", schedule="ppo_off_policy", times={"decode_utilisation": 2.0}
    ),
    "ppo8_slow": _rl(
        "PPO-off-policy-8, slow decoding", "baseline", schedule="ppo_off_policy", times={"decode_utilisation": 0.5}
    ),
    # Figure 5: the loss, and the precision of the head on either side, crossed with the loss
    "gspo": _rl("GSPO", "baseline", loss="gspo", clip_low=3e-3, clip_high=4e-3),
    "cispo": _rl("CISPO", "baseline", loss="cispo"),
    "fp32_head": _rl("FP32 head", "baseline", **_FP32),
    "fp32_trainer": _rl("FP32 head, trainer only", "baseline", trainer_head="fp32"),
    "fp32_generator": _rl("FP32 head, generator only", "baseline", generator_head="fp32"),
    "cispo_fp32_head": _rl("CISPO, FP32 head", "baseline", loss="cispo", **_FP32),
    "cispo_fp32_trainer": _rl("CISPO, FP32 head, trainer only", "baseline", loss="cispo", trainer_head="fp32"),
    "cispo_fp32_generator": _rl("CISPO, FP32 head, generator only", "baseline", loss="cispo", generator_head="fp32"),
    # From which mismatch on would the head's precision matter? bf16 has 7 mantissa bits.
    "head_m5": _rl("generator head, 5 mantissa bits", "baseline", generator_head="m5"),
    "head_m3": _rl("generator head, 3 mantissa bits", "baseline", generator_head="m3"),
    "head_m1": _rl("generator head, 1 mantissa bit", "baseline", generator_head="m1"),
    "cispo_head_m1": _rl("CISPO, generator head, 1 mantissa bit", "baseline", loss="cispo", generator_head="m1"),
    # Figure 6: which prompts
    "zero_variance_filter": _rl("zero-variance filter", "baseline", zero_variance_filter=True),
    "no_positive_resampling": _rl("No-Positive-Resampling", "baseline", no_positive_resampling=True),
    # Figures 7 and 15: from ScaleRL, one change each
    "loo_prompt_norm": _rl("prompt-level advantage norm", "scalerl", advantage_normalisation="prompt"),
    "loo_length_penalty": _rl("length penalty", "scalerl", length_control="penalty"),
    "loo_batch": _rl("zero-variance kept", "scalerl", zero_variance_filter=False),
    "loo_ppo8": _rl("PPO-off-policy-8 (leave-one-out)", "scalerl", schedule="ppo_off_policy"),
    "loo_bf16_head": _rl("no FP32 head", "scalerl", generator_head="bf16", trainer_head="bf16"),
    "loo_sample_average": _rl("sample average", "scalerl", aggregation="sample"),
    "loo_uniform": _rl("uniform sampling", "scalerl", no_positive_resampling=False),
    "loo_dapo": _rl("DAPO loss", "scalerl", loss="dapo"),
    # Figures 1, 8, 9, 10, 11: model size, generation budget, batch, tasks
    "moe": _rl("ScaleRL, MoE", "scalerl", base="moe"),
    "moe_bf16_head": _rl(
        "ScaleRL, MoE, no FP32 head", "scalerl", base="moe", generator_head="bf16", trainer_head="bf16"
    ),
    # Paper: 14k tokens, 12k of them for thinking, against 34k and 32k. Here: the ratio of the thinking budgets.
    "long_budget": _rl("34k budget", "scalerl", times={"thinking_tokens": 32 / 12}),
    "small_batch": _rl("batch 512", "scalerl", prompts_per_batch=32),
    # The long run that Figure 1 forecasts: twice the completions of the others.
    "large_batch": _rl("batch 2048", "scalerl", prompts_per_batch=128, times={"steps": 2.0}),
    "math_only": _rl("math only", "scalerl", base="joint"),
    "math_and_code": _rl("math and code", "scalerl", base="joint", tasks=("math", "code")),
    # Figure 14: aggregation and normalisation
    "prompt_average": _rl("prompt average", "baseline", aggregation="prompt"),
    "token_average": _rl("token average", "baseline", aggregation="token"),
    "batch_norm": _rl("batch-level advantage norm", "baseline", advantage_normalisation="batch"),
    "no_norm": _rl("no advantage norm", "baseline", advantage_normalisation="none"),
    # Figure 17: generations per prompt at a fixed number of completions
    "generations_8": _rl("8 generations", "scalerl", generations_per_prompt=8, prompts_per_batch=96),
    "generations_24": _rl("24 generations", "scalerl", generations_per_prompt=24, prompts_per_batch=32),
    "generations_32": _rl("32 generations", "scalerl", generations_per_prompt=32, prompts_per_batch=24),
    # Figures 19 and 20: clips. Paper: the values of 19a were not recovered, its text names 0.2, 0.26 and 0.28.
    # Here: these, and 0.4, so that the range of the sweep exceeds that of the names.
    "dapo_clip_020": _rl("DAPO, upper clip 0.2", "baseline", clip_high=0.2),
    "dapo_clip_028": _rl("DAPO, upper clip 0.28", "baseline", clip_high=0.28),
    "dapo_clip_040": _rl("DAPO, upper clip 0.4", "baseline", clip_high=0.4),
    "cispo_cap_4": _rl("CISPO, cap 4", "baseline", loss="cispo", cispo_cap=4.0),
    "cispo_cap_8": _rl("CISPO, cap 8", "baseline", loss="cispo", cispo_cap=8.0),
    "gspo_1e4": _rl("GSPO, 4e-4 / 3e-4", "baseline", loss="gspo", clip_low=3e-4, clip_high=4e-4),
    "gspo_1e2": _rl("GSPO, 4e-2 / 3e-2", "baseline", loss="gspo", clip_low=3e-2, clip_high=4e-2),
    "gspo_1e1": _rl("GSPO, 4e-1 / 3e-1", "baseline", loss="gspo", clip_low=3e-1, clip_high=4e-1),
    "gspo_5": _rl("GSPO, 5e-3 / 3e-3", "baseline", loss="gspo", clip_low=3e-3, clip_high=5e-3),
    # P2: one base, two ways to fine-tune it
    # Paper: DAPO on 256 prompts in mini-batches of 64, clip "as DAPO", token average, over-length penalty.
    # Here: the penalty falls on correct completions only, as P1 has it (Eq 9).
    "rlvr": _rl(
        "RLVR (DAPO)",
        "qwen_dapo",
        "off_principals",
        aggregation="token",
        clip_high=0.28,
        off_policy_steps=4,
        prompts_per_batch=64,
        length_control="penalty",
    ),
    "sft": Arm(paper="off_principals", method="sft", label="SFT"),
}

LEARNING_RATES: dict[str, float] = {"half_lr": 0.5, "double_lr": 2.0}
"""Beside an arm's own rate: at fixed steps a rate that is too small reads as a lower ceiling."""
LEARNING_RATE_CORE = ("scalerl", "baseline", "gspo", "cispo", "large_batch", "moe")
"""The comparisons whose arms have three learning rates at every scale: loss, batch and model."""
LEARNING_RATE_EXTRA = (
    *("deepseek_grpo", "qwen_dapo", "magistral", "minimax", "ppo8", "fp32_head", "zero_variance_filter"),
    *("no_positive_resampling", "prompt_average", "batch_norm", "small_batch", "long_budget", "generations_32"),
    *("dapo_clip_028", "math_and_code"),
)
"""One arm of every other family."""


def learning_rate_arm(arm: str, rate: str) -> str:
    """E.g. ``"scalerl_half_lr"``."""
    return f"{arm}_{rate}"


for _arm in (*LEARNING_RATE_CORE, *LEARNING_RATE_EXTRA):
    for _rate, _factor in LEARNING_RATES.items():
        ARMS[learning_rate_arm(_arm, _rate)] = ARMS[_arm].changed(
            label=f"{ARMS[_arm].label}, learning rate x {_factor:g}",
            times=ARMS[_arm].times | {"learning_rate": _factor},
            extra=_arm in LEARNING_RATE_EXTRA,
        )


class Figure(Settings):
    """A figure or table of a paper, or a control: its panels need these arms."""

    paper: Paper
    stem: str
    """File name without suffix: ``fig05``, ``table1``, ``control_learning_rate``."""
    arms: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Arms that are shown where the scale runs them."""

    @property
    def target(self) -> str:
        """The Snakemake target, e.g. ``scalerl_fig5``."""
        number = self.stem.removeprefix("fig")
        return f"{self.paper}_fig{int(number)}" if number != self.stem else f"{self.paper}_{self.stem}"


_RECIPES = ("deepseek_grpo", "qwen_dapo", "magistral", "minimax", "scalerl")
_LEAVE_ONE_OUT = ("scalerl", *(arm for arm in ARMS if arm.startswith("loo_") and not ARMS[arm].extra))
_GENERATIONS = ("generations_8", "scalerl", "generations_24", "generations_32")
_HEADS = (
    *("baseline", "fp32_trainer", "fp32_generator", "fp32_head"),
    *("cispo", "cispo_fp32_trainer", "cispo_fp32_generator", "cispo_fp32_head"),
    *("head_m5", "head_m3", "head_m1", "cispo_head_m1"),
)

FIGURES: tuple[Figure, ...] = (
    Figure(paper="scalerl", stem="fig01", arms=("large_batch", "moe")),
    Figure(paper="scalerl", stem="fig02", arms=_RECIPES),
    Figure(paper="scalerl", stem="fig03"),
    Figure(
        paper="scalerl",
        stem="fig04",
        arms=(
            *("ppo1", "ppo8", "baseline", "pipeline4", "pipeline12"),
            *("ppo8_slow", "ppo8_fast", "pipeline8_slow", "pipeline8_fast"),
        ),
    ),
    Figure(paper="scalerl", stem="fig05", arms=("baseline", "gspo", "cispo", "fp32_head")),
    Figure(paper="scalerl", stem="fig06", arms=("baseline", "zero_variance_filter", "no_positive_resampling")),
    Figure(paper="scalerl", stem="fig07", arms=_LEAVE_ONE_OUT),
    Figure(paper="scalerl", stem="fig08", arms=("scalerl", "moe", "moe_bf16_head")),
    Figure(paper="scalerl", stem="fig09", arms=("scalerl", "long_budget")),
    Figure(paper="scalerl", stem="fig10", arms=("small_batch", "scalerl", "large_batch")),
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
    Figure(paper="scalerl", stem="fig17", arms=_GENERATIONS),
    Figure(paper="scalerl", stem="fig18", arms=(*_GENERATIONS, "math_and_code")),
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
        stem="table_truncation",
        arms=tuple(arm for arm, spec in ARMS.items() if spec.paper == "scalerl" and not spec.extra),
    ),
    Figure(
        paper="scalerl",
        stem="control_learning_rate",
        arms=tuple(
            a for arm in LEARNING_RATE_CORE for a in (arm, *(learning_rate_arm(arm, r) for r in LEARNING_RATES))
        ),
        optional=tuple(learning_rate_arm(arm, rate) for arm in LEARNING_RATE_EXTRA for rate in LEARNING_RATES),
    ),
    Figure(paper="scalerl", stem="control_head_precision", arms=_HEADS),
    Figure(paper="off_principals", stem="fig01", arms=("rlvr", "sft")),
    Figure(paper="off_principals", stem="fig04", arms=("rlvr", "sft")),
    Figure(paper="off_principals", stem="fig05", arms=("rlvr",)),
    Figure(paper="off_principals", stem="table1", arms=("rlvr", "sft")),
)


class RunSettings(Settings):
    """Everything that determines one run: the same settings give the same run."""

    arm: str
    seed: int
    method: Method
    base_name: str
    base: BaseSettings
    math: MathSettings
    code: CodeSettings | None = None
    """Set if the run has code problems."""
    evaluation: EvaluationSettings
    rl: RLSettings
    """For SFT runs only the generation budget is used, in evaluations."""
    recipe: Recipe | None = None
    sft: SFTSettings | None = None

    @property
    def name(self) -> str:
        return run_name(self.arm, self.seed)


def run_name(arm: str, seed: int) -> str:
    return f"{arm}-s{seed}"


def parse_run_name(run: str) -> tuple[str, int]:
    """``"scalerl-s3"`` -> ``("scalerl", 3)``."""
    arm, _, seed = run.rpartition("-s")
    if arm not in ARMS or not seed.isdecimal():
        raise ConfigError(f"{run}: not a run; expected <arm>-s<seed> with an arm of {', '.join(ARMS)}")
    return arm, int(seed)


def load_scale(path: str | Path) -> Config:
    """Read a scale's YAML file; see :func:`with_catalogue`.

    Raises:
        ConfigError: naming the file and the key.
    """
    return with_catalogue(load_config(path), str(path))


def with_catalogue(config: Config, source: str) -> Config:
    """The scale with the seeds of every arm of the catalogue spelled out, ``others`` and ``extras`` resolved.

    Raises:
        ConfigError: naming the file and the arm: an arm does not exist or has no seeds, a base or an arm's
            settings are missing.
    """
    given = dict(config.seeds)
    others, extras = given.pop("others", None), given.pop("extras", 0)
    for arm in given:
        if arm not in ARMS:
            raise ConfigError(f"{source}: seeds.{arm}: no such arm; the catalogue has {', '.join(ARMS)}")
    seeds = {}
    for arm, spec in ARMS.items():
        count = given.get(arm, extras if spec.extra else others)
        if count is None or (count < 1 and not spec.extra):
            raise ConfigError(f"{source}: seeds.{arm}: needs at least one seed; add it, or seeds.others for every arm")
        if count:
            seeds[arm] = count
            _check_arm(config, arm, spec, source)
    return config.changed(seeds=seeds)


def _check_arm(config: Config, arm: str, spec: Arm, source: str) -> None:
    base = base_of(config, arm)
    if base not in config.bases:
        raise ConfigError(f"{source}: bases.{base}: missing; the arm {arm} starts from it")
    if spec.method == "sft" and getattr(config, spec.paper).sft is None:
        raise ConfigError(f"{source}: {spec.paper}.sft: missing; the arm {arm} needs it")


def base_of(config: Config, arm: str) -> str:
    """The name of an arm's base model."""
    return ARMS[arm].base or getattr(config, ARMS[arm].paper).base


def has_task(arm: str, task: Task) -> bool:
    """Whether an arm's runs train on a task."""
    spec = ARMS[arm]
    return spec.recipe is not None and task in RECIPES[spec.recipe].changed(**spec.changes).tasks


def arms_of(config: Config, figure: Figure) -> tuple[str, ...]:
    """The arms that a figure shows at this scale."""
    return figure.arms + tuple(arm for arm in figure.optional if arm in config.seeds)


def runs_of(config: Config, arms: Iterable[str]) -> list[str]:
    """The recorded runs of some arms, in order."""
    return [run_name(arm, seed) for arm in arms for seed in range(config.seeds[arm])]


def _rl_settings(rl: RLSettings, name: str, recipe: Recipe | None) -> RLSettings:
    """The study's settings as an arm changes them, with as many steps as give every batch the same completions.

    Paper: compares recipes of unequal batches over about the same compute. Here: over the same completions.
    """
    values = rl.model_dump()
    for key, factor in ARMS[name].times.items():
        if not isinstance(values.get(key), int | float):
            raise ConfigError(f"catalogue: arm {name}: times.{key}: no number of RLSettings")
        values[key] = round(values[key] * factor) if isinstance(values[key], int) else values[key] * factor
    if recipe is not None:
        share = REFERENCE_COMPLETIONS / (recipe.prompts_per_batch * recipe.generations_per_prompt)
        values["steps"] = max(2, round(values["steps"] * share))
    return RLSettings.model_validate(values)


def resolve_run(config: Config, run: str) -> RunSettings:
    """The complete settings of a run.

    Raises:
        ConfigError: the run's arm is unknown, or it changes a field that does not exist.
    """
    name, seed = parse_run_name(run)
    arm = ARMS[name]
    study = getattr(config, arm.paper)
    try:
        recipe = RECIPES[arm.recipe].changed(**arm.changes) if arm.recipe else None
    except ValidationError as error:
        raise ConfigError(f"catalogue: arm {name}: {error}") from None
    base = base_of(config, name)
    return RunSettings(
        arm=name,
        seed=seed,
        method=arm.method,
        base_name=base,
        base=config.bases[base],
        math=config.math,
        code=config.code if has_task(name, "code") else None,
        evaluation=study.evaluation,
        rl=_rl_settings(study.rl, name, recipe),
        recipe=recipe,
        sft=study.sft if arm.method == "sft" else None,
    )
