"""What a task is: problems with a verifier, three disjoint sets of them, and traces to pretrain on.

A task is one file of this folder, which ends in ``TASK``, and a line in :mod:`rlscape.tasks.registry`. It is written in
the words of :mod:`rlscape.tasks.vocabulary`, which tiny models learn, or in plain text
(:mod:`rlscape.tasks.words`), for models that can read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from pydantic import AfterValidator, Field

from rlscape.errors import ConfigError
from rlscape.schema import Settings
from rlscape.tasks.vocabulary import END_THINK_ID, EOS_ID, INTERRUPTION, encode


def _ordered(limits: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= limits[0] <= limits[1]:
        raise ValueError("needs two numbers, of which the first is at least 1 and no greater than the second")
    return limits


Range = Annotated[tuple[int, int], AfterValidator(_ordered)]
"""Fewest and most, inclusive."""


class Lengths(Settings):
    """How long problems are, where they are chains of operations."""

    operations: Range
    """Operations of a training or validation problem."""
    downstream_operations: Range
    """Those of the harder held-out set (the stand-in for AIME and LiveCodeBench)."""


class Curriculum(Lengths):
    """How long those are that a base model sees."""

    pretraining_operations: Range | None = None
    """By a curriculum whose maximum grows over the first half of the steps; None: ``operations``."""
    tail_operations: Range | None = None
    """Those of a thin tail in the second half of the steps, as large as the base says; None:
    ``downstream_operations``."""


class TaskSettings(Settings):
    """How many problems there are; a task adds which."""

    source: str | None = Field(None, exclude_if=lambda source: source is None)
    """The module of this folder that makes them; None: the one that has the task's name."""
    pool_size: int = Field(ge=1)
    """Training problems; an epoch is one pass through them."""
    validation_size: int = Field(ge=1)
    downstream_size: int = Field(ge=1)
    seed: int = 0
    """Seed of the three sets, the same for every run."""


class ChainSettings(TaskSettings, Lengths):
    """Of a task whose problems are chains of operations."""


class TracedSettings(ChainSettings, Curriculum):
    """Of one that base models are pretrained on."""


class Prompted(Protocol):
    """What can be told apart by its prompt."""

    @property
    def prompt(self) -> str:
        """Its words."""
        ...


class Problem(Prompted, Protocol):
    """A prompt whose completions can be verified.

    A problem with an environment also has ``respond(completion_ids) -> int``: the token that follows when the policy
    has written ``<result>``, the last of ``completion_ids``; neither ``</think>`` nor ``<eos>``.
    """

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


P = TypeVar("P", bound=Prompted)
P_co = TypeVar("P_co", bound=Prompted, covariant=True)


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
    chance_rate: Callable[[Sequence[Any]], float]
    """The pass rate of the best guess that solves nothing."""
    draw: Callable[[int, Any, np.random.Generator], Problem] | None = None
    """(operations, settings, generator) -> any problem of that length, as a base model sees them; None: in words."""
    flawed_trace: Callable[[Any, np.random.Generator, "Flaws"], list[str]] | None = None
    """The words of a completion such as careless people write; None: in words."""

    @property
    def in_words(self) -> bool:
        """Whether its problems are plain text (:mod:`rlscape.tasks.words`), which only a tokenizer turns into ids."""
        return self.draw is None or self.flawed_trace is None


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


def requests_of(settings: ChainSettings) -> Requests:
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


MOST_DRAWS = 10_000
"""Draws in a row that may bring nothing new."""


def draw_new(draw: Callable[[], P | None], drawn: set[str], of: str) -> P:
    """A problem whose prompt is not yet among those drawn, and from now on is.

    Args:
        draw: called again for a prompt that is, and for None.
        of: the problems, in the words of an error.

    Raises:
        ConfigError: they seem to be used up.
    """
    for _ in range(MOST_DRAWS):
        problem = draw()
        if problem is not None and problem.prompt not in drawn:
            drawn.add(problem.prompt)
            return problem
    raise ConfigError(
        f"too few problems {of}: {MOST_DRAWS} draws in a row gave no other than the {len(drawn)} in the sets; "
        "make the sets smaller or the problems more varied"
    )


def draw_sets(
    settings: ChainSettings, draw: Callable[[int, int, int, np.random.Generator], P | None]
) -> ProblemSets[P]:
    """Sets without a common prompt, of which each cycles through its range of operations.

    Args:
        draw: (fewest operations, those beyond, cycle, generator) -> a problem; called again for None and for a prompt
            that is already in a set.

    Raises:
        ConfigError: there are too few problems.
    """
    rng = np.random.default_rng(settings.seed)
    drawn: set[str] = set()

    def draw_set(size: int, low: int, high: int) -> list[P]:
        problems = []
        for index in range(size):
            cycle, beyond = divmod(index, high - low + 1)
            again = partial(draw, low, beyond, cycle, rng)
            problems.append(draw_new(again, drawn, f"of {low + beyond} operations"))
        return problems

    validation, downstream, training = (draw_set(size, *operations) for size, operations in requests_of(settings))
    return ProblemSets(training, validation, downstream)
