"""The register of claims with its verdicts, one line per claim."""

import textwrap

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from rlscape.figures.style import INK, VERDICT_COLOURS, add_note, new_figure
from rlscape.results.files import claim_verdicts
from rlscape.settings.scale import Config

LEFT = {"id": 0.0, "claim": 0.035, "verdict": 0.31, "effect": 0.45, "seeds": 0.6, "reason": 0.64}
"""Left edge of every column, as a share of the width."""
WRAP = {"claim": 50, "effect": 26, "reason": 64}
"""Characters per line."""
LONGEST = {"measure": 60, "reason": 125}
"""Characters; the table that goes with the figure has the rest."""
LINE_HEIGHT = 0.15
"""Inches."""


def assemble(config: Config) -> pd.DataFrame:
    """``claims.csv`` as it is."""
    return claim_verdicts(config).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """A table: claim, verdict, effect with interval, seeds, reason."""
    cells = [_cells(row) for _, row in frame.iterrows()]
    heights = [max(text.count("\n") + 1 for text in row.values()) + 0.8 for row in cells]
    total = sum(heights) + 1.6
    figure = new_figure(13, LINE_HEIGHT * total + 0.35)
    ax = figure.subplots()
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(total, 0))
    for column, x in LEFT.items():
        ax.text(x, 0.7, column if column != "effect" else "effect [95% interval]", fontweight="bold", va="center")
    top = 1.6
    for row, height in zip(cells, heights, strict=True):
        ax.axhline(top, color="#cccccc", linewidth=0.6)
        middle = top + height / 2
        ax.add_patch(
            FancyBboxPatch(
                (LEFT["verdict"], middle - 0.6),
                0.128,
                1.2,
                boxstyle="square,pad=0",
                linewidth=0,
                facecolor=VERDICT_COLOURS[row["verdict"]],
                alpha=0.35,
            )
        )
        for column, x in LEFT.items():
            offset = 0.005 if column == "verdict" else 0
            ax.text(
                x + offset,
                middle,
                row[column],
                fontsize=8,
                va="center",
                color=INK,
                linespacing=1.15,
                fontweight="bold" if column == "id" else "normal",
            )
        top += height
    counts = frame["verdict"].value_counts()
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICT_COLOURS if verdict in counts),
        "S: arXiv 2510.13786",
        "O: arXiv 2511.08567",
        "reasons in full: scoreboard.csv",
        "criteria: config/claims.yaml",
    )
    return figure


def _cells(row: pd.Series) -> dict[str, str]:
    effect = "" if pd.isna(row["effect"]) else f"{row['effect']:.3g}"
    if effect and not (pd.isna(row["low"]) or pd.isna(row["high"])):
        effect += f" [{row['low']:.3g}, {row['high']:.3g}]"
    if effect:
        effect = f"{_shortened(row, 'measure')}: {effect}"
    cells = {
        "id": row["id"],
        "claim": row["claim"],
        "verdict": row["verdict"],
        "effect": effect,
        "seeds": f"{row['seeds']}",
        "reason": _shortened(row, "reason"),
    }
    return {name: textwrap.fill(text, WRAP[name]) if name in WRAP else text for name, text in cells.items()}


def _shortened(row: pd.Series, column: str) -> str:
    return textwrap.shorten(row[column], LONGEST[column], placeholder=" ...")
