"""A calculator: the chains of :mod:`rlscape.tasks.math`, of which the tool computes a step at a time.

    <call> 3 + 4 * 7 = <think> <call> 3 + 4 <result> 7 <call> 7 * 7 <result> 9 </think> 9 <eos>

Every answer is equally frequent at every length; a guess scores 0.1.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlscape.tasks import math
from rlscape.tasks.tools import ToolProblem, tool_task

MODULUS = 10


@dataclass(frozen=True)
class Calculator(ToolProblem):
    """A chain of modular arithmetic and the tool that knows how to take one step of it."""

    chain: math.Chain

    @property
    def prompt(self) -> str:
        return f"<call> {self.chain.prompt}"

    @property
    def answer(self) -> str:
        return str(math.solve(self.chain.prompt, MODULUS))

    def result(self, calls: Sequence[str]) -> str | None:
        match calls[-1].split():
            case [left, "+" | "-" | "*", right] if left.isdecimal() and right.isdecimal():
                return str(math.solve(f"{calls[-1]} =", MODULUS))
        return None

    def next_call(self, history: Sequence[tuple[str, str]]) -> str | None:
        step = len(history)
        if step == self.chain.operations:
            return None
        value = history[-1][1] if history else self.chain.operands[0]
        return f"{value} {self.chain.operators[step]} {self.chain.operands[step + 1]}"

    def careless(self, call: str, rng: np.random.Generator) -> str:
        """With another first number: each step is a bijection of it, so the result is wrong too."""
        value, operator, operand = call.split()
        return f"{(int(value) + int(rng.integers(1, MODULUS))) % MODULUS} {operator} {operand}"

    @classmethod
    def draw(cls, operations: int, cycle: int, rng: np.random.Generator) -> "Calculator":
        return cls(math.draw_problem(operations, cycle % MODULUS, MODULUS, rng))

    @staticmethod
    def capacity(operations: int) -> int:
        return MODULUS * (2 * MODULUS + 4) ** operations

    @staticmethod
    def chance_rate(problems: Sequence[ToolProblem]) -> float:
        """That of the best constant answer."""
        return max(Counter(problem.answer for problem in problems).values()) / len(problems)


TASK = tool_task(Calculator, "calculator")
