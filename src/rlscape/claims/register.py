"""The register of claims as a file, and what its evaluation yields."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from typing import Literal

from pydantic import Field

from rlscape.errors import ConfigError
from rlscape.scaling.uncertainty import Interval
from rlscape.schema import Settings
from rlscape.settings.scale import Config, Paper

Verdict = Literal["replicated", "not replicated", "inconclusive", "not testable at this scale"]
REPLICATED: Verdict = "replicated"
NOT_REPLICATED: Verdict = "not replicated"
INCONCLUSIVE: Verdict = "inconclusive"
NOT_TESTABLE: Verdict = "not testable at this scale"

Side = Literal["above", "below"]


class Conventions(Settings):
    """What all criteria share; the first three numbers are those of :mod:`rlscape.scaling.arm_comparison`."""

    reference_arm: str
    margin_share: float
    level_share: float
    seeds_for_neutral: int
    collapse_evaluations: int = Field(ge=1)


class Claim(Settings):
    """One entry of the register."""

    id: str
    paper: Paper
    text: str
    figures: tuple[str, ...]
    """Targets."""
    evidence: str
    """The paper's."""
    criterion: str
    evaluator: str
    arms: tuple[str, ...]
    """In the order of the evaluator's docstring."""
    directions: dict[str, Side] = {}
    """Mask -> side of chance that is claimed."""
    thresholds: dict[str, float] = {}

    def threshold(self, name: str) -> float:
        """A threshold.

        Raises:
            ConfigError: the claim has none of that name.
        """
        if name not in self.thresholds:
            raise ConfigError(f"claims: {self.id}.thresholds.{name}: missing; {self.evaluator} needs it")
        return self.thresholds[name]


class Register(Settings):
    """The claims file."""

    conventions: Conventions
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class Outcome:
    """What an evaluator found; ``effect`` is what ``measure`` names."""

    verdict: Verdict
    measure: str
    effect: float
    low: float
    high: float
    seeds: int
    """Of every arm."""
    reason: str
    units: int
    """What the interval is over: seeds, or settings, bases or runs on disjoint data. One unit decides nothing."""


ClaimEvaluator = Callable[[Claim, Conventions, Config], Outcome]


def outcome(verdict: Verdict, measure: str, interval: Interval, reason: str, seeds: int | None = None) -> Outcome:
    """An outcome whose effect is an interval over seeds, or over other units of so many ``seeds`` each."""
    units = interval.seeds
    seeds = units if seeds is None else seeds
    return Outcome(verdict, measure, interval.estimate, interval.low, interval.high, seeds, reason, units)


def span(interval: Interval) -> str:
    """``0.031 [0.012, 0.050]``; without limits, the estimate alone."""
    limits = "" if isnan(interval.low) else f" [{interval.low:.3g}, {interval.high:.3g}]"
    return f"{interval.estimate:.3g}{limits}"
