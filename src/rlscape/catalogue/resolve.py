"""What a scale runs, and the complete settings of each run."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, assert_never

from pydantic import ValidationError

from rlscape.catalogue import off_principals, pilots, scalerl
from rlscape.catalogue.arms import Arm, Figure, Measurement
from rlscape.catalogue.pilots import Choice, Quantity
from rlscape.catalogue.recipes import RECIPES
from rlscape.errors import ConfigError
from rlscape.paths import parse_run_name, run_name
from rlscape.schema import Settings
from rlscape.settings.base_model import BaseSettings, CheckpointSettings
from rlscape.settings.reading import load_config
from rlscape.settings.recipe import REFERENCE_COMPLETIONS, Recipe
from rlscape.settings.run import RunSettings
from rlscape.settings.scale import Config, StudySettings
from rlscape.settings.training import Method, RLSettings
from rlscape.tasks.registry import TASKS

ARMS: dict[str, Arm] = scalerl.ARMS | off_principals.ARMS | pilots.ARMS
FIGURES: tuple[Figure, ...] = scalerl.FIGURES + off_principals.FIGURES
CHOICES: dict[str, Choice] = {choice.name: choice for choice in pilots.CHOICES}
"""What pilots choose, in the order in which choices may refer to each other."""
CHOICE_REFERENCE = "scalerl"
"""The arm whose rise makes the margins of choices."""
JUDGED_BY_RISE: tuple[Quantity, ...] = ("collapsed", "promises")
"""Quantities that need such a margin."""

NEEDED = {arm for figure in FIGURES for arm in figure.arms}
"""Arms without which some figure cannot be made."""
DOWNSTREAM = {arm for figure in FIGURES if figure.downstream for arm in (*figure.arms, *figure.optional)}
"""Arms that are evaluated downstream; on the others it would be a third to a half of an evaluation's time."""
DIVERGENCE = {arm for figure in FIGURES if figure.divergence for arm in (*figure.arms, *figure.optional)}
"""Arms whose divergence from their start is measured after every update: a twentieth to a tenth of a run's time."""
PILOTED = {arm for choice in pilots.CHOICES for arm in (*choice.candidates, *choice.against)} - CHOICES.keys()
"""Arms that pilots choose among, or compare those with."""


# Scales


def load_scale(path: str | Path) -> Config:
    """Read a scale's YAML file; see :func:`with_catalogue`.

    Raises:
        ConfigError: naming the file and the key.
    """
    return with_catalogue(load_config(path), str(path))


def with_catalogue(config: Config, source: str) -> Config:
    """The scale with all its arms and figures spelled out: ``seeds`` of every arm that it runs, and ``targets``.

    Raises:
        ConfigError: naming the file and the key: an arm or a figure does not exist, or lacks seeds, a base or settings.
    """
    given = dict(config.seeds)
    others, extras, piloted = (given.pop(group, 0) for group in ("others", "extras", "pilots"))
    for arm in given:
        if arm not in ARMS:
            raise ConfigError(f"{source}: seeds.{arm}: no such arm; the catalogue has {', '.join(ARMS)}")
    usual = {arm: 0 if arm in pilots.ARMS else extras if spec.extra else others for arm, spec in ARMS.items()}
    if piloted:
        usual |= dict.fromkeys(PILOTED, piloted)
    counts = usual | given
    # An arm that nobody asked for by name, and no figure needs, does not run where its base is not.
    for arm in ARMS.keys() - given.keys() - NEEDED:
        if base_of(config, arm) not in config.bases:
            counts[arm] = 0
    if config.targets is None:
        figures = [figure for figure in FIGURES if all(counts[arm] for arm in needed_arms(figure))]
        seeds = {arm: count for arm, count in counts.items() if count}
    else:
        named = {_figure_named(target, source).target for target in config.targets}
        figures = [figure for figure in FIGURES if figure.target in named]
        needed = {arm for figure in figures for arm in needed_arms(figure)}
        compared = PILOTED if piloted else pilots.ARMS.keys() & given.keys()
        shown = needed.union(*(figure.optional for figure in figures), compared)
        seeds = {arm: counts[arm] for arm in ARMS if arm in needed or (arm in shown and counts[arm])}
        for arm, count in seeds.items():
            if not count:
                raise ConfigError(
                    f"{source}: seeds.{arm}: needs at least one seed; add it, or seeds.others for every arm"
                )
    if not figures and not choices_of(config.changed(seeds=seeds)):
        raise ConfigError(f"{source}: targets: needs at least one; leave it out for every figure whose arms run")
    config = config.changed(seeds=seeds, targets=tuple(figure.target for figure in figures))
    for arm in seeds:
        _check_arm(config, arm, source)
    for figure in figures:
        _check_figure(config, figure, source)
    return config


