"""Draws from the worlds of a claim, judged by its evaluator."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator

import pandas as pd
from scipy.stats import binomtest
from tqdm import tqdm

from rlscape.claims import evaluate_claim
from rlscape.claims.power import COLUMNS, FAILS, HOLDS, design_of_claim
from rlscape.claims.register import INCONCLUSIVE, NOT_REPLICATED, NOT_TESTABLE, REPLICATED, Verdict
from rlscape.power import scalerl
from rlscape.power.off_principals import simulators as off_principals
from rlscape.power.worlds import Simulation, Simulator
from rlscape.results.files import Source, read_from

logger = logging.getLogger(__name__)

SIMULATORS: dict[str, Simulator] = scalerl.SIMULATORS | off_principals.SIMULATORS
"""Claim -> its worlds."""
SHARES: dict[Verdict, str] = {
    REPLICATED: "replicated",
    NOT_REPLICATED: "not_replicated",
    INCONCLUSIVE: "inconclusive",
    NOT_TESTABLE: "not_testable",
}


BATCH = 100
"""Draws after which it is asked whether more are needed."""


def estimate_power(simulation: Simulation, draws: int) -> pd.DataFrame:
    """How often a claim's evaluator gives each verdict in each of its worlds.

    A world is drawn from until Wilson's 95% intervals of the shares that decide about the criterion's use lie on one
    side of their limits, and at most ``draws`` times. Where the claim is certain to be found too rarely, its edges are
    left out: the criterion decides nothing, however rarely it errs.

    Returns:
        A row per world for the verdict (``part`` empty) and for every part of the criterion, by its number: the columns
        of :data:`rlscape.claims.power.COLUMNS`, shares of the draws.
    """
    claim = simulation.claim
    design = design_of_claim(claim, simulation.conventions, simulation.config)
    rows: list[dict[str, object]] = []
    found: Counter[Verdict] = Counter()
    for world, results in sorted(SIMULATORS[claim.id](simulation).items(), key=lambda named: named[0] != HOLDS):
        if world not in (HOLDS, FAILS) and _without_power(found, simulation.conventions.min_power):
            continue
        counts = _verdicts(simulation, world, results, draws)
        found = counts[""] if world == HOLDS else found
        rows += ({"id": claim.id, "world": world, **row, "design": design} for row in _shares(counts))
    return pd.DataFrame(rows)[COLUMNS]


def _without_power(found: Counter[Verdict], min_power: float) -> bool:
    return found[REPLICATED] / found.total() < min_power and _settled(found, REPLICATED, min_power)


def _verdicts(
    simulation: Simulation, world: str, results: Callable[[int], Source], draws: int
) -> dict[str, Counter[Verdict]]:
    """Part (empty: the claim) -> how often each verdict was given."""
    counts: dict[str, Counter[Verdict]] = {"": Counter()}
    limits = _limits(simulation, world)
    for draw in tqdm(range(draws), desc=f"{simulation.claim.id} {world}", disable=None):
        if draw and draw % BATCH == 0 and all(_settled(counts[""], *limit) for limit in limits.items()):
            break
        with read_from(results(draw)):
            outcome = evaluate_claim(simulation.claim, simulation.conventions, simulation.config)
        counts[""][outcome.verdict] += 1
        if draw % BATCH == BATCH - 1:
            logger.info("%s %s: %d draws, %s", simulation.claim.id, world, draw + 1, dict(counts[""]))
        for number, part in enumerate(outcome.parts, start=1):
            counts.setdefault(str(number), Counter())[part.verdict] += 1
    return counts


def _shares(counts: dict[str, Counter[Verdict]]) -> Iterator[dict[str, object]]:
    for part_number, found in counts.items():
        shares: dict[str, object] = {column: found[verdict] / found.total() for verdict, column in SHARES.items()}
        yield {"part": part_number, "draws": found.total()} | shares


def _limits(simulation: Simulation, world: str) -> dict[Verdict, float]:
    """Verdict -> the share of it on which the use of the criterion depends."""
    conventions = simulation.conventions
    if world == HOLDS:
        return {REPLICATED: conventions.min_power, NOT_REPLICATED: conventions.max_error}
    return {REPLICATED: conventions.max_error}


def _settled(counts: Counter[Verdict], verdict: Verdict, limit: float) -> bool:
    interval = binomtest(counts[verdict], counts.total()).proportion_ci(method="wilson")
    return bool(interval.high < limit or interval.low > limit)
