"""The problems of several tasks."""

from collections.abc import Mapping

from rlscape.tasks.base import Problem, ProblemSets, TaskSettings
from rlscape.tasks.registry import TASKS


def training_problems(sets: Mapping[str, ProblemSets[Problem]], part: tuple[int, int] | None = None) -> list[Problem]:
    """Those of all tasks, in order; of each the i-th of n equal parts, if ``part`` is (i, n)."""
    index, parts = part or (0, 1)
    shares = {task: len(made.training) // parts for task, made in sets.items()}
    return [
        problem for task, size in shares.items() for problem in sets[task].training[index * size : (index + 1) * size]
    ]


def make_task_sets(tasks: Mapping[str, TaskSettings]) -> dict[str, ProblemSets[Problem]]:
    """The sets of every task that has settings, in that order; each depends on its own settings alone."""
    return {task: TASKS[task].make_sets(settings) for task, settings in tasks.items()}
