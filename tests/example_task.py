"""The largest of some digits: ``3 8 5 =`` is 8. An operation is a comparison."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlscape.tasks.base import Flaws, ProblemSets, Task, TracedSettings, concludes, draw_sets, interrupted
from rlscape.tasks.vocabulary import encode


@dataclass(frozen=True)
class Digits:
    digits: tuple[int, ...]

    @property
    def prompt(self) -> str:
        return f"{' '.join(map(str, self.digits))} ="

    @property
    def prompt_ids(self) -> list[int]:
        return encode(self.prompt)

    @property
    def reference_ids(self) -> list[int]:
        return encode(" ".join(flawed_trace(self, np.random.default_rng(0), Flaws())))

    def verify(self, completion_ids: Sequence[int]) -> bool:
        return concludes(completion_ids, str(max(self.digits)))


def draw(operations: int, settings: TracedSettings, rng: np.random.Generator) -> Digits:
    return Digits(tuple(rng.integers(10, size=operations + 1).tolist()))


def make_sets(settings: TracedSettings) -> ProblemSets[Digits]:
    return draw_sets(settings, lambda fewest, beyond, cycle, rng: draw(fewest + beyond, settings, rng))


def flawed_trace(problem: Digits, rng: np.random.Generator, flaws: Flaws) -> list[str]:
    """The largest so far, after each digit."""
    largest, thought = problem.digits[0], list[str]()
    if rng.random() >= flaws.thoughtless_rate:
        for digit in problem.digits[1:]:
            largest = max(largest, digit) if rng.random() >= flaws.wrong_step_rate else digit
            thought += [str(digit), str(largest)]
    else:
        largest = max(problem.digits)
    return interrupted(["<think>", *thought, "</think>", str(largest), "<eos>"], rng, flaws.interrupted_rate)


def chance_rate(problems: Sequence[Digits]) -> float:
    """That of the best constant answer."""
    return max(Counter(max(problem.digits) for problem in problems).values()) / len(problems)


TASK = Task(TracedSettings, make_sets, chance_rate, draw, flawed_trace)