def _figure_named(target: str, source: str) -> Figure:
    for figure in FIGURES:
        if figure.target == target:
            return figure
    raise ConfigError(
        f"{source}: targets: no figure {target!r}; there are {', '.join(figure.target for figure in FIGURES)}"
    )


STUDY_SETTINGS: dict[Method, str] = {"rl": "rl", "sft": "sft", "dpo": "preference", "simpo": "preference"}
"""The study's settings of each method."""


def _check_arm(config: Config, arm: str, source: str) -> None:
    spec, base = ARMS[arm], base_of(config, arm)
    if base not in config.bases:
        raise ConfigError(f"{source}: bases.{base}: missing; the arm {arm} starts from it")
    for other, needed in ((spec.start, "starts from"), (spec.teacher, "learns from")):
        if other and config.seeds.get(other, 0) < config.seeds[arm]:
            raise ConfigError(f"{source}: seeds.{other}: needs as many seeds as {arm}, which {needed} its runs")
    needs = STUDY_SETTINGS[spec.method]
    if getattr(getattr(config, spec.paper), needs) is None:
        raise ConfigError(f"{source}: {spec.paper}.{needs}: missing; the arm {arm} needs it")
    checkpoint = isinstance(config.bases[base], CheckpointSettings)
    if checkpoint and spec.method in ("dpo", "simpo"):
        raise ConfigError(
            f"{source}: seeds.{arm}: {spec.method} trains models from scratch, but {base} is a checkpoint"
        )
    for task in tasks_of(arm):
        if task not in config.tasks:
            raise ConfigError(f"{source}: tasks.{task}: missing; the arm {arm} trains on it")
        if TASKS[config.tasks[task].source or task].in_words != checkpoint:
            kind = "words, which need a checkpoint" if not checkpoint else "the tiny models' own vocabulary"
            raise ConfigError(f"{source}: tasks.{task}: is in {kind}, but the arm {arm} starts from bases.{base}")


def _check_figure(config: Config, figure: Figure, source: str) -> None:
    study: StudySettings = getattr(config, figure.paper)
    shown = {
        "drift_prompts": (figure.divergence or "matching" in figure.measurements, study.drift_prompts),
        "evaluation.downstream_prompts": (figure.downstream, study.evaluation.downstream_prompts),
    }
    for key, (needed, value) in shown.items():
        if needed and not value:
            raise ConfigError(f"{source}: {figure.paper}.{key}: is 0, but {figure.target} shows what it measures")


def needed_arms(figure: Figure) -> set[str]:
    """The arms without which a figure cannot be made."""
    measured = (arm for kind in figure.measurements for arm in off_principals.MEASURED[kind])
    arms = {*figure.arms, *measured}
    return arms | {other for arm in arms for other in (ARMS[arm].start, ARMS[arm].teacher) if other}


def figures_of(config: Config) -> list[Figure]:
    """The figures that a scale makes."""
    return [figure for figure in FIGURES if figure.target in (config.targets or ())]


def figure_of(target: str) -> Figure:
    """The figure of a target such as ``scalerl_fig5``."""
    return next(figure for figure in FIGURES if figure.target == target)


