"""What a task is: problems with a verifier, three disjoint sets of them, and traces to pretrain on.

A task is one file of this folder with the name of the task, which ends in ``TASK``, and a line in
:mod:`rlscape.tasks.registry`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from pydantic import AfterValidator, Field

from rlscape.schema import Settings
from rlscape.tasks.vocabulary import END_THINK_ID, EOS_ID, INTERRUPTION, encode


def _ordered(limits: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= limits[0] <= limits[1]:
        raise ValueError("needs two numbers, of which the first is at least 1 and no greater than the second")
    return limits


Range = Annotated[tuple[int, int], AfterValidator(_ordered)]
"""Fewest and most, inclusive."""


class TaskSettings(Settings):
    """Which problems there are; a task may add its own fields."""

    operations: Range
    """Operations of a training or validation problem."""
    downstream_operations: Range
    """Those of the harder held-out set (the stand-in for AIME and LiveCodeBench)."""
    pretraining_operations: Range | None = None
    """Those that a base model sees, by a curriculum whose maximum grows over the first half of the steps;
    None: ``operations``."""
    tail_operations: Range | None = None
    """Those of a thin tail in the second half of the steps, as large as the base says; None:
    ``downstream_operations``."""
    pool_size: int = Field(ge=1)
    """Training problems; an epoch is one pass through them."""
    validation_size: int = Field(ge=1)
    downstream_size: int = Field(ge=1)
    seed: int = 0
    """Seed of the three sets, the same for every run."""


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


@dataclass(frozen=True)
class Task:
    """What the pipeline asks of a task."""

    settings: type[TaskSettings]
    make_sets: Callable[[Any], ProblemSets[Any]]
    """From the task's settings, and from nothing else."""
    draw: Callable[[int, Any, np.random.Generator], Problem]
    """(operations, settings, generator) -> any problem of that length, as a base model sees them."""
    flawed_trace: Callable[[Any, np.random.Generator, "Flaws"], list[str]]
    """The words of a completion such as careless people write."""
    chance_rate: Callable[[Sequence[Any]], float]
    """The pass rate of the best guess that solves nothing."""


@dataclass(frozen=True)
class Flaws:
    """Of the traces that a base model is pretrained on."""

    wrong_step_rate: float = 0.0
    """Probability that a step is off; what follows goes on from the wrong one."""
    thoughtless_rate: float = 0.0
    """Probability of ``<think> </think>`` and the right answer, with nothing computed."""
    interrupted_rate: float = 0.0
    """Probability that the thought is cut at a random word by the interruption phrase; the answer is the one that
    the complete thought would have given."""


def interrupted(words: list[str], rng: np.random.Generator, rate: float) -> list[str]:
    """With probability ``rate`` the thought ends at a random word in the interruption phrase."""
    if rng.random() < rate:
        end = words.index("</think>")
        words[int(rng.integers(1, end + 1)) : end + 1] = INTERRUPTION.split()
    return words


def concludes(completion_ids: Sequence[int], answer: str) -> bool:
    """Whether a completion has exactly the form ``... </think> ANSWER <eos>``.

    An interruption phrase ends in ``</think>`` and is accepted; a truncated completion, words after the answer, and a
    missing or second ``</think>`` are not.
    """
    ids, end = list(completion_ids), [END_THINK_ID, *encode(answer), EOS_ID]
    return ids[-len(end) :] == end and ids.count(END_THINK_ID) == 1 and ids.count(EOS_ID) == 1


Requests = tuple[tuple[int, Range], ...]
"""Of the validation, the downstream and the training set: size, fewest and most operations."""


def requests_of(settings: TaskSettings) -> Requests:
    """In the order in which the sets are drawn."""
    return (
        (settings.validation_size, settings.operations),
        (settings.downstream_size, settings.downstream_operations),
        (settings.pool_size, settings.operations),
    )


def column_prefix(task: str) -> str:
    """Of a task's keys in ``evaluation.json``, and of its columns in ``metrics.parquet``; there, the columns of a run's
    first task have no prefix."""
    return "" if task == "math" else f"{task}_"


def draw_sets(settings: TaskSettings, draw: Callable[[int, int, int, np.random.Generator], P_co]) -> ProblemSets[P_co]:
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
