"""Problems in plain text, for models that can read, and how their answers are read off a completion.

A question says in which form the answer is to come, ``Answer: 73`` on a line of its own at the end. It is read twice:

- strictly, :meth:`WordProblem.solves`: what is asked for, and what a run is rewarded for. The last line that is not
  blank is ``Answer: X`` with nothing before, between or after, X is right, and no other line starts with ``Answer:``.
- leniently, :meth:`WordProblem.solves_leniently`: what a model knows, in whatever form. X is right where the
  completion concludes: in the last line that says "answer", behind the word; if none does, in the last line with "=",
  behind the last one; else in the last line. What counts there as an X is the task's to say.

What is solved strictly is solved leniently.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

ANSWER = "Answer:"


@dataclass(frozen=True)
class WordProblem(ABC):
    """A question whose completions can be verified."""

    question: str
    """The user's message, which states the form of the answer."""

    @property
    def prompt(self) -> str:
        """The question: no two problems of the sets share it."""
        return self.question

    @property
    @abstractmethod
    def reference(self) -> str:
        """A correct completion, without end token."""

    @abstractmethod
    def accepts(self, answer: str) -> bool:
        """Whether what stands after ``Answer:`` is right."""

    @abstractmethod
    def candidates(self, conclusion: str) -> list[str]:
        """What may be meant as the answer in the words with which a completion concludes."""

    def solves(self, text: str) -> bool:
        """Whether a completion is right and has the form that the question asks for."""
        answer = stated_answer(text)
        return answer is not None and self.accepts(answer)

    def solves_leniently(self, text: str) -> bool:
        """Whether a completion is right, whatever its form."""
        return any(map(self.accepts, self.candidates(conclusion(text))))


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def stated_answer(text: str) -> str | None:
    """X of a completion that ends in ``Answer: X`` and has no other line like it; None: it has another form."""
    lines = _lines(text)
    if sum(line.lstrip().startswith(ANSWER) for line in lines) != 1:
        return None
    start, answer = lines[-1][: len(ANSWER) + 1], lines[-1][len(ANSWER) + 1 :]
    return answer if start == f"{ANSWER} " and answer and answer == answer.strip() else None


def conclusion(text: str) -> str:
    """What a completion says in the end, by the rule above; if only marks follow "answer" or "=", the next line."""
    lines = _lines(text) or [""]
    for pattern in (r"answer(?: is)?:?(.*)", r".*=(.*)"):
        for index in reversed(range(len(lines))):
            if found := re.search(pattern, lines[index], re.IGNORECASE):
                following = lines[index + 1 : index + 2]
                words = found[1] if re.search(r"\w", found[1]) or not following else following[0]
                return words.strip()
    return lines[-1].strip()


def commonest(answers: Iterable[str]) -> float:
    """The share of the most frequent answer, the pass rate of the best constant one."""
    counts = Counter(answers)
    return max(counts.values()) / counts.total()
