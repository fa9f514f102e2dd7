"""Which criteria can decide at a scale, by their verdicts on simulated results (:mod:`rlscape.power`)."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rlscape.catalogue import ARMS, base_of
from rlscape.claims.register import Claim, Conventions
from rlscape.results.files import read_recorded_csv
from rlscape.settings.scale import Config

COLUMNS = ["id", "world", "part", "draws", "replicated", "not_replicated", "inconclusive", "not_testable", "design"]
NOT_SIMULATED = pd.DataFrame(columns=COLUMNS)
"""The power of a scale of which nothing is known, so that no criterion decides there."""
HOLDS, FAILS = "holds", "fails"
"""The worlds; those that begin with ``edge`` are the hardest to tell from the first, in each of which a claim fails."""


class Power(NamedTuple):
    """How a criterion does on simulated results of a scale; shares of them."""

    power: float
    """Replicated where the claim holds."""
    refutes: float
    """Not replicated where it plainly fails."""
    error: float
    """Not replicated where it holds, or replicated where it fails: the largest over all worlds."""


def design_of_claim(claim: Claim, conventions: Conventions, config: Config) -> str:
    """A digest of all by which a criterion and a scale decide what simulations of a claim give."""
    criterion = claim.model_dump_json(include={"evaluator", "arms", "directions", "thresholds"})
    shared = conventions.model_dump_json(exclude={"min_power", "max_error"})
    of_paper = {arm for arm in config.seeds if ARMS[arm].paper == claim.paper}
    arms = {*claim.arms, conventions.reference_arm} if claim.arms else of_paper
    parts = {part: True for part in ("tasks", claim.paper, "fit", "geometry")}
    included = parts | {"bases": {base_of(config, arm) for arm in arms}}
    # A setting that is off is none, so that new ones leave the designs without them as they are.
    design = config.model_dump_json(include=included, exclude_none=True)
    seeds = json.dumps({arm: config.seeds.get(arm, 0) for arm in sorted(arms)})
    return hashlib.sha256("\n".join([criterion, shared, design, seeds]).encode()).hexdigest()[:16]


def read_power(path: Path) -> pd.DataFrame:
    """``power.csv``: a row per claim, world and part (empty for the verdict), with the share of every verdict.

    Raises:
        ResultError: it is no table, or lacks a column.
    """
    return read_recorded_csv(path, COLUMNS, "make power", keep_default_na=False)


def power_of(table: pd.DataFrame, claim: Claim, design: str) -> Power | None:
    """A claim's power; None if this design of it was not simulated."""
    verdicts = table[(table["id"] == claim.id) & (table["part"] == "") & (table["design"] == design)]
    shares = verdicts.set_index("world")
    if shares.empty:
        return None
    mistaken = shares.drop(index=HOLDS)["replicated"].max()
    holds, fails = shares.loc[HOLDS], shares.loc[FAILS]
    error = max(holds["not_replicated"], mistaken)
    return Power(float(holds["replicated"]), float(fails["not_replicated"]), float(error))


def lack_of_power(power: Power | None, conventions: Conventions) -> str:
    """Why a criterion cannot decide; empty if it can."""
    if power is None:
        return "power unknown: make power simulates the criterion and the scale as they are"
    lacks = []
    if power.power < conventions.min_power:
        lacks.append(f"power {power.power:.2f}, below {conventions.min_power:g}")
    if power.error > conventions.max_error:
        lacks.append(f"errs in {power.error:.0%} of simulations, more than {conventions.max_error:.0%}")
    return ", ".join(lacks)
