"""What the engine needs to know about a task: prompts, a verifier, and three disjoint sets of problems."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from rlscape.config import AgentSettings, AgentTaskSettings, CodeSettings, MathSettings
from rlscape.settings import Task

SetSettings = MathSettings | CodeSettings | AgentTaskSettings
"""What sets are drawn from."""


class Problem(Protocol):
    """A prompt whose completions can be verified.

    A problem with an environment also has ``respond(completion_ids) -> int``: the token that follows when the policy
    has written ``<result>``, the last of ``completion_ids``; neither ``</think>`` nor ``<eos>``.
    """

    @property
    def prompt(self) -> str:
        """Its words."""
        ...

    @property
    def prompt_ids(self) -> list[int]:
        """Token ids of the prompt."""
        ...

    @property
    def reference_ids(self) -> list[int]:
        """Token ids of a correct completion, the end token included."""
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


Requests = tuple[tuple[int, tuple[int, int]], ...]
"""Of the validation, the downstream and the training set: size, fewest and most operations."""


def requests_of(settings: SetSettings) -> Requests:
    """In the order in which the sets are drawn."""
    return (
        (settings.validation_size, settings.operations),
        (settings.downstream_size, settings.downstream_operations),
        (settings.pool_size, settings.operations),
    )


def draw_sets(settings: SetSettings, draw: Callable[[int, int, int, np.random.Generator], P_co]) -> ProblemSets[P_co]:
    """Sets without a common prompt, of which each cycles through its range of operations.

    Args:
        draw: (fewest operations, those beyond, cycle, generator) -> a problem; called again for a prompt that
            is already in a set.
    """
    rng = np.random.default_rng(settings.seed)
    drawn: set[str] = set()

    def draw_set(size: int, low: int, high: int) -> list[P_co]:
        problems = []
        for index in range(size):
            cycle, beyond = divmod(index, high - low + 1)
            while (problem := draw(low, beyond, cycle, rng)).prompt in drawn:
                pass
            drawn.add(problem.prompt)
            problems.append(problem)
        return problems

    validation, downstream, training = (draw_set(size, *operations) for size, operations in requests_of(settings))
    return ProblemSets(training, validation, downstream)


def make_task_sets(
    math: MathSettings, code: CodeSettings | None = None, agents: AgentSettings | None = None
) -> dict[Task, ProblemSets[Problem]]:
    """The sets of every task that has settings; each depends on its own settings alone."""
    from rlscape.tasks.math import make_sets

    sets: dict[Task, ProblemSets[Problem]] = {"math": make_sets(math)}
    if code is not None:
        from rlscape.tasks.code import make_code_sets

        sets["code"] = make_code_sets(code)
    if agents is not None:
        from rlscape.tasks.agents import AGENT_TASKS, make_agent_sets

        sets |= {task: make_agent_sets(task, getattr(agents, task)) for task in AGENT_TASKS}
    return sets
