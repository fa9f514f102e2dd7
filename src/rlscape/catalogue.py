"""The catalogue of runs: an arm is a named recipe plus the one thing it changes; a figure names its arms.

Adding an ablation is one line in ``ARMS`` (and its number of seeds in each scale's file); adding a figure
is one line in ``FIGURES`` and one function under ``rlscape/figures/``. Arms shared by figures run once.
"""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import ValidationError

from rlscape.config import (
    BaseSettings,
    Config,
    EvaluationSettings,
    MathSettings,
    Paper,
    RLSettings,
    SFTSettings,
)
from rlscape.errors import ConfigError
from rlscape.rl.recipes import RECIPES, REFERENCE_BATCH, Recipe
from rlscape.settings import Settings

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


def _rl(label: str, recipe: str, paper: Paper = "scalerl", **changes: Any) -> Arm:
    return Arm(paper=paper, method="rl", label=label, recipe=recipe, changes=changes)


ARMS: dict[str, Arm] = {
    # Figure 2: five recipes
    "scalerl": _rl("ScaleRL", "scalerl"),
    "deepseek_grpo": _rl("DeepSeek (GRPO)", "deepseek_grpo"),
    "qwen_dapo": _rl("Qwen2.5 (DAPO)", "qwen_dapo"),
    "magistral": _rl("Magistral", "magistral"),
    "minimax": _rl("MiniMax-M1", "minimax"),
    # Figure 5: from the section 3 baseline, one change each
    "baseline": _rl("DAPO (baseline)", "baseline"),
    "gspo": _rl("GSPO", "baseline", loss="gspo", clip_low=3e-3, clip_high=4e-3),
    "cispo": _rl("CISPO", "baseline", loss="cispo"),
    "fp32_head": _rl("FP32 head", "baseline", generator_head="fp32", trainer_head="fp32"),
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


class Figure(Settings):
    """A figure of a paper: its panels need these arms."""

    paper: Paper
    stem: str
    """File name without suffix, e.g. ``fig05``."""
    arms: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """The Snakemake target, e.g. ``scalerl_fig5``."""
        number = self.stem.removeprefix("fig")
        return f"{self.paper}_fig{int(number)}" if number != self.stem else f"{self.paper}_{self.stem}"


FIGURES: tuple[Figure, ...] = (
    Figure(paper="scalerl", stem="fig01", arms=("scalerl",)),
    Figure(paper="scalerl", stem="fig02", arms=("deepseek_grpo", "qwen_dapo", "magistral", "minimax", "scalerl")),
    Figure(paper="scalerl", stem="fig03"),
    Figure(paper="scalerl", stem="fig05", arms=("baseline", "gspo", "cispo", "fp32_head")),
    Figure(paper="scalerl", stem="fig08", arms=("scalerl",)),
    Figure(paper="scalerl", stem="fig12"),
    Figure(paper="scalerl", stem="fig13"),
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


def check_catalogue(config: Config, source: str) -> None:
    """Every arm in the scale's file exists, every figure's arms are in the file.

    Raises:
        ConfigError: naming the file and the arm.
    """
    for arm in config.seeds:
        if arm not in ARMS:
            raise ConfigError(f"{source}: seeds.{arm}: no such arm; the catalogue has {', '.join(ARMS)}")
    for figure in FIGURES:
        for arm in figure.arms:
            if arm not in config.seeds:
                raise ConfigError(f"{source}: seeds.{arm}: missing; {figure.target} needs it")
    for arm, spec in ARMS.items():
        if spec.method == "sft" and getattr(config, spec.paper).sft is None:
            raise ConfigError(f"{source}: {spec.paper}.sft: missing; the arm {arm} needs it")


def runs_of(config: Config, arms: Iterable[str]) -> list[str]:
    """The recorded runs of some arms, in order."""
    return [run_name(arm, seed) for arm in arms for seed in range(config.seeds[arm])]


def _same_prompts(rl: RLSettings, recipe: Recipe | None) -> RLSettings:
    """The settings with as many steps as give every recipe the same number of prompts.

    Paper: compares recipes of unequal batches over about the same compute. Here: over the same prompts.
    """
    if recipe is None:
        return rl
    return rl.changed(steps=max(2, round(rl.steps * REFERENCE_BATCH / recipe.prompts_per_batch)))


def resolve_run(config: Config, run: str) -> RunSettings:
    """The complete settings of a run.

    Raises:
        ConfigError: the run's arm is unknown, or it changes a recipe field that does not exist.
    """
    name, seed = parse_run_name(run)
    arm = ARMS[name]
    study = getattr(config, arm.paper)
    try:
        recipe = RECIPES[arm.recipe].changed(**arm.changes) if arm.recipe else None
    except ValidationError as error:
        raise ConfigError(f"catalogue: arm {name}: {error}") from None
    return RunSettings(
        arm=name,
        seed=seed,
        method=arm.method,
        base_name=study.base,
        base=config.bases[study.base],
        math=config.math,
        evaluation=study.evaluation,
        rl=_same_prompts(study.rl, recipe),
        recipe=recipe,
        sft=study.sft if arm.method == "sft" else None,
    )
