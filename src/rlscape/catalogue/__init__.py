"""The catalogue of runs: an arm is a named recipe plus the one thing it changes; a figure names its arms.

Adding an ablation is one line in a paper's ``ARMS`` (and its number of seeds in each scale's file); adding a figure
is one line in ``FIGURES`` and one function under ``rlscape/figures/``. Arms shared by figures run once.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, assert_never, get_args

from pydantic import ValidationError

from rlscape.catalogue import off_principals, scalerl
from rlscape.catalogue.arms import Arm, Figure, Method
from rlscape.catalogue.scalerl import LEARNING_RATE_CORE, LEARNING_RATE_EXTRA, LEARNING_RATES, learning_rate_arm
from rlscape.config import (
    AdapterSettings,
    AgentSettings,
    BaseSettings,
    CodeSettings,
    Config,
    EvaluationSettings,
    GeometrySettings,
    MathSettings,
    PreferenceSettings,
    RLSettings,
    SFTSettings,
    StudySettings,
    load_config,
)
from rlscape.errors import ConfigError
from rlscape.rl.recipes import RECIPES, REFERENCE_COMPLETIONS, Recipe
from rlscape.settings import AgentTask, MaskName, Optimizer, Precision, Settings, Task

__all__ = [
    "ARMS",
    "DIVERGENCE",
    "DOWNSTREAM",
    "FIGURES",
    "INTERVENTIONS",
    "LEARNING_RATES",
    "LEARNING_RATE_CORE",
    "LEARNING_RATE_EXTRA",
    "Arm",
    "Figure",
    "Method",
    "RunSettings",
    "arms_of",
    "base_of",
    "has_task",
    "learning_rate_arm",
    "load_scale",
    "parse_run_name",
    "resolve_run",
    "run_name",
    "runs_of",
    "start_of",
    "with_catalogue",
]

INTERVENTIONS = off_principals.INTERVENTIONS
ARMS: dict[str, Arm] = scalerl.ARMS | off_principals.ARMS
FIGURES: tuple[Figure, ...] = scalerl.FIGURES + off_principals.FIGURES
DOWNSTREAM = {arm for figure in FIGURES if figure.downstream for arm in (*figure.arms, *figure.optional)}
"""Arms that are evaluated downstream; on the others it would be a third to a half of an evaluation's time."""

DIVERGENCE = {arm for figure in FIGURES if figure.divergence for arm in (*figure.arms, *figure.optional)}
"""Arms whose divergence from their start is measured after every update: a twentieth to a tenth of a run's time."""


class RunSettings(Settings):
    """Everything that determines one run: the same settings give the same run."""

    arm: str
    seed: int
    method: Method
    base_name: str
    base: BaseSettings
    start: str | None = None
    """The run whose model is trained on."""
    intervention: str | None = None
    math: MathSettings
    part: tuple[int, int] | None = None
    """(i, n): only the i-th of n equal parts of the training problems."""
    code: CodeSettings | None = None
    """Set if the run has code problems."""
    agents: AgentSettings | None = None
    """Set if the run has problems with tools."""
    evaluation: EvaluationSettings
    rl: RLSettings
    """For other methods only the generation budget, the optimiser's settings and the unit of compute."""
    recipe: Recipe | None = None
    sft: SFTSettings | None = None
    preference: PreferenceSettings | None = None
    optimizer: Optimizer = "adamw"
    storage: Precision = "fp32"
    adapter: AdapterSettings | None = None
    mask: MaskName | None = None
    geometry: GeometrySettings | None = None
    """Set if there is a mask: what is principal."""
    snapshots: bool = False
    drift_prompts: int = 0

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


STUDY_SETTINGS: dict[Method, str] = {"rl": "rl", "sft": "sft", "dpo": "preference", "simpo": "preference"}
"""The study's settings of each method."""


