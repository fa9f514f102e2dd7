"""Any dataset of reasoning-gym (https://github.com/open-thought/reasoning-gym), with its own questions and scores.

The question is the dataset's, followed by how to answer; the reference states its answer and shows no steps. An answer
is right if the dataset scores it 1, and wrong if it scores a part. Problems that this form does not suit are left out:
those whose own answer has several lines, or is not given, and those where any answer scores.

Read a dataset's scorer before training on it: some are content if an answer begins with the right one or contains it
(word_sorting, fraction_simplification), and some of algebra, matrices and games evaluate what a model wrote as an
expression.
"""

import difflib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, partial
from importlib.util import find_spec
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
from pydantic import JsonValue, ValidationInfo, field_validator

from rlscape.errors import ConfigError
from rlscape.tasks.base import ProblemSets, Task, TaskSettings, draw_new
from rlscape.tasks.words import ANSWER, WordProblem, commonest

MOST = 20_000
"""Problems that are drawn of a dataset; of more it may refuse to know (word_ladder)."""
OURS = ("seed", "size")
"""Fields of every dataset's configuration that are no options."""
MARKS = " .,:;!*_`'\"$"
"""What may stand around an answer that is read leniently."""


def _factory() -> ModuleType:
    """The list of datasets; importing the package takes seconds."""
    if "pycosat" not in sys.modules and find_spec("pycosat") is None:
        # A solver that comes as source: envs/overrides.txt leaves it out, so that no compiler is needed. It is
        # imported with the package and called by one dataset, zebra_puzzles, which refuses without it.
        sys.modules["pycosat"] = ModuleType("pycosat")
    try:
        from reasoning_gym import factory
    except ImportError as error:
        raise ConfigError(f"needs reasoning-gym: make env, or pip install reasoning-gym ({error})") from None
    return factory


class GymSettings(TaskSettings):
    """A dataset of reasoning-gym."""

    dataset: str
    options: dict[str, JsonValue]
    """Of a training or validation problem: fields of the dataset's configuration."""
    downstream_options: dict[str, JsonValue]
    """Those of the harder held-out set."""

    @field_validator("dataset")
    @classmethod
    def _exists(cls, dataset: str) -> str:
        known = list(_factory().DATASETS)
        if dataset not in known:
            raise ValueError(f"reasoning-gym has no dataset {dataset!r}; {_suggest(dataset, known)}")
        return dataset

    @field_validator("options", "downstream_options")
    @classmethod
    def _suit(cls, options: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        if "dataset" in info.data:
            _check_options(info.data["dataset"], json.dumps(options))
        return options


def _suggest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"


@cache
def _check_options(dataset: str, options: str) -> None:
    """Raise ValueError if a dataset does not take some options, given as JSON, or gives no problem with them."""
    values = json.loads(options)
    _, configuration = _factory().DATASETS[dataset]
    known = [each.name for each in fields(configuration) if each.name not in OURS]
    for key in values:
        if key not in known:
            raise ValueError(f"{dataset} has no option {key!r}; {_suggest(key, known)}")
    try:
        suitable = any(islice(_suitable(dataset, values, seed=0), 10))
    except Exception as error:  # whatever a configuration or a generator thinks of them
        raise ValueError(f"{dataset} refuses them: {type(error).__name__}: {error}") from None
    if not suitable:
        raise ValueError(f"{dataset} has no answers that are one line and alone score 1; take another dataset")


@dataclass(frozen=True)
class GymProblem(WordProblem):
    """A question of a dataset."""

    entry: Mapping[str, Any]
    """As the dataset made it."""
    dataset: Any = field(compare=False)
    """What scores answers."""

    @property
    def answer(self) -> str:
        return str(self.entry["answer"])

    @property
    def reference(self) -> str:
        return f"{ANSWER} {self.answer}"

    def accepts(self, answer: str) -> bool:
        try:
            return bool(self.dataset.score_answer(answer, self.entry) >= 1)
        except Exception:  # some scorers cannot read every text; what they cannot read is not right
            return False

    def candidates(self, conclusion: str) -> list[str]:
        """All of it, all but marks around it, and its last word without such."""
        bare = conclusion.strip(MARKS)
        return [conclusion, bare, *(word.strip(MARKS) for word in bare.split()[-1:])]


def _suitable(dataset: str, options: Mapping[str, JsonValue], seed: int) -> Iterator[GymProblem | None]:
    """The problems of a dataset; None in place of those that are left out."""
    made = _factory().create_dataset(dataset, **options, seed=seed, size=MOST)
    for index in range(MOST):
        try:
            entry = made[index]
        except IndexError:  # as of any sequence: it has no more
            return
        problem = GymProblem(f'{entry["question"].strip()}\nEnd with "{ANSWER} " and the answer.', entry, made)
        yield problem if problem.solves(problem.reference) and not problem.accepts("?") else None


def make_sets(settings: GymSettings) -> ProblemSets[GymProblem]:
    """The training pool, the validation set and the downstream set, as the dataset comes; no two share a question.

    Raises:
        ConfigError: the dataset has too few distinct questions.
    """
    seeds = np.random.default_rng(settings.seed).integers(1 << 31, size=2).tolist()
    drawn: set[str] = set()

    def draw_sets_of(key: str, seed: int, *sizes: int) -> list[list[GymProblem]]:
        problems = _suitable(settings.dataset, getattr(settings, key), seed)
        draw = partial(next, problems, None)
        return [
            [draw_new(draw, drawn, f"of {settings.dataset} with these {key}") for _ in range(size)] for size in sizes
        ]

    validation, training = draw_sets_of("options", seeds[0], settings.validation_size, settings.pool_size)
    (downstream,) = draw_sets_of("downstream_options", seeds[1], settings.downstream_size)
    return ProblemSets(training, validation, downstream)


def chance_rate(problems: Sequence[GymProblem]) -> float:
    """The pass rate of the best constant answer."""
    return commonest(problem.answer for problem in problems)


TASK = Task(GymSettings, make_sets, chance_rate)
