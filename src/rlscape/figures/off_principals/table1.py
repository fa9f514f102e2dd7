"""P2, Table 1: share of weights that fine-tuning leaves unchanged in bf16, the paper's rows and ours.

Paper: which parameters enter is not stated. Here: the matrices inside the blocks; the CSV also has all
parameters. x is the update's size in units of bf16 rounding; for the paper's rows it is the x at which an
isotropic update of Gaussian weights has the reported sparsity.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS, arms_of, figure_of, first_run, resolve_run
from rlscape.figures.off_principals.paper_values import TABLE_1
from rlscape.figures.style import add_note, describe_seeds, new_figure
from rlscape.figures.tables import draw_table
from rlscape.paths import parse_run_name
from rlscape.results import weights
from rlscape.settings.scale import Config

TARGET = "off_principals_table1"


def assemble(config: Config) -> pd.DataFrame:
    """A row per pair: source, base, tuned, method, data, sparsity and x with their ranges over seeds."""
    paper = pd.DataFrame(TABLE_1).rename(columns={"update_size": "x"}).assign(source="paper", part="not stated")
    arms = arms_of(config, figure_of(TARGET))
    summaries = weights.geometry_summaries(config, arms)
    rows = []
    for (arm, part), runs in summaries.groupby(["arm", "part"], sort=False):
        row = {
            "source": "ours",
            "part": part,
            "tuned": ARMS[arm].label,
            **_origin(config, arm),
            "seeds": len(runs),
        }
        for quantity in ("sparsity", "x", "isotropic_sparsity"):
            values = runs[quantity]
            low, high = (values.min(), values.max()) if len(values) > 1 else (np.nan, np.nan)
            row |= {quantity: values.mean(), f"{quantity}_low": low, f"{quantity}_high": high}
        rows.append(row)
    return pd.concat([paper, pd.DataFrame(rows)], ignore_index=True).assign(scale=config.scale)


def _origin(config: Config, arm: str) -> dict[str, str]:
    """What an arm starts from, its method (of RL, the loss) and its data, as the paper's rows say it."""
    run = resolve_run(config, first_run(config, arm))
    tasks = run.recipe.tasks if run.recipe else ("math",)
    return {
        "base": ARMS[parse_run_name(run.start)[0]].label if run.start else run.base_name,
        "method": run.recipe.loss.upper() if run.recipe else ARMS[run.method].label,
        "data": "+".join(tasks),
    }


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
    figure = new_figure(10.5, 0.25 * len(rows) + 0.9)
    draw_table(
        figure.subplots(),
        ["base", "tuned", "method", "data", "unchanged, %", "x", "isotropic at x, %"],
        rows,
        widths=(1.6, 1.9, 1.1, 1.1, 1.9, 1.9, 1.4),
        bold=list(shown["source"] == "ours"),
    )
    seeds = shown["seeds"].dropna().astype(int)
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        f"bold: ours, mean and range over seeds, {describe_seeds(seeds)}",
        "others: paper; their x derived from the sparsity",
        "paper: RL 36–92%, SFT 0.6–18.8%",
    )
    return figure


def _with_range(value: float, low: float, high: float, digits: str) -> str:
    return f"{value:{digits}}" + ("" if pd.isna(low) else f" ({low:{digits}}–{high:{digits}})")
