"""Sums in words: ``Compute (47 + 38) * 2 - 12 step by step.`` The reference writes down every step::

    47 + 38 = 85
    85 * 2 = 170
    170 - 12 = 158
    Answer: 158

or, without ``steps``, the answer alone. Operations are carried out from left to right: a sum that is multiplied stands
in parentheses. Numbers have ``digits`` digits, but factors are 2 to 9. No running value is negative, nor has more than
two digits beyond those of the longest number.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import add, mul, sub

import numpy as np
from pydantic import field_validator

from rlscape.tasks.base import ChainSettings, ProblemSets, Range, Task, draw_sets
from rlscape.tasks.words import ANSWER, WordProblem, commonest

APPLY: Mapping[str, Callable[[int, int], int]] = {"+": add, "-": sub, "*": mul}


class SumsSettings(ChainSettings):
    """Sums in words."""

    digits: Range
    """Of a number."""
    operators: tuple[str, ...]
    """Equally likely, where they are possible."""
    steps: bool
    """Whether they are to be written out; else the answer comes at once."""

    @field_validator("operators")
    @classmethod
    def _some_once(cls, operators: tuple[str, ...]) -> tuple[str, ...]:
        if not operators or len(set(operators)) < len(operators) or set(operators) - APPLY.keys():
            raise ValueError(f"needs some of {' '.join(APPLY)}, each once")
        return operators


@dataclass(frozen=True)
class Sum(WordProblem):
    """A sum and its steps."""

    steps: tuple[str, ...]
    """Such as ``47 + 38 = 85``, one per operation."""
    written_out: bool

    @property
    def operations(self) -> int:
        return len(self.steps)

    @property
    def answer(self) -> str:
        return self.steps[-1].split()[-1]

    @property
    def reference(self) -> str:
        return "\n".join((*(self.steps if self.written_out else ()), f"{ANSWER} {self.answer}"))

    def accepts(self, answer: str) -> bool:
        return answer == self.answer

    def candidates(self, conclusion: str) -> list[str]:
        """The last number, without the commas of thousands."""
        return [number.replace(",", "") for number in re.findall(r"-?\d+(?:,\d{3})*(?:\.\d+)?", conclusion)[-1:]]


def _operands(value: int, settings: SumsSettings) -> dict[str, range]:
    """Those that each operator may have after a running value; of an operator that is not possible, none."""
    fewest, most = settings.digits
    lowest, beyond, too_much = 10 ** (fewest - 1), 10**most, 10 ** (most + 2)
    ranges = {
        "+": range(lowest, min(beyond, too_much - value)),
        "-": range(lowest, min(beyond, value + 1)),
        "*": range(2, min(10, (too_much - 1) // max(value, 1) + 1)),
    }
    return {operator: ranges[operator] for operator in settings.operators if ranges[operator]}


def _draw_number(numbers: range, rng: np.random.Generator) -> int:
    """One of them, each number of digits equally likely."""
    digits = int(rng.integers(len(str(numbers[0])), len(str(numbers[-1])) + 1))
    return int(rng.integers(max(numbers[0], 10 ** (digits - 1)), min(numbers.stop, 10**digits)))


def draw_problem(operations: int, settings: SumsSettings, rng: np.random.Generator) -> Sum | None:
    """A sum with the given number of operations; None: it came to a value from which no operator leads on."""
    fewest, most = settings.digits
    value = _draw_number(range(10 ** (fewest - 1), 10**most), rng)
    expression, operator, steps = str(value), "*", list[str]()
    for _ in range(operations):
        possible = _operands(value, settings)
        if not possible:
            return None
        before, operator = operator, list(possible)[int(rng.integers(len(possible)))]
        operand = _draw_number(possible[operator], rng)
        result = APPLY[operator](value, operand)
        if operator == "*" and before != "*":
            expression = f"({expression})"
        expression += f" {operator} {operand}"
        steps.append(f"{value} {operator} {operand} = {result}")
        value = result
    request = " step by step. End" if settings.steps else ". Answer"
    question = f'Compute {expression}{request} with "{ANSWER} " and the result.'
    return Sum(question, tuple(steps), settings.steps)


def make_sets(settings: SumsSettings) -> ProblemSets[Sum]:
    """The training pool, the validation set and the harder downstream set; lengths cycle through their range.

    Raises:
        ConfigError: there are too few sums of some length.
    """

    def draw(low: int, beyond: int, cycle: int, rng: np.random.Generator) -> Sum | None:
        return draw_problem(low + beyond, settings, rng)

    return draw_sets(settings, draw)


def chance_rate(problems: Sequence[Sum]) -> float:
    """The pass rate of the best constant answer."""
    return commonest(problem.answer for problem in problems)


TASK = Task(SumsSettings, make_sets, chance_rate)
