"""Multi-turn tool use: what the tasks share whose problems are solved with a tool, in turns.

Paper (arXiv 2511.08567, Table 3): web research, software engineering, shopping and household agents of 7B and 8B
parameters. Here: three tools that answer in one word (a calculator, a search over several hops, a small planning
world), small enough for models of under a million parameters.

A call is ``<call> WORDS <result>``. When the model writes ``<result>``, the environment answers with the next word,
and the model goes on; an agent stays in its thought until it knows what to answer::

    <call> 7 -> 3 -> 1 = <think> <call> 7 3 <result> 4 <call> 4 1 <result> 9 </think> 9 <eos>

All prompts begin with ``<call>``: they are not those of tasks without a tool. A completion is verified by asking the
environment again: one with an answer that the environment did not give is refused, so that nothing is gained by
writing results oneself. A forced interruption may come instead of an answer.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Self

import numpy as np

from rlscape.errors import ConfigError
from rlscape.tasks.base import Flaws, ProblemSets, Task, TracedSettings, concludes, draw_sets, interrupted, requests_of
from rlscape.tasks.vocabulary import (
    CALL_ID,
    INTERRUPTION_IDS,
    RESULT_ID,
    decode,
    encode,
)

REFUSAL = ";"
"""The answer to a call that the tool cannot follow."""

MOST_CALLS = 12
"""After so many calls the reference agent gives up."""


class ToolProblem(ABC):
    """A prompt, a tool, and what counts as solved."""

    @property
    @abstractmethod
    def prompt(self) -> str:
        """Its words."""

    @property
    @abstractmethod
    def answer(self) -> str:
        """The right word after ``</think>``."""

    @abstractmethod
    def result(self, calls: Sequence[str]) -> str | None:
        """The tool's word for the last of all calls so far; None: it cannot follow it."""

    @abstractmethod
    def next_call(self, history: Sequence[tuple[str, str]]) -> str | None:
        """What a careful agent calls next, given its calls and their results; None: it knows the answer."""

    @abstractmethod
    def careless(self, call: str, rng: np.random.Generator) -> str:
        """Another call than the right one."""

    @classmethod
    @abstractmethod
    def draw(cls, operations: int, cycle: int, rng: np.random.Generator) -> Self:
        """A problem of the given length; those of consecutive cycles are balanced."""

    @staticmethod
    @abstractmethod
    def capacity(operations: int) -> int:
        """How many prompts have the given length."""

    @staticmethod
    @abstractmethod
    def chance_rate(problems: Sequence["ToolProblem"]) -> float:
        """The pass rate of the best completion that does not read what the tool says."""

    @property
    def prompt_ids(self) -> list[int]:
        return encode(self.prompt)

    @property
    def reference_ids(self) -> list[int]:
        return encode(" ".join(trace(self)))

    def achieves(self, calls: Sequence[str]) -> bool:
        """Whether the calls do what the problem asks for, besides the answer."""
        return True

    def respond(self, completion_ids: Sequence[int]) -> int:
        """The environment's token after a completion that ends in ``<result>``."""
        return encode(self.result(_calls(completion_ids)) or REFUSAL)[0]

    def verify(self, completion_ids: Sequence[int]) -> bool:
        """Whether a completion has the form of :func:`~rlscape.tasks.base.concludes` and solves the problem.

        Every ``<result>`` must be followed by what the environment answers, or by an interruption.
        """
        ids = list(completion_ids)
        return (
            concludes(ids, self.answer)
            and all(
                ids[end] == self.respond(ids[:end]) or tuple(ids[end : end + len(INTERRUPTION_IDS)]) == INTERRUPTION_IDS
                for end in _ends(ids)
            )
            and self.achieves(_calls(ids))
        )


def _ends(ids: Sequence[int]) -> list[int]:
    """The position after each call."""
    return [position + 1 for position, token in enumerate(ids) if token == RESULT_ID]


def _calls(ids: Sequence[int]) -> list[str]:
    """The words of each call; those of a call without a beginning are none."""
    calls, start = [], None
    for position, token in enumerate(ids):
        if token == CALL_ID:
            start = position + 1
        elif token == RESULT_ID:
            calls.append("" if start is None else decode(ids[start:position]))
            start = None
    return calls


def trace(problem: ToolProblem) -> list[str]:
    """The words of the reference completion, ``<think>`` to ``<eos>``."""
    return flawed_trace(problem, np.random.default_rng(0), Flaws())


def flawed_trace(problem: ToolProblem, rng: np.random.Generator, flaws: Flaws) -> list[str]:
    """The words of a completion such as careless people write, the environment's among them.

    At a wrong step the agent makes another call than it should, and goes on from the tool's answer to it.
    """
    if rng.random() < flaws.thoughtless_rate:
        return ["<think>", "</think>", problem.answer, "<eos>"]
    history: list[tuple[str, str]] = []
    words = ["<think>"]
    while len(history) < MOST_CALLS and (call := problem.next_call(history)) is not None:
        if rng.random() < flaws.wrong_step_rate:
            call = problem.careless(call, rng)
        result = problem.result([*(earlier for earlier, _ in history), call]) or REFUSAL
        history.append((call, result))
        words += ["<call>", *call.split(), "<result>", result]
    words += ["</think>", history[-1][1], "<eos>"]
    return interrupted(words, rng, flaws.interrupted_rate)


def tool_task(kind: type[ToolProblem], name: str) -> Task:
    """The task whose problems are of one kind."""

    def draw_any(operations: int, settings: TracedSettings, rng: np.random.Generator) -> ToolProblem:
        return kind.draw(operations, int(rng.integers(1 << 30)), rng)

    return Task(TracedSettings, partial(_make_sets, kind, name), kind.chance_rate, draw_any, flawed_trace)


def _make_sets(kind: type[ToolProblem], name: str, settings: TracedSettings) -> ProblemSets[ToolProblem]:
    """The training pool, the validation set and the harder downstream set.

    Lengths cycle through their range and, at every length, answers (of planning: goals) through theirs. Depends on
    ``settings`` alone.

    Raises:
        ConfigError: the sets need more than half of the distinct prompts of some length.
    """
    requests = requests_of(settings)
    shortest, longest = min(low for _, (low, _) in requests), max(high for _, (_, high) in requests)
    for operations in range(shortest, longest + 1):
        needed = sum(-(-size // (high - low + 1)) for size, (low, high) in requests if low <= operations <= high)
        if 2 * needed > kind.capacity(operations):
            raise ConfigError(
                f"{name}: only {kind.capacity(operations)} prompts have length {operations} and {needed} problems of "
                "it are needed, more than half; make the sets smaller or the problems longer"
            )

    def draw(low: int, beyond: int, cycle: int, rng: np.random.Generator) -> ToolProblem:
        return kind.draw(low + beyond, cycle, rng)

    return draw_sets(settings, draw)
