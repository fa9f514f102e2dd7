"""What stands beside a verdict: runs in which the effect was to show, chosen on pilot seeds, or else simulations."""

from pathlib import Path

import pandas as pd

from rlscape.claims.power import Power
from rlscape.claims.register import Claim, span
from rlscape.results.files import read_recorded_csv
from rlscape.scaling.uncertainty import Interval

COLUMNS = ["choice", "arm", "against", "seeds", "quantity", "value", "value_against", "end"]
COLUMNS += ["effect", "effect_low", "effect_high", "outermost", "chosen"]
"""Of :func:`rlscape.results.pilots.choose`, those that are read here."""


def read_pilots(path: Path) -> pd.DataFrame:
    """``pilots.csv``: a row per candidate of every choice.

    Raises:
        ResultError: it is no table, or lacks a column.
    """
    return read_recorded_csv(path, COLUMNS, "make pilots")


def describe_choice(candidates: pd.DataFrame) -> str:
    """What a choice chose, with the effect and its interval; or what none of its candidates showed."""
    chosen = [
        f"{row['arm']} ({row['quantity']} {row['value']:.3g} v {row['value_against']:.3g}), end {row['end']:.3f}, "
        f"less {row['against']} "
        + span(Interval(row["effect"], row["effect_low"], row["effect_high"], row["seeds"]))
        + (", at an end of the range" if row["outermost"] else "")
        for row in candidates[candidates["chosen"]].to_dict("records")
    ]
    values = [f"{row['arm']} {row['value']:.3g}" for row in candidates.to_dict("records")]
    return "; ".join(chosen) or f"none ({candidates['quantity'].iloc[0]}: {', '.join(values)})"


def control_of(claim: Claim, pilots: pd.DataFrame | None, power: Power | None) -> str:
    """What pilots showed of a claim's controls; of a claim without any, how often simulations find a planted effect.

    Empty where neither is known.
    """
    if pilots is not None and claim.controls:
        by_choice = dict(iter(pilots.groupby("choice", sort=False)))
        found = [f"{name}: {describe_choice(by_choice[name])}" for name in claim.controls if name in by_choice]
        return "; ".join(found)
    return f"planted: found in {power.power:.0%} of simulations" if power and not claim.controls else ""
