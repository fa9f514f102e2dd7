"""The stack programs of :mod:`rlscape.tasks.code` in words: the machine is explained, two examples are shown.

The reference writes down the two values before the first operation and after each, with their difference, and ends in
the program, which is right if it gives the hidden function's outputs on all other inputs::

    2 and 5: difference 3
    5 and 8: difference 3, so 3 +
    5 and 4: difference 9, so 3 *
    Answer: 3 + dup 3 *
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from rlscape.tasks import code
from rlscape.tasks.base import ChainSettings, ProblemSets, Task
from rlscape.tasks.words import ANSWER, WordProblem

MACHINE = (
    "A program changes a stack of numbers word by word: a digit is pushed, dup copies the top, "
    "and + - * replace the two topmost numbers by their result modulo {modulus}."
)
WORD = r"(?:dup|[0-9+*-])"


class ProgramsSettings(ChainSettings):
    """Stack programs in words."""

    modulus: int = Field(10, ge=3, le=10)


@dataclass(frozen=True)
class Program(WordProblem):
    """A hidden function that a program is to compute."""

    function: code.HiddenFunction

    @property
    def operations(self) -> int:
        return self.function.operations

    @property
    def reference(self) -> str:
        words = code.trace(self.function)
        thought = words[1 : words.index("</think>")]
        lines = ["{} and {}: difference {}".format(*thought[:3])]
        for start in range(3, len(thought), 5):
            lines.append(
                "{} and {}: difference {}, so {operation}".format(
                    *thought[start : start + 3], operation=" ".join(reversed(thought[start + 3 : start + 5]))
                )
            )
        return "\n".join((*lines, f"{ANSWER} {self.function.reference}"))

    def accepts(self, answer: str) -> bool:
        return self.function.is_computed_by(answer)

    def candidates(self, conclusion: str) -> list[str]:
        """The last words of a program that stand side by side."""
        return re.findall(rf"{WORD}(?:\s+{WORD})*", conclusion)[-1:]


def in_words(function: code.HiddenFunction) -> Program:
    """The problem whose question shows the function's two examples."""
    left, right = (f"the stack {each.input} into {' '.join(map(str, each.outputs))}" for each in function.shown)
    machine = MACHINE.format(modulus=function.modulus)
    task = f"Which program turns {left} and {right} (the top is last)?"
    return Program(f'{machine} {task} End with "{ANSWER} " and the program.', function)


def make_sets(settings: ProgramsSettings) -> ProblemSets[Program]:
    """Those of the code task, with the same balance.

    Raises:
        ConfigError: there are too few problems of some length.
    """
    sets = code.make_sets(code.CodeSettings.model_validate(settings.model_dump()))
    return ProblemSets(*([in_words(function) for function in functions] for functions in sets))


def chance_rate(problems: Sequence[Program]) -> float:
    """The pass rate of the best constant program."""
    return code.chance_rate([problem.function for problem in problems])


TASK = Task(ProgramsSettings, make_sets, chance_rate)
