"""The problems of several tasks."""

from collections.abc import Mapping
from typing import Any

from rlscape.errors import ConfigError
from rlscape.tasks.base import Problem, ProblemSets, Task, TaskSettings
from rlscape.tasks.registry import TASKS
from rlscape.tasks.speech import WORDS, Speech


def source_of(name: str, settings: TaskSettings) -> str:
    """The module of the task that settings know by a name."""
    return settings.source or name


def task_of(name: str, settings: TaskSettings) -> Task:
    """The task that settings know by a name."""
    return TASKS[source_of(name, settings)]


def training_problems(sets: Mapping[str, ProblemSets[Problem]], part: tuple[int, int] | None = None) -> list[Problem]:
    """Those of all tasks, in order; of each the i-th of n equal parts, if ``part`` is (i, n)."""
    index, parts = part or (0, 1)
    shares = {task: len(made.training) // parts for task, made in sets.items()}
    return [
        problem for task, size in shares.items() for problem in sets[task].training[index * size : (index + 1) * size]
    ]


def make_task_sets(tasks: Mapping[str, TaskSettings], speech: Speech = WORDS) -> dict[str, ProblemSets[Problem]]:
    """The sets of every task that has settings, in that order and in a model's tokens.

    Each depends on its own settings alone.

    Raises:
        ConfigError: naming the task: it has too few problems.
    """
    made = {name: _make_sets(name, settings) for name, settings in tasks.items()}
    return {
        name: ProblemSets(*([speech.spoken(problem) for problem in problems] for problems in sets))
        for name, sets in made.items()
    }


def _make_sets(name: str, settings: TaskSettings) -> ProblemSets[Any]:
    try:
        return task_of(name, settings).make_sets(settings)
    except ConfigError as error:
        raise ConfigError(f"tasks.{name}: {error}") from None
