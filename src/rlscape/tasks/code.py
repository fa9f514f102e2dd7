"""Stack programs from input/output examples: which program turns 2 into ``5 5 8`` and 5 into ``8 4 7``?

A program is run on a stack that holds its input. A digit is pushed, ``dup`` copies the top, and ``+ - *`` replace
the two topmost values by their result modulo ``modulus``; its output is the whole stack that it leaves. Each of
the k operations of a hidden function adds a constant to the value before it, or multiplies it by one, and its
result stays on the stack: k operations are k outputs and 3k - 1 words. The prompt shows two inputs with their
outputs; a program is right if it gives the hidden function's outputs on all *other* inputs, whatever its words.

The reference chain of thought writes down the two values before the first operation and after each, with their
difference; the program follows from them::

    2 -> 5 5 8 ; 5 -> 8 4 7 ; <think> 2 5 3 5 8 3 + 3 5 4 9 * 3 8 7 9 + 3 </think> 3 + dup 3 * dup 3 + <eos>

An addition keeps the difference, and its constant is new minus old value. A multiplication multiplies the
difference, and its constant is new over old difference. This always works: the two inputs differ by a unit of the
residue ring and multipliers are units (1, 3, 7, 9 modulo 10), hence so are all differences. Both operators are
equally frequent: without the differences nothing tells them apart. The best constant program multiplies k times;
modulo 10 it is right with probability ``1 / 6^k``.

Paper: code problems whose unit tests are hidden, LiveCodeBench as the harder held-out set. Here: held-out programs
are longer.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, gcd
from typing import Literal

import numpy as np
from pydantic import Field

from rlscape.errors import ConfigError
from rlscape.tasks.base import Flaws, ProblemSets, Requests, Task, TracedSettings, draw_sets, interrupted, requests_of
from rlscape.tasks.vocabulary import END_THINK_ID, EOS_ID, decode, encode

STEP_LIMIT = 32
"""Words that a program may execute."""

DEPTH_LIMIT = 16
"""Values that the stack may hold."""

Operator = Literal["+", "*"]
OPERATORS: tuple[Operator, ...] = ("+", "*")


class CodeSettings(TracedSettings):
    """Stack programs from input/output examples."""

    modulus: int = Field(10, ge=3, le=10)
    """At least 3: two inputs are shown, the others decide."""


@dataclass(frozen=True)
class Example:
    """An input and the stack that a program leaves for it."""

    input: int
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class HiddenFunction:
    """A hidden function, given by its values: those shown in the prompt and those that decide."""

    shown: tuple[Example, Example]
    hidden: tuple[Example, ...]
    reference: str
    """A program that computes it."""
    modulus: int = 10

    @property
    def operations(self) -> int:
        return len(self.shown[0].outputs)

    @property
    def prompt(self) -> str:
        return " ".join(f"{example.input} -> {' '.join(map(str, example.outputs))} ;" for example in self.shown)

    @property
    def prompt_ids(self) -> list[int]:
        return encode(self.prompt)

    @property
    def reference_ids(self) -> list[int]:
        return encode(" ".join(trace(self)))

    def verify(self, completion_ids: Sequence[int]) -> bool:
        """Whether a completion has exactly the form ``... </think> PROGRAM <eos>`` with a program that is right.

        An interruption phrase ends in ``</think>`` and is accepted; a truncated completion, words after the
        program, and a missing or second ``</think>`` are not.
        """
        ids = list(completion_ids)
        if ids[-1:] != [EOS_ID] or ids.count(EOS_ID) != 1 or ids.count(END_THINK_ID) != 1:
            return False
        return self.is_computed_by(decode(ids[ids.index(END_THINK_ID) + 1 : -1]))

    def is_computed_by(self, program: str) -> bool:
        """Whether a program gives its outputs on all inputs that are not shown."""
        return all(run(program, example.input, self.modulus) == example.outputs for example in self.hidden)


def run(program: str, value: int, modulus: int = 10) -> tuple[int, ...] | None:
    """The stack that a program leaves when it starts on ``value``, bottom first.

    None if it fails: a word is unknown, too few values are on the stack, or a limit is exceeded.
    """
    words = program.split()
    if len(words) > STEP_LIMIT:
        return None
    stack = [value]
    for word in words:
        if word in ("+", "-", "*"):
            if len(stack) < 2:
                return None
            right, left = stack.pop(), stack.pop()
            result = left + right if word == "+" else left - right if word == "-" else left * right
            stack.append(result % modulus)
        elif word == "dup":
            stack.append(stack[-1])
        elif word in map(str, range(modulus)):
            stack.append(int(word))
        else:
            return None
        if len(stack) > DEPTH_LIMIT:
            return None
    return tuple(stack)


def _units(modulus: int) -> list[int]:
    return [number for number in range(1, modulus) if gcd(number, modulus) == 1]


def _constants(operator: Operator, modulus: int) -> list[int]:
    """Those that change something; no two of all operations are the same function."""
    return list(range(1, modulus)) if operator == "+" else _units(modulus)[1:]


def _program(operations: Iterable[tuple[Operator, int]]) -> str:
    return " dup ".join(f"{constant} {operator}" for operator, constant in operations)


def draw_problem(operators: Sequence[Operator], modulus: int, rng: np.random.Generator) -> HiddenFunction:
    """A problem with the given operators, all such problems equally likely."""
    constants = [_constants(operator, modulus) for operator in operators]
    numbers = rng.random(len(operators)).tolist()
    chosen = [among[int(number * len(among))] for among, number in zip(constants, numbers, strict=True)]
    program = _program(zip(operators, chosen, strict=True))
    units = _units(modulus)
    start = int(rng.integers(modulus))
    inputs = (start, (start + units[int(rng.integers(len(units)))]) % modulus)

    def example(value: int) -> Example:
        outputs = run(program, value, modulus)
        assert outputs is not None
        return Example(value, outputs)

    hidden = tuple(example(value) for value in range(modulus) if value not in inputs)
    return HiddenFunction((example(inputs[0]), example(inputs[1])), hidden, program, modulus)


def draw_any_problem(operations: int, settings: CodeSettings, rng: np.random.Generator) -> HiddenFunction:
    """A problem with the given number of operations, each operator equally likely."""
    operators = [OPERATORS[index] for index in rng.integers(len(OPERATORS), size=operations).tolist()]
    return draw_problem(operators, settings.modulus, rng)


def make_sets(settings: CodeSettings) -> ProblemSets[HiddenFunction]:
    """The training pool, the validation set and the harder downstream set.

    Lengths cycle through their range and operators through all their sequences, so both are balanced (per length,
    the counts of two sequences differ by at most one). Depends on ``settings`` alone.

    Raises:
        ConfigError: some length has fewer distinct problems than the sets need, or has programs beyond a limit.
    """
    _check_capacity(settings.modulus, requests_of(settings))

    def draw(low: int, beyond: int, cycle: int, rng: np.random.Generator) -> HiddenFunction:
        sequences = list(product(OPERATORS, repeat=low + beyond))
        return draw_problem(sequences[cycle % len(sequences)], settings.modulus, rng)

    return draw_sets(settings, draw)


def _check_capacity(modulus: int, requests: Requests) -> None:
    pairs, fewest = modulus * len(_units(modulus)), min(len(_constants(operator, modulus)) for operator in OPERATORS)
    shortest, longest = min(low for _, (low, _) in requests), max(high for _, (_, high) in requests)
    if longest >= DEPTH_LIMIT or 3 * longest - 1 > STEP_LIMIT:
        raise ConfigError(f"code: programs of {longest} operations exceed the interpreter's limits; make them shorter")
    for operations in range(shortest, longest + 1):
        needed = sum(
            ceil(ceil(size / (high - low + 1)) / len(OPERATORS) ** operations)
            for size, (low, high) in requests
            if low <= operations <= high
        )
        if needed > pairs * fewest**operations:
            raise ConfigError(
                f"code: only {pairs * fewest**operations} problems are programs of {operations} multiplications, "
                f"{needed} are needed; make the sets smaller or the programs longer"
            )


def chance_rate(problems: Sequence[HiddenFunction]) -> float:
    """The pass rate of the best constant program."""
    return max(Counter(problem.reference for problem in problems).values()) / len(problems)


def trace(problem: HiddenFunction) -> list[str]:
    """The words of the reference completion, ``<think>`` to ``<eos>``: 8 x operations + 5."""
    return flawed_trace(problem, np.random.default_rng(0), Flaws())


def flawed_trace(problem: HiddenFunction, rng: np.random.Generator, flaws: Flaws) -> list[str]:
    """The words of a completion such as careless people write.

    A wrong difference or constant is any other that could stand there, equally likely.
    """
    if rng.random() < flaws.thoughtless_rate:
        return ["<think>", "</think>", *problem.reference.split(), "<eos>"]
    modulus = problem.modulus
    residues, units = list(range(modulus)), _units(modulus)

    def slip(result: int, others: Sequence[int]) -> int:
        if rng.random() >= flaws.wrong_step_rate:
            return result
        others = [other for other in others if other != result]
        return others[int(rng.integers(len(others)))]

    left, right = ((example.input, *example.outputs) for example in problem.shown)
    difference = slip((right[0] - left[0]) % modulus, units)
    words = ["<think>", str(left[0]), str(right[0]), str(difference)]
    operations: list[tuple[Operator, int]] = []
    for before, one, other in zip(left, left[1:], right[1:], strict=False):
        new_difference = slip((other - one) % modulus, units)
        if new_difference == difference:
            operations.append(("+", slip((one - before) % modulus, residues)))
        else:
            operations.append(("*", slip(new_difference * pow(difference, -1, modulus) % modulus, units)))
        operator, constant = operations[-1]
        words += [str(one), str(other), str(new_difference), operator, str(constant)]
        difference = new_difference
    words += ["</think>", *_program(operations).split(), "<eos>"]
    return interrupted(words, rng, flaws.interrupted_rate)


TASK = Task(CodeSettings, make_sets, chance_rate, draw_any_problem, flawed_trace)
