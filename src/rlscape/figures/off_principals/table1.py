"""P2, Table 1: share of weights that fine-tuning leaves unchanged in bf16, the paper's rows and ours.

Paper: which parameters enter is not stated. Here: the matrices inside the blocks; the CSV also has all
parameters. x is the update's size in units of bf16 rounding; for the paper's rows it is the x at which an
isotropic update of Gaussian weights has the reported sparsity.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.config import Config
from rlscape.figures.off_principals.paper_values import TABLE_1
from rlscape.figures.style import add_note, describe_seeds, new_figure
from rlscape.figures.tables import draw_table
from rlscape.results import weights

METHODS = ("rlvr", "sft")


def assemble(config: Config) -> pd.DataFrame:
    """A row per pair: source, base, tuned, method, data, sparsity and x with their ranges over seeds."""
    paper = pd.DataFrame(TABLE_1).rename(columns={"update_size": "x"}).assign(source="paper", part="not stated")
    summaries = weights.geometry_summaries(config, METHODS)
    rows = []
    for (arm, part), runs in summaries.groupby(["arm", "part"], sort=False):
        row = {
            "source": "ours",
            "part": part,
            "base": config.off_principals.base,
            "tuned": ARMS[arm].label,
            "method": "SFT" if ARMS[arm].method == "sft" else "DAPO",
            "data": "math",
            "seeds": len(runs),
        }
        for quantity in ("sparsity", "x", "isotropic_sparsity"):
            values = runs[quantity]
            row |= {
                quantity: values.mean(),
                f"{quantity}_low": values.min(),
                f"{quantity}_high": values.max(),
            }
        rows.append(row)
    return pd.concat([paper, pd.DataFrame(rows)], ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """The table, our rows (matrices inside the blocks) below the paper's."""
    shown = frame[frame["part"] != "all"]
    rows = [
        [
            row.base,
            row.tuned,
            row.method,
            row.data,
            _with_range(100 * row.sparsity, 100 * row.sparsity_low, 100 * row.sparsity_high, ".1f"),
            _with_range(row.x, row.x_low, row.x_high, ".3g"),
            "" if pd.isna(row.isotropic_sparsity) else f"{100 * row.isotropic_sparsity:.1f}",
        ]
        for row in shown.itertuples()
    ]
    figure = new_figure(9.5, 0.25 * len(rows) + 0.9)
    draw_table(
        figure.subplots(),
        ["base", "tuned", "method", "data", "unchanged, %", "x", "isotropic at x, %"],
        rows,
        widths=(1.6, 1.7, 1.1, 1.0, 1.9, 1.7, 1.4),
        bold=list(shown["source"] == "ours"),
    )
    seeds = shown["seeds"].dropna().astype(int)
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        f"bold: ours, mean and range, {describe_seeds(seeds)}",
        "others: paper; their x derived from the sparsity",
        "paper: RL 36–92%, SFT 0.6–18.8%",
    )
    return figure


def _with_range(value: float, low: float, high: float, digits: str) -> str:
    return f"{value:{digits}}" + ("" if pd.isna(low) else f" ({low:{digits}}–{high:{digits}})")
