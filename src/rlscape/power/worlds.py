"""The worlds of a claim, and what its results are made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from rlscape.claims.register import Claim, Conventions
from rlscape.power.recorded import Recorded
from rlscape.power.recorded_weights import RecordedWeights
from rlscape.results.files import Source
from rlscape.settings.scale import Config


class Scatter(NamedTuple):
    """What recorded results of both papers scatter by (``scatter.json``)."""

    curves: Recorded
    weights: RecordedWeights

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"curves": self.curves.to_dict(), "weights": self.weights.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(Recorded.from_dict(values["curves"]), RecordedWeights.from_dict(values["weights"]))


@dataclass(frozen=True)
class Simulation:
    """What a claim's results are made from."""

    claim: Claim
    conventions: Conventions
    config: Config
    recorded: Scatter


Worlds = dict[str, Callable[[int], Source]]
"""``holds``, ``fails``, and any number of ``edge ...``, the claim's worlds -> the results of the n-th draw from it."""
Simulator = Callable[[Simulation], Worlds]
