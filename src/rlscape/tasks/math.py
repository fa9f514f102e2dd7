"""Chains of modular arithmetic, evaluated left to right: ``3 + 4 * 7 - 2 =`` is 7 modulo 10.

The reference chain of thought repeats operator, operand and the running value, and then answers::

    <think> + 4 7 * 7 9 - 2 7 </think> 7 <eos>

Multipliers are coprime to the modulus (1, 3, 7, 9 for 10). Every step is then a bijection of the running
value: no ``* 0`` forgets the chain before it, no last operand narrows the answers, and a problem is drawn
by choosing its answer and solving for the first operand. Plain multiplication would make "always 0" right
in 0.175 of the problems; here every answer is equally frequent at every length and a guess scores
``1 / modulus`` whatever it looks at, short of computing the chain.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, gcd

import numpy as np
from pydantic import Field

from rlscape.errors import ConfigError
from rlscape.tasks.base import (
    Flaws,
    ProblemSets,
    Requests,
    Task,
    TracedSettings,
    concludes,
    draw_sets,
    interrupted,
    requests_of,
)
from rlscape.tasks.vocabulary import encode

OPERATORS = ("+", "-", "*")


class MathSettings(TracedSettings):
    """Chains of modular arithmetic."""

    modulus: int = Field(10, ge=2, le=10)


@dataclass(frozen=True)
class Chain:
    """A chain ``operands[0] operators[0] operands[1] ...`` and its answer."""

    prompt: str
    operators: tuple[str, ...]
    operands: tuple[int, ...]
    """One more than there are operators."""
    answer: int
    modulus: int = 10

    @property
    def operations(self) -> int:
        return len(self.operators)

    @property
    def prompt_ids(self) -> list[int]:
        return encode(self.prompt)

    @property
    def reference_ids(self) -> list[int]:
        return encode(" ".join(trace(self)))

    def verify(self, completion_ids: Sequence[int]) -> bool:
        """Whether a completion has the form of :func:`~rlscape.tasks.base.concludes` with the right answer.

        The answer is recomputed from the prompt.
        """
        return concludes(completion_ids, str(solve(self.prompt, self.modulus)))


def _apply(value: int, operator: str, operand: int, modulus: int) -> int:
    match operator:
        case "+":
            return (value + operand) % modulus
        case "-":
            return (value - operand) % modulus
        case "*":
            return value * operand % modulus
    raise ValueError(f"{operator!r} is not one of {OPERATORS}")


def _invert(value: int, operator: str, operand: int, modulus: int) -> int:
    """The running value before a step that led to ``value``."""
    match operator:
        case "+":
            return (value - operand) % modulus
        case "-":
            return (value + operand) % modulus
        case _:
            return value * pow(operand, -1, modulus) % modulus


def solve(prompt: str, modulus: int = 10) -> int:
    """The answer to a prompt such as ``3 + 4 * 7 - 2 =``, recomputed from its text."""
    first, *steps, equals = prompt.split()
    if equals != "=" or len(steps) % 2:
        raise ValueError(f"{prompt!r} is not a chain such as '3 + 4 * 7 - 2 ='")
    value = int(first)
    for operator, operand in zip(steps[::2], steps[1::2], strict=True):
        value = _apply(value, operator, int(operand), modulus)
    return value


def _multipliers(modulus: int) -> list[int]:
    return [number for number in range(1, modulus) if gcd(number, modulus) == 1]


def draw_problem(operations: int, answer: int, modulus: int, rng: np.random.Generator) -> Chain:
    """A problem with the given number of operations and the given answer, all such chains likely."""
    multipliers = _multipliers(modulus)
    operators = tuple(OPERATORS[index] for index in rng.integers(len(OPERATORS), size=operations).tolist())
    numbers = rng.random(operations).tolist()
    rest = tuple(
        multipliers[int(number * len(multipliers))] if operator == "*" else int(number * modulus)
        for operator, number in zip(operators, numbers, strict=True)
    )
    first = answer
    for operator, operand in zip(reversed(operators), reversed(rest), strict=True):
        first = _invert(first, operator, operand, modulus)
    steps = "".join(f" {operator} {operand}" for operator, operand in zip(operators, rest, strict=True))
    return Chain(f"{first}{steps} =", operators, (first, *rest), answer, modulus)


def draw_any_problem(operations: int, settings: MathSettings, rng: np.random.Generator) -> Chain:
    """A problem with the given number of operations, every answer equally likely."""
    return draw_problem(operations, int(rng.integers(settings.modulus)), settings.modulus, rng)


def make_sets(settings: MathSettings) -> ProblemSets[Chain]:
    """The training pool, the validation set and the harder downstream set.

    Lengths cycle through their range and answers through the residues, so both are balanced (per length,
    the counts of two answers differ by at most one). Depends on ``settings`` alone.

    Raises:
        ConfigError: some length has fewer distinct problems than the sets need.
    """
    _check_capacity(settings.modulus, requests_of(settings))

    def draw(low: int, beyond: int, cycle: int, rng: np.random.Generator) -> Chain:
        return draw_problem(low + beyond, (cycle + beyond) % settings.modulus, settings.modulus, rng)

    return draw_sets(settings, draw)


def _check_capacity(modulus: int, requests: Requests) -> None:
    steps = 2 * modulus + len(_multipliers(modulus))
    for operations in range(min(low for _, (low, _) in requests), max(high for _, (_, high) in requests) + 1):
        needed = sum(
            ceil(ceil(size / (high - low + 1)) / modulus) for size, (low, high) in requests if low <= operations <= high
        )
        if needed > steps**operations:
            raise ConfigError(
                f"math: only {modulus * steps**operations} problems have {operations} operations, "
                f"{needed * modulus} are needed; make the sets smaller or the problems longer"
            )


def chance_rate(problems: Sequence[Chain]) -> float:
    """The pass rate of the best constant answer."""
    return max(Counter(problem.answer for problem in problems).values()) / len(problems)


def trace(problem: Chain) -> list[str]:
    """The words of the reference completion, ``<think>`` to ``<eos>``: 3 x operations + 4."""
    return flawed_trace(problem, np.random.default_rng(0), Flaws())


def _completion(steps: Sequence[tuple[str, int]], values: Sequence[int], answer: int) -> list[str]:
    thought = [
        word
        for (operator, operand), value in zip(steps, values, strict=True)
        for word in (operator, str(operand), str(value))
    ]
    return ["<think>", *thought, "</think>", str(answer), "<eos>"]


def flawed_trace(problem: Chain, rng: np.random.Generator, flaws: Flaws) -> list[str]:
    """The words of a completion such as careless people write; a wrong result is any other residue, equally likely."""
    if rng.random() < flaws.thoughtless_rate:
        return _completion((), (), problem.answer)
    value, modulus = problem.operands[0], problem.modulus
    steps = list(zip(problem.operators, problem.operands[1:], strict=True))
    values = []
    for step, draw in zip(steps, rng.random(len(steps)).tolist(), strict=True):
        value = _apply(value, *step, modulus)
        if draw < flaws.wrong_step_rate:
            value = (value + int(rng.integers(1, modulus))) % modulus
        values.append(value)
    return interrupted(_completion(steps, values, value), rng, flaws.interrupted_rate)


TASK = Task(MathSettings, make_sets, chance_rate, draw_any_problem, flawed_trace)
