"""Draws from the worlds of a claim, judged by its evaluator."""

from collections import Counter
from collections.abc import Callable, Iterator

import pandas as pd
from tqdm import tqdm

from rlscape.claims import evaluate_claim
from rlscape.claims.power import COLUMNS, design_of_claim
from rlscape.claims.register import INCONCLUSIVE, NOT_REPLICATED, NOT_TESTABLE, REPLICATED, Verdict
from rlscape.power.scalerl import SIMULATORS
from rlscape.power.worlds import Simulation
from rlscape.results.files import Source, read_from

SHARES: dict[Verdict, str] = {
    REPLICATED: "replicated",
    NOT_REPLICATED: "not_replicated",
    INCONCLUSIVE: "inconclusive",
    NOT_TESTABLE: "not_testable",
}


def estimate_power(simulation: Simulation, draws: int) -> pd.DataFrame:
    """How often a claim's evaluator gives each verdict in each of its worlds.

    Returns:
        A row per world for the verdict (``part`` empty) and for every part of the criterion, by its number: the columns
        of :data:`rlscape.claims.power.COLUMNS`, shares of the draws.
    """
    claim = simulation.claim
    design = design_of_claim(claim, simulation.conventions, simulation.config)
    rows = [
        {"id": claim.id, "world": world, **row, "design": design}
        for world, results in SIMULATORS[claim.id](simulation).items()
        for row in _shares(simulation, world, results, draws)
    ]
    return pd.DataFrame(rows)[COLUMNS]


def _shares(
    simulation: Simulation, world: str, results: Callable[[int], Source], draws: int
) -> Iterator[dict[str, object]]:
    counts: dict[str, Counter[Verdict]] = {"": Counter()}
    for draw in tqdm(range(draws), desc=f"{simulation.claim.id} {world}", disable=None):
        with read_from(results(draw)):
            outcome = evaluate_claim(simulation.claim, simulation.conventions, simulation.config)
        counts[""][outcome.verdict] += 1
        for number, part in enumerate(outcome.parts, start=1):
            counts.setdefault(str(number), Counter())[part.verdict] += 1
    for part_number, found in counts.items():
        shares: dict[str, object] = {column: found[verdict] / found.total() for verdict, column in SHARES.items()}
        yield {"part": part_number, "draws": found.total()} | shares
