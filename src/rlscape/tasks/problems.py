"""What the engine needs to know about a task: prompts, a verifier, and three disjoint sets of problems."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from rlscape.config import CodeSettings, MathSettings
from rlscape.settings import Task


class Problem(Protocol):
    """A prompt whose completions can be verified."""

    @property
    def prompt_ids(self) -> list[int]:
        """Token ids of the prompt."""
        ...

    def verify(self, completion_ids: Sequence[int]) -> bool:
        """Whether a completion, its end token included, is correct."""
        ...


P_co = TypeVar("P_co", bound=Problem, covariant=True)


class ProblemSets(NamedTuple, Generic[P_co]):
    """Pairwise disjoint; any leading part of a set is as balanced as the whole."""

    training: Sequence[P_co]
    validation: Sequence[P_co]
    downstream: Sequence[P_co]
    """Harder than any in training."""


def make_task_sets(math: MathSettings, code: CodeSettings | None = None) -> dict[Task, ProblemSets[Problem]]:
    """The sets of every task that has settings; each depends on its own settings alone."""
    from rlscape.tasks.math import make_sets

    sets: dict[Task, ProblemSets[Problem]] = {"math": make_sets(math)}
    if code is not None:
        from rlscape.tasks.code import make_code_sets

        sets["code"] = make_code_sets(code)
    return sets
