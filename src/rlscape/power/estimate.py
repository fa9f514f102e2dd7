"""Draws from the worlds of a claim, judged by its evaluator."""

from collections import Counter
from collections.abc import Iterator

import pandas as pd
from tqdm import tqdm

from rlscape.claims import evaluate_claim
from rlscape.claims.register import INCONCLUSIVE, NOT_REPLICATED, NOT_TESTABLE, REPLICATED, Claim, Conventions, Verdict
from rlscape.power import scalerl
from rlscape.power.off_principals import simulators as off_principals
from rlscape.power.worlds import WORLDS, Scatter, Simulation, Simulator, World
from rlscape.results.files import read_from
from rlscape.settings.scale import Config

SIMULATORS: dict[str, Simulator] = scalerl.SIMULATORS | off_principals.SIMULATORS
"""Claim -> its simulated results."""
COLUMNS: dict[Verdict, str] = {
    REPLICATED: "replicated",
    NOT_REPLICATED: "not_replicated",
    INCONCLUSIVE: "inconclusive",
    NOT_TESTABLE: "not_testable",
}


def estimate_power(
    claim: Claim, conventions: Conventions, config: Config, recorded: Scatter, draws: int
) -> pd.DataFrame:
    """How often a claim's evaluator gives each verdict in either world.

    Returns:
        A row per world for the verdict (``part`` empty) and for every part of the criterion: id, world, part, draws,
        replicated, not_replicated, inconclusive, not_testable (shares of the draws).
    """
    simulation = Simulation(claim, conventions, config, recorded)
    rows = [row for world in WORLDS for row in _rows(simulation, world, draws)]
    return pd.DataFrame(rows)


def _rows(simulation: Simulation, world: World, draws: int) -> Iterator[dict[str, object]]:
    results = SIMULATORS[simulation.claim.id](simulation, world)
    counts: list[Counter[Verdict]] = [Counter()]
    names = [""]
    for draw in tqdm(range(draws), desc=f"{simulation.claim.id} {world}", disable=None):
        with read_from(results(draw)):
            outcome = evaluate_claim(simulation.claim, simulation.conventions, simulation.config)
        counts[0][outcome.verdict] += 1
        for index, part in enumerate(outcome.parts, start=1):
            if index == len(counts):
                counts.append(Counter())
                names.append(f"{index}: {part.measure}")
            counts[index][part.verdict] += 1
    for name, found in zip(names, counts, strict=True):
        shares = {column: found[verdict] / found.total() for verdict, column in COLUMNS.items()}
        yield {"id": simulation.claim.id, "world": world, "part": name, "draws": found.total()} | shares
