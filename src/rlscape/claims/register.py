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
WORDS = {REPLICATED: "holds", NOT_REPLICATED: "refuted", INCONCLUSIVE: "open"}
"""Of parts of a criterion."""

Side = Literal["above", "below"]


class Conventions(Settings):
    """What all criteria share; the first three numbers are those of :mod:`rlscape.scaling.arm_comparison`."""

    reference_arm: str
    margin_share: float
    level_share: float
    seeds_for_neutral: int
    collapse_evaluations: int = Field(ge=1)
    min_power: float = Field(gt=0, lt=1)
    """A criterion finds its claim in at least this share of the worlds in which it holds, or does not decide."""
    max_error: float = Field(gt=0, lt=1)
    """And errs in at most this share of either world."""


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
    controls: tuple[str, ...] = ()
    """Choices of pilots whose arms show what the claim speaks of (:mod:`rlscape.catalogue.pilots`)."""
    by_part: bool = False
    """Whether the criterion is a list of equivalences, of which each is of interest on its own."""

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

    def claim(self, name: str) -> Claim:
        """The claim of that id.

        Raises:
            ConfigError: there is none.
        """
        for claim in self.claims:
            if claim.id == name:
                return claim
        raise ConfigError(f"claims: no claim {name!r}; there are {', '.join(claim.id for claim in self.claims)}")


@dataclass(frozen=True)
class Part:
    """One condition of a criterion: its effect and whether it holds."""

    measure: str
    interval: Interval
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.measure} {span(self.interval)} {WORDS[self.verdict]}"


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
    parts: tuple[Part, ...] = ()
    """Of a criterion of several."""


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
