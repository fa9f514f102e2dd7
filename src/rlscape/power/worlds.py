"""The worlds of a claim, and what its results are made from."""

from collections.abc import Callable
from dataclasses import dataclass

from rlscape.claims.register import Claim, Conventions
from rlscape.power.recorded import Recorded
from rlscape.results.files import Source
from rlscape.settings.scale import Config


@dataclass(frozen=True)
class Simulation:
    """What a claim's results are made from."""

    claim: Claim
    conventions: Conventions
    config: Config
    recorded: Recorded


Worlds = dict[str, Callable[[int], Source]]
"""``holds``, ``fails``, and any number of ``edge ...``, the claim's worlds -> the results of the n-th draw from it."""
Simulator = Callable[[Simulation], Worlds]