def arms_of(config: Config, figure: Figure) -> tuple[str, ...]:
    """The arms that a figure shows at this scale."""
    return figure.arms + tuple(arm for arm in figure.optional if arm in config.seeds)


def with_figure(config: Config, figure: Figure) -> Config:
    """The scale with one figure and the seeds of its arms only: all that the figure may depend on.

    Raises:
        ConfigError: the scale does not run one of them.
    """
    lacking = [arm for arm in figure.arms if arm not in config.seeds]
    if lacking:
        raise ConfigError(f"{figure.target}: the scale {config.scale} does not run {', '.join(lacking)}")
    seeds = {arm: config.seeds[arm] for arm in arms_of(config, figure)}
    return config.changed(seeds=seeds, targets=(figure.target,))


def choices_of(config: Config) -> list[Choice]:
    """The choices whose arms a scale runs, all of them, and the reference arm where they are judged by its rise."""
    made: list[Choice] = []
    for choice in CHOICES.values():
        judged = choice.quantity not in JUDGED_BY_RISE or CHOICE_REFERENCE in config.seeds
        if judged and {*choice.candidates, *choice.against} <= config.seeds.keys() | {earlier.name for earlier in made}:
            made.append(choice)
    return made


def measured_arms(config: Config, measurement: Measurement) -> tuple[str, ...]:
    """The arms whose runs a measurement compares at this scale."""
    too = [group for group in off_principals.MEASURED_TOO.get(measurement, ()) if config.seeds.keys() >= {*group}]
    return off_principals.MEASURED[measurement] + tuple(arm for group in too for arm in group)


def seeds_of(config: Config, *arms: str) -> range:
    """The recorded seeds of an arm; of several, those that all of them have."""
    return range(config.first_seed, config.first_seed + min(config.seeds[arm] for arm in arms))


def curved_bases(config: Config) -> dict[str, dict[Method, str]]:
    """Base whose curvature is measured -> method -> the run from it whose update is a direction."""
    bases: dict[str, dict[Method, str]] = {}
    for arm in measured_arms(config, "curvature"):
        bases.setdefault(base_of(config, arm), {}).setdefault(ARMS[arm].method, first_run(config, arm))
    return {base: runs for base, runs in bases.items() if "rl" in runs}


def runs_of(config: Config, arms: Iterable[str]) -> list[str]:
    """The recorded runs of some arms, in order."""
    return [run_name(arm, seed) for arm in arms for seed in seeds_of(config, arm)]


def first_run(config: Config, arm: str) -> str:
    """The run of an arm's first seed, which stands for the arm where one run is shown."""
    return run_name(arm, config.first_seed)


# Runs


def base_of(config: Config, arm: str) -> str:
    """The name of an arm's base model."""
    return ARMS[arm].base or getattr(config, ARMS[arm].paper).base


def scratch_base(config: Config, name: str) -> BaseSettings:
    """The settings of a base that is made from scratch.

    Raises:
        ConfigError: it is a checkpoint, whose shape no settings tell.
    """
    base = config.bases[name]
    if not isinstance(base, BaseSettings):
        raise ConfigError(f"{config.scale}: bases.{name}: is a checkpoint; needed is one that is made from scratch")
    return base


def start_of(config: Config, run: str) -> str:
    """Where the model that a run starts from is, below the scale's results."""
    settings = resolve_run(config, run)
    if settings.start:
        return f"starts/{settings.start}"
    return f"bases/{settings.base_name}" + (f"_{settings.intervention}" if settings.intervention else "")


def tasks_of(arm: str) -> tuple[str, ...]:
    """The tasks that an arm's runs train on."""
    spec = ARMS[arm]
    return _recipe(arm).tasks if spec.recipe else spec.tasks or ("math",)


