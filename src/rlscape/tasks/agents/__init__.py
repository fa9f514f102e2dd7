"""Multi-turn tool use: a calculator, a search over several hops, and a small planning world.

Paper (arXiv 2511.08567, Table 3): web research, software engineering, shopping and household agents of 7B and 8B
parameters. Here: three tools that answer in one word, small enough for models of under a million parameters.

What the tasks share, and how completions are verified, is in :mod:`rlscape.tasks.agents.tools`.
"""

from collections.abc import Mapping

import numpy as np

from rlscape.config import AgentTaskSettings
from rlscape.settings import AgentTask
from rlscape.tasks.agents.calculator import Calculator
from rlscape.tasks.agents.planning import Planning
from rlscape.tasks.agents.search import Search
from rlscape.tasks.agents.tools import ToolProblem, flawed_trace, trace
from rlscape.tasks.problems import ProblemSets, draw_sets, requests_of

__all__ = ["AGENT_TASKS", "ToolProblem", "draw_any_problem", "flawed_trace", "make_agent_sets", "trace"]

AGENT_TASKS: Mapping[AgentTask, type[ToolProblem]] = {
    "calculator": Calculator,
    "search": Search,
    "planning": Planning,
}


def draw_any_problem(task: AgentTask, operations: int, rng: np.random.Generator) -> ToolProblem:
    """A problem of the given length."""
    return AGENT_TASKS[task].draw(operations, int(rng.integers(1 << 30)), rng)


def make_agent_sets(task: AgentTask, settings: AgentTaskSettings) -> ProblemSets[ToolProblem]:
    """The training pool, the validation set and the harder downstream set of one task.

    Lengths cycle through their range and, at every length, answers (of planning: goals) through theirs. Depends on
    ``settings`` alone.

    Raises:
        ValueError: the sets need more than half of the distinct prompts of some length.
    """
    kind, requests = AGENT_TASKS[task], requests_of(settings)
    shortest, longest = min(low for _, (low, _) in requests), max(high for _, (_, high) in requests)
    for operations in range(shortest, longest + 1):
        needed = sum(-(-size // (high - low + 1)) for size, (low, high) in requests if low <= operations <= high)
        if 2 * needed > kind.capacity(operations):
            raise ValueError(
                f"{task}: only {kind.capacity(operations)} prompts have length {operations} and {needed} problems of "
                "it are needed, more than half; make the sets smaller or the problems longer"
            )

    def draw(low: int, beyond: int, cycle: int, rng: np.random.Generator) -> ToolProblem:
        return kind.draw(low + beyond, cycle, rng)

    return draw_sets(settings, draw)
