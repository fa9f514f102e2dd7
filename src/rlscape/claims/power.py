"""Which criteria can decide at a scale, by their verdicts on simulated results (:mod:`rlscape.power`)."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rlscape.claims.register import Claim, Conventions
from rlscape.errors import ResultError

IDENTITY = ["id", "world", "part"]
SHARES = ["replicated", "not_replicated", "inconclusive", "not_testable"]


def read_power(path: Path) -> pd.DataFrame:
    """``power.csv``: a row per claim, world and part (empty for the verdict), with the share of every verdict.

    Raises:
        ResultError: it lacks a column.
    """
    table = pd.read_csv(path, keep_default_na=False)
    lacking = {*IDENTITY, *SHARES} - set(table.columns)
    if lacking:
        raise ResultError(f"{path}: no column {', '.join(sorted(lacking))}; `make power` writes it again")
    return table


class Power(NamedTuple):
    """How a criterion does on simulated results of a scale; shares of them."""

    found: float
    """Replicated where the claim holds; of a criterion that is scored part by part, of its least powerful part."""
    error: float
    """Not replicated where it holds, or replicated where it does not: the larger of the two."""


def power_of(table: pd.DataFrame, claim: Claim) -> Power | None:
    """A claim's power; None if it was not simulated."""
    of_claim = table[table["id"] == claim.id]
    holds, fails = (of_claim[of_claim["world"] == world].set_index("part") for world in ("holds", "fails"))
    if holds.empty:
        return None
    judged = holds.drop(index="") if claim.by_part and len(holds) > 1 else holds.loc[[""]]
    error = max(judged["not_replicated"].max(), fails.loc["", "replicated"])
    return Power(float(judged["replicated"].min()), float(error))


def lack_of_power(power: Power | None, conventions: Conventions) -> str:
    """Why a criterion cannot decide; empty if it can, or if nothing is known about it."""
    lacks = []
    if power and power.found < conventions.min_power:
        lacks.append(f"power {power.found:.2f}, below {conventions.min_power:g}")
    if power and power.error > conventions.max_error:
        lacks.append(f"errs in {power.error:.0%} of simulations, more than {conventions.max_error:.0%}")
    return ", ".join(lacks)
