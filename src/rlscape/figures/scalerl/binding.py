"""Whether what a figure varies can matter at this scale: how much of the training data it touches.

A cap that touches no token, a budget that no completion reaches and a head that already agrees with the other side
leave curves alike whatever the paper found. The bounds are the least shares of the positive controls, in which the
same factor does touch the data.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import pandas as pd

from rlscape.results import curves
from rlscape.settings.scale import Config

LEAST_MISMATCH = 0.01
"""Below it the claim on head precision counts as not testable (S10 in the register)."""


class Factor(NamedTuple):
    """What a figure varies, and where in the data it would show."""

    name: str
    columns: tuple[str, ...]
    """Of ``updates.parquet``, or of ``run.json``; their sum counts."""
    least: float
    """Below it the factor does not bind."""
    measured: str
    """What the sum is."""


FACTORS = {
    "head": Factor("head precision", ("mismatch",), LEAST_MISMATCH, "mean |log ρ| at equal weights"),
    "length": Factor(
        "the budget",
        ("truncation_rate", "interruption_rate"),
        0.05,
        "of completions truncated or interrupted",
    ),
    "clip": Factor("the clip", ("clip_fraction",), 0.01, "of tokens clipped"),
    "cap": Factor("the cap", ("clip_fraction",), 0.01, "of tokens capped"),
}


def assemble_binding(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Rows of kind binding: per arm and column of :data:`FACTORS` (``quantity``) its mean over updates and runs."""
    arms = list(arms)
    columns = [column for factor in FACTORS.values() for column in factor.columns]
    updates = curves.updates(config, arms)
    per_run = updates.groupby("run")[[name for name in dict.fromkeys(columns) if name in updates]].mean()
    records = curves.run_records(config, arms)
    per_run["mismatch"] = [records[run]["mismatch"] for run in per_run.index]
    per_run["arm"] = [records[run]["arm"] for run in per_run.index]
    means = per_run.groupby("arm").mean().loc[arms].reset_index()
    return means.melt(id_vars="arm", var_name="quantity").assign(kind="binding")


def describe_binding(frame: pd.DataFrame, factor: str, arms: Collection[str]) -> str:
    """For a figure's note: how much a factor touches in the arm where it touches most, and whether it binds."""
    name, columns, least, measured = FACTORS[factor]
    rows = frame[(frame["kind"] == "binding") & frame["arm"].isin(arms) & frame["quantity"].isin(columns)]
    most = rows.groupby("arm")["value"].sum(min_count=1).max()
    if pd.isna(most):
        return f"{measured}: not measured"
    side, verdict = ("below", "does not bind") if most < least else ("from", "binds")
    return f"at most {most:.2g} {measured}: {name} {verdict} ({side} {least:g})"
