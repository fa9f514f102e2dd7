"""P2, Table 3: the agents and preference-tuned models that the paper looks at, and our arms that stand for them.

Paper: a list of public checkpoints, without results. Here: every arm's pass rate on held-out problems of its own
task before and after training, and the share of weights (in the matrices inside the blocks) that stay the same.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.off_principals.paper_values import TABLE_3
from rlscape.figures.style import add_note, describe_seeds, new_figure
from rlscape.figures.tables import draw_table
from rlscape.results import curves, weights
from rlscape.settings.scale import Config

QUANTITIES = ("before", "after", "sparsity", "x")


def assemble(config: Config) -> pd.DataFrame:
    """A row per checkpoint of the paper, with the arm that stands for it and its means and ranges over seeds."""
    arms = tuple(dict.fromkeys(row.arm for row in TABLE_3))
    summaries = weights.geometry_summaries(config, arms)
    runs = summaries[summaries["part"] == "linear"].set_index("run")
    by_run = curves.metrics(config, arms).sort_values("step").groupby("run")["pass_rate"]
    runs = runs.assign(before=by_run.first(), after=by_run.last())
    found = {}
    for arm, rows in runs.groupby("arm"):
        found[arm] = {"arm": arm, "seeds": len(rows)}
        for quantity in QUANTITIES:
            values = rows[quantity]
            found[arm] |= {
                quantity: values.mean(),
                f"{quantity}_low": values.min(),
                f"{quantity}_high": values.max(),
            }
    return pd.DataFrame([row._asdict() | found[row.arm] for row in TABLE_3]).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """The table; an arm that stands for several checkpoints is said once."""
    repeated = frame.duplicated("arm")
    rows = [
        [row["base"], row["tuned"], row["method"]]
        + (["as above", "", "", "", ""] if repeated[index] else [ARMS[row["arm"]].label, *_cells(row)])
        for index, row in frame.iterrows()
    ]
    figure = new_figure(13, 0.25 * len(rows) + 0.9)
    draw_table(
        figure.subplots(),
        ["paper: base", "tuned", "method", "ours", "pass rate before", "after", "unchanged, %", "x"],
        rows,
        widths=(2.2, 2.4, 1.0, 1.4, 1.8, 1.8, 1.7, 1.7),
    )
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        f"mean and range, {describe_seeds(frame['seeds'])}",
        "pass rates on held-out problems of the arm's own task",
        "paper: names only, no numbers",
    )
    return figure


def _cells(row: pd.Series) -> list[str]:
    def cell(quantity: str, digits: str, factor: float = 1.0) -> str:
        value, low, high = (factor * row[f"{quantity}{suffix}"] for suffix in ("", "_low", "_high"))
        return f"{value:{digits}}" + (f" ({low:{digits}}–{high:{digits}})" if row["seeds"] > 1 else "")

    return [cell("before", ".3f"), cell("after", ".3f"), cell("sparsity", ".1f", 100), cell("x", ".3g")]
