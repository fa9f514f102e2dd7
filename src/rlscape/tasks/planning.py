"""A small world: walk along a ring of places to a goal, although one of the ways is blocked.

The prompt lists the places in the order of the ring, the agent's own first, and the goal. A call is a move to the
next (``+``) or the previous place (``-``) and says where to; its result is where the agent then is, or ``;`` where
the way is blocked. Only the environment knows which way that is. Here it is the second, and the goal the fourth
place::

    <call> 3 7 1 9 0 5 8 -> 9 = <think> <call> + 9 <result> 7 <call> + 9 <result> ; <call> - 9 <result> 3
    <call> - 9 <result> 8 <call> - 9 <result> 5 <call> - 9 <result> 0 <call> - 9 <result> 9 </think> 9 <eos>

The reference agent takes the shorter way (``+`` if they are equal) and turns round where it is blocked. A problem is
solved in no more calls than that. Goals are equally frequent on both sides and at all distances, and every second
one is blocked off from the shorter side. Chance is the best blind walk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlscape.tasks.tools import MOST_CALLS, REFUSAL, ToolProblem, tool_task

MOVES = {"+": 1, "-": -1}
OTHER = {"+": "-", "-": "+"}
NAMES = 10


@dataclass(frozen=True)
class Planning(ToolProblem):
    """A ring with one blocked way, and a goal on it."""

    places: tuple[int, ...]
    """Names around the ring; the agent starts on the first."""
    goal: int
    """Position of the goal on the ring."""
    blocked: int
    """The way between this position and the next."""

    @property
    def prompt(self) -> str:
        return f"<call> {' '.join(map(str, self.places))} -> {self.answer} ="

    @property
    def answer(self) -> str:
        return str(self.places[self.goal])

    @property
    def allowed(self) -> int:
        """Calls that the reference agent makes."""
        history: list[tuple[str, str]] = []
        while (call := self.next_call(history)) is not None:
            calls = [*(made for made, _ in history), call]
            history.append((call, self.result(calls) or REFUSAL))
        return len(history)

    def walk(self, calls: Sequence[str]) -> tuple[int, bool]:
        """Where the agent is after some calls, and whether the last one moved it."""
        position, moved = 0, False
        for call in calls:
            match call.split():
                case ["+" | "-" as sign, goal] if goal == self.answer:
                    step = MOVES[sign]
                    moved = (position if step == 1 else (position - 1) % len(self.places)) != self.blocked
                    position = (position + step * moved) % len(self.places)
                case _:
                    moved = False
        return position, moved

    def result(self, calls: Sequence[str]) -> str | None:
        position, moved = self.walk(calls)
        return str(self.places[position]) if moved else None

    def next_call(self, history: Sequence[tuple[str, str]]) -> str | None:
        if history and history[-1][1] == self.answer:
            return None
        sign = "+" if 2 * self.goal <= len(self.places) else "-"
        for call, result in history:
            if result == REFUSAL:
                sign = OTHER[call[0]]
        return f"{sign} {self.answer}"

    def careless(self, call: str, rng: np.random.Generator) -> str:
        """The other way."""
        return f"{OTHER[call[0]]} {self.answer}"

    def achieves(self, calls: Sequence[str]) -> bool:
        """Whether the agent is at the goal, and made no more calls than the reference."""
        return len(calls) <= self.allowed and self.walk(calls)[0] == self.goal

    @classmethod
    def draw(cls, operations: int, cycle: int, rng: np.random.Generator) -> "Planning":
        cycle, place = divmod(cycle, operations - 1)
        goal = place + 1
        ahead = range(goal), range(goal, operations)
        near, far = ahead if 2 * goal <= operations else ahead[::-1]
        ways = near if cycle % 2 else far
        places = rng.permutation(NAMES)[:operations].tolist()
        return cls(tuple(places), goal, ways[int(rng.integers(len(ways)))])

    @staticmethod
    def capacity(operations: int) -> int:
        return (operations - 1) * int(np.prod(range(NAMES - operations + 1, NAMES + 1)))

    @staticmethod
    def chance_rate(problems: Sequence[ToolProblem]) -> float:
        """That of the best number of moves in one direction, made blindly and followed by the goal's name."""
        walks = [(sign, count) for sign in MOVES for count in range(1, MOST_CALLS + 1)]
        return max(
            sum(problem.achieves([f"{sign} {problem.answer}"] * count) for problem in problems) for sign, count in walks
        ) / len(problems)


TASK = tool_task(Planning, "planning")
