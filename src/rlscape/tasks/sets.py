"""The problems of several tasks."""

from collections.abc import Mapping

from rlscape.tasks.base import Problem, ProblemSets, TaskSettings
from rlscape.tasks.registry import TASKS


def make_task_sets(tasks: Mapping[str, TaskSettings]) -> dict[str, ProblemSets[Problem]]:
    """The sets of every task that has settings, in that order; each depends on its own settings alone."""
    return {task: TASKS[task].make_sets(settings) for task, settings in tasks.items()}
