"""A search tool: questions of several hops over a hidden table.

The prompt names an entity and relations, ``7 -> 3 -> 1``: which entity is relation 1 of the one that is relation 3
of entity 7? The tool answers one hop at a time::

    <call> 7 -> 3 -> 1 = <think> <call> 7 3 <result> 4 <call> 4 1 <result> 9 </think> 9 <eos>

Every problem has a table of its own, so that there is nothing to remember. Each relation permutes the entities: every
answer is equally frequent at every length, and a guess scores 0.1.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlscape.tasks.tools import ToolProblem, tool_task

ENTITIES = 10
"""As many entities as relations."""


@dataclass(frozen=True)
class Search(ToolProblem):
    """An entity, relations to follow, and the table that only the tool knows."""

    start: int
    relations: tuple[int, ...]
    table: tuple[tuple[int, ...], ...]
    """Relation -> entity -> entity."""

    @property
    def prompt(self) -> str:
        return f"<call> {' -> '.join(map(str, (self.start, *self.relations)))} ="

    @property
    def answer(self) -> str:
        entity = self.start
        for relation in self.relations:
            entity = self.table[relation][entity]
        return str(entity)

    def result(self, calls: Sequence[str]) -> str | None:
        match calls[-1].split():
            case [entity, relation] if entity.isdecimal() and relation.isdecimal():
                return str(self.table[int(relation)][int(entity)])
        return None

    def next_call(self, history: Sequence[tuple[str, str]]) -> str | None:
        if len(history) == len(self.relations):
            return None
        return f"{history[-1][1] if history else self.start} {self.relations[len(history)]}"

    def careless(self, call: str, rng: np.random.Generator) -> str:
        """About another entity: the result is then another too."""
        entity, relation = call.split()
        return f"{(int(entity) + int(rng.integers(1, ENTITIES))) % ENTITIES} {relation}"

    @classmethod
    def draw(cls, operations: int, cycle: int, rng: np.random.Generator) -> "Search":
        table = [rng.permutation(ENTITIES).tolist() for _ in range(ENTITIES)]
        relations = rng.integers(ENTITIES, size=operations).tolist()
        entity = cycle % ENTITIES
        for relation in reversed(relations):
            entity = table[relation].index(entity)
        return cls(entity, tuple(relations), tuple(map(tuple, table)))

    @staticmethod
    def capacity(operations: int) -> int:
        return ENTITIES ** (operations + 1)

    @staticmethod
    def chance_rate(problems: Sequence[ToolProblem]) -> float:
        """That of the best constant answer."""
        return max(Counter(problem.answer for problem in problems).values()) / len(problems)


TASK = tool_task(Search, "search")