def _check_arm(config: Config, arm: str, spec: Arm, source: str) -> None:
    base = base_of(config, arm)
    if base not in config.bases:
        raise ConfigError(f"{source}: bases.{base}: missing; the arm {arm} starts from it")
    study = getattr(config, spec.paper)
    needs = STUDY_SETTINGS[spec.method]
    if getattr(study, needs) is None:
        raise ConfigError(f"{source}: {spec.paper}.{needs}: missing; the arm {arm} needs it")


def base_of(config: Config, arm: str) -> str:
    """The name of an arm's base model."""
    return ARMS[arm].base or getattr(config, ARMS[arm].paper).base


def start_of(config: Config, run: str) -> str:
    """Where the model that a run starts from is, below the scale's results."""
    settings = resolve_run(config, run)
    if settings.start:
        return f"starts/{settings.start}"
    return f"bases/{settings.base_name}" + (f"_{settings.intervention}" if settings.intervention else "")


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


S = TypeVar("S", bound=Settings)


def _scaled(settings: S, name: str) -> S:
    """The study's settings as an arm multiplies them."""
    values = settings.model_dump()
    for key, factor in ARMS[name].times.items():
        if not isinstance(values.get(key), int | float):
            raise ConfigError(f"catalogue: arm {name}: times.{key}: no number of {type(settings).__name__}")
        values[key] = round(values[key] * factor) if isinstance(values[key], int) else values[key] * factor
    return type(settings).model_validate(values)


def _rl_settings(rl: RLSettings, name: str, recipe: Recipe) -> RLSettings:
    """The study's settings as an arm multiplies them, with as many steps as give every batch the same completions.

    Paper: compares recipes of unequal batches over about the same compute. Here: over the same completions.
    """
    rl = _scaled(rl, name)
    share = REFERENCE_COMPLETIONS / (recipe.prompts_per_batch * recipe.generations_per_prompt)
    return rl.changed(steps=max(2, round(rl.steps * share)))


def resolve_run(config: Config, run: str) -> RunSettings:
    """The complete settings of a run.

    Raises:
        ConfigError: the run's arm is unknown, or it changes a field that does not exist.
    """
    name, seed = parse_run_name(run)
    arm = ARMS[name]
    study: StudySettings = getattr(config, arm.paper)
    base = base_of(config, name)
    values: dict[str, Any] = {}
    try:
        rl = study.rl.changed(**arm.engine)
        match arm.method:
            case "rl":
                assert arm.recipe is not None
                values["recipe"] = recipe = RECIPES[arm.recipe].changed(**arm.changes)
                rl = _rl_settings(rl, name, recipe)
            case "sft":
                assert study.sft is not None  # with_catalogue looks
                values["sft"] = _scaled(study.sft, name).changed(**arm.changes)
            case "dpo" | "simpo":
                assert study.preference is not None
                values["preference"] = _scaled(study.preference, name).changed(**arm.changes)
            case _:
                assert_never(arm.method)
    except ValidationError as error:
        raise ConfigError(f"catalogue: arm {name}: {error}") from None
    if name not in DOWNSTREAM:
        values["evaluation"] = study.evaluation.changed(downstream_prompts=0)
    settings = RunSettings(
        arm=name,
        seed=seed,
        method=arm.method,
        base_name=base,
        base=config.bases[base],
        start=run_name(arm.start, seed) if arm.start else None,
        intervention=arm.intervention,
        math=config.math,
        part=arm.part,
        code=config.code if has_task(name, "code") else None,
        agents=config.agents if any(has_task(name, task) for task in get_args(AgentTask)) else None,
        evaluation=study.evaluation,
        rl=rl,
        optimizer=arm.optimizer,
        storage=arm.storage,
        adapter=arm.adapter,
        mask=arm.mask,
        geometry=config.geometry if arm.mask else None,
        snapshots=arm.snapshots,
        drift_prompts=study.drift_prompts if name in DIVERGENCE else 0,
    )
    if arm.part is not None:
        values["math"] = config.math.changed(pool_size=config.math.pool_size * arm.part[1])
    return settings.changed(**values)