def _recipe(arm: str) -> Recipe:
    spec = ARMS[arm]
    if spec.recipe not in RECIPES:
        raise ConfigError(f"catalogue: arm {arm}: no recipe {spec.recipe!r}; there are {', '.join(RECIPES)}")
    try:
        return RECIPES[spec.recipe].changed(**spec.changes | ({"tasks": spec.tasks} if spec.tasks else {}))
    except ValidationError as error:
        raise ConfigError(f"catalogue: arm {arm}: {error}") from None


S = TypeVar("S", bound=Settings)


def _scaled(settings: S, arm: str) -> S:
    """The study's settings as an arm multiplies them."""
    values = settings.model_dump()
    for key, factor in ARMS[arm].scaled.items():
        if not isinstance(values.get(key), int | float):
            raise ConfigError(f"catalogue: arm {arm}: scaled.{key}: no number of {type(settings).__name__}")
        values[key] = round(values[key] * factor) if isinstance(values[key], int) else values[key] * factor
    return type(settings).model_validate(values)


def _rl_settings(rl: RLSettings, arm: str, recipe: Recipe) -> RLSettings:
    """The study's settings as an arm multiplies them, with as many steps as give every batch the same completions.

    Paper: compares recipes of unequal batches over about the same compute. Here: over the same completions.
    """
    rl = _scaled(rl, arm)
    share = REFERENCE_COMPLETIONS / (recipe.prompts_per_batch * recipe.generations_per_prompt)
    return rl.changed(steps=max(2, round(rl.steps * share)))


def resolve_run(config: Config, run: str) -> RunSettings:
    """The complete settings of a run.

    Raises:
        ConfigError: the run's arm is unknown, or it changes a field that does not exist.
    """
    try:
        name, seed = parse_run_name(run)
        spec = ARMS[name]
    except (ValueError, KeyError):
        raise ConfigError(f"{run}: not a run; expected <arm>-s<seed> with an arm of {', '.join(ARMS)}") from None
    study: StudySettings = getattr(config, spec.paper)
    base = base_of(config, name)
    if base not in config.bases:
        raise ConfigError(f"{config.scale}: bases.{base}: missing; the arm {name} starts from it")
    tasks = {task: config.tasks[task] for task in tasks_of(name)}
    if spec.part is not None:
        tasks = {task: table.changed(pool_size=table.pool_size * spec.part[1]) for task, table in tasks.items()}
    values: dict[str, Any] = {}
    try:
        rl = study.rl.changed(**spec.settings)
        match spec.method:
            case "rl":
                values["recipe"] = recipe = _recipe(name)
                rl = _rl_settings(rl, name, recipe)
            case "sft":
                assert study.sft is not None  # with_catalogue looks
                rate = {"learning_rate": study.rl.learning_rate} if spec.at_rl_rate else {}
                values["sft"] = _scaled(study.sft.changed(**rate), name).changed(**spec.changes)
            case "dpo" | "simpo":
                assert study.preference is not None
                values["preference"] = _scaled(study.preference, name).changed(**spec.changes)
            case _:
                assert_never(spec.method)
    except ValidationError as error:
        raise ConfigError(f"catalogue: arm {name}: {error}") from None
    evaluation = study.evaluation if name in DOWNSTREAM else study.evaluation.changed(downstream_prompts=0)
    if own := {"sft": study.sft_evaluations}.get(spec.method):
        evaluation = evaluation.changed(evaluations=own)
    return RunSettings(
        run=run,
        arm=name,
        seed=seed,
        method=spec.method,
        base_name=base,
        base=config.bases[base],
        start=run_name(spec.start, seed) if spec.start else None,
        teacher=run_name(spec.teacher, seed) if spec.teacher else None,
        intervention=spec.intervention,
        tasks=tasks,
        part=spec.part,
        evaluation=evaluation,
        rl=rl,
        optimizer=spec.optimizer,
        storage=spec.storage,
        adapter=spec.adapter,
        mask=spec.mask,
        geometry=config.geometry if spec.mask else None,
        snapshots=spec.snapshots,
        drift_prompts=study.drift_prompts if name in DIVERGENCE else 0,
        **values,
    )
