"""Two worlds of every claim: one in which it holds, one in which it does not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from rlscape.claims.register import Claim, Conventions
from rlscape.power.recorded import Recorded
from rlscape.results.files import Source
from rlscape.settings.scale import Config

World = Literal["holds", "fails"]
WORLDS: tuple[World, ...] = get_args(World)


@dataclass(frozen=True)
class Simulation:
    """What a world's results are made from."""

    claim: Claim
    conventions: Conventions
    config: Config
    recorded: Recorded


Simulator = Callable[[Simulation, World], Callable[[int], Source]]
"""Of a claim: the results of the n-th draw from one of its worlds."""
