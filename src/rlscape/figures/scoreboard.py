"""The register of claims with its verdicts, one line per claim: those of one scale, or of several side by side."""

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from rlscape.claims.register import NOT_REPLICATED
from rlscape.figures.style import INK, VERDICT_COLOURS, add_note, new_figure
from rlscape.results.files import claim_verdicts
from rlscape.settings.scale import Config

LEFT = {"id": 0.0, "claim": 0.035, "verdict": 0.31, "effect": 0.45, "seeds": 0.6, "power": 0.635, "reason": 0.68}
"""Left edge of every column, as a share of the width."""
WRAP = {"claim": 50, "effect": 26, "reason": 58}
"""Characters per line."""
LONGEST = {"measure": 60, "reason": 125, "control": 160}
"""Characters; the table that goes with the figure has the rest."""
LINE_HEIGHT = 0.15
"""Inches."""
WIDTH = 13
"""Inches."""
SCALES_FROM = 0.315
"""Left edge of the first of several scales, as a share of the width."""
CHARACTERS_PER_INCH = 15


def assemble(config: Config) -> pd.DataFrame:
    """``claims.csv`` as it is."""
    return claim_verdicts(config).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """A table: claim, verdict, effect with interval, seeds, power, reason; several scales without reasons."""
    return _draw_scale(frame) if frame["scale"].nunique() == 1 else _draw_scales(frame)


def _draw_scale(frame: pd.DataFrame) -> Figure:
    cells = [_cells(row) for _, row in frame.iterrows()]
    heights = [max(text.count("\n") + 1 for text in row.values()) + 0.8 for row in cells]
    total = sum(heights) + 2.6
    figure = new_figure(WIDTH, LINE_HEIGHT * total + 0.35)
    ax = _empty_table(figure, total)
    for column, x in LEFT.items():
        ax.text(x, 0.7, column if column != "effect" else "effect [95% interval]", fontweight="bold", va="center")
    top = 1.6
    for row, height in zip(cells, heights, strict=True):
        ax.axhline(top, color="#cccccc", linewidth=0.6)
        middle = top + height / 2
        _add_patch(ax, LEFT["verdict"], middle - 0.6, 0.128, 1.2, row["verdict"])
        for column, x in LEFT.items():
            _write(ax, x + (0.005 if column == "verdict" else 0), middle, row[column], bold=column == "id")
        top += height
    _add_sources(figure, f"scale: {frame['scale'].iloc[0]}", describe_counts(frame))
    return figure


def _draw_scales(frame: pd.DataFrame) -> Figure:
    scales = list(frame["scale"].unique())
    width = (1 - SCALES_FROM) / len(scales)
    characters = int(CHARACTERS_PER_INCH * WIDTH * (width - 0.015))
    claims = frame.drop_duplicates("id").set_index("id")["claim"].map(lambda text: textwrap.fill(text, WRAP["claim"]))
    cells = {(row["scale"], row["id"]): (row["verdict"], _found(row, characters)) for _, row in frame.iterrows()}
    heads = {scale: textwrap.fill(describe_counts(frame[frame["scale"] == scale]), characters) for scale in scales}
    head = max(text.count("\n") for text in heads.values()) + 3.2
    heights = {
        claim: 0.8 + max(text.count("\n") + 1 for text in (claims[claim], *found))
        for claim in claims.index
        for found in [[cells[scale, claim][1] for scale in scales if (scale, claim) in cells]]
    }
    total = sum(heights.values()) + head + 1.2  # of the note
    figure = new_figure(WIDTH, LINE_HEIGHT * total + 0.35)
    ax = _empty_table(figure, total)
    for x, text in ((LEFT["id"], "id"), (LEFT["claim"], "claim")):
        ax.text(x, 0.7, text, fontweight="bold", va="center")
    left = {scale: SCALES_FROM + index * width for index, scale in enumerate(scales)}
    for scale, x in left.items():
        ax.text(x, 0.7, scale, fontweight="bold", va="center")
        ax.text(x, 1.5, heads[scale], fontsize=8, va="top", color=INK, linespacing=1.15)
    top = head
    for claim, height in heights.items():
        ax.axhline(top, color="#cccccc", linewidth=0.6)
        middle = top + height / 2
        _write(ax, LEFT["id"], middle, claim, bold=True)
        _write(ax, LEFT["claim"], middle, claims[claim])
        for scale, x in left.items():
            verdict, text = cells.get((scale, claim), ("", "not recorded"))
            if verdict:
                _add_patch(ax, x, top + 0.15, width - 0.008, height - 0.3, verdict)
            _write(ax, x + 0.005, middle, text)
        top += height
    _add_sources(figure, f"scales: {', '.join(scales)}", "effects with 95% intervals over seeds")
    return figure


def _empty_table(figure: Figure, lines: float) -> Axes:
    ax = figure.subplots()
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(lines, 0))
    return ax


def _add_patch(ax: Axes, left: float, top: float, width: float, height: float, verdict: str) -> None:
    colour = VERDICT_COLOURS[verdict]
    box = FancyBboxPatch((left, top), width, height, boxstyle="square,pad=0", linewidth=0, facecolor=colour, alpha=0.35)
    ax.add_patch(box)


def _write(ax: Axes, x: float, y: float, text: str, bold: bool = False) -> None:
    weight = "bold" if bold else "normal"
    ax.text(x, y, text, fontsize=8, va="center", color=INK, linespacing=1.15, fontweight=weight)


def describe_counts(frame: pd.DataFrame) -> str:
    """``5 replicated, 13 not replicated``: how many claims have each verdict."""
    counts = frame["verdict"].value_counts()
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICT_COLOURS if verdict in counts)


def _add_sources(figure: Figure, *parts: str) -> None:
    add_note(
        figure,
        *parts,
        "S: arXiv 2510.13786",
        "O: arXiv 2511.08567",
        "reasons in full: scoreboard.csv",
        "criteria: config/claims.yaml",
    )


def _effect(row: pd.Series) -> str:
    """What was measured, its value and its interval; nothing where there is no effect."""
    if pd.isna(row["effect"]):
        return ""
    limits = "" if pd.isna(row["low"]) or pd.isna(row["high"]) else f" [{row['low']:.3g}, {row['high']:.3g}]"
    return f"{_shortened(row, 'measure')}: {row['effect']:.3g}{limits}"


def _control(row: pd.Series) -> str:
    """Of what is not replicated, the runs or simulations in which the effect shows."""
    if row["verdict"] != NOT_REPLICATED or pd.isna(row["control"]) or not row["control"]:
        return ""
    return f"control: {_shortened(row, 'control')}"


def _found(row: pd.Series, characters: int) -> str:
    """A scale's cell: verdict, seeds and power, and below the effect and that of the control."""
    seeds = f", {row['seeds']} seed{'s' if row['seeds'] > 1 else ''}" if row["seeds"] else ""
    power = f", power {_power(row)}" if _power(row) else ""
    below = [*textwrap.wrap(_effect(row), characters), *textwrap.wrap(_control(row), characters)]
    return "\n".join([f"{row['verdict']}{seeds}{power}", *below])


def _power(row: pd.Series) -> str:
    return "" if pd.isna(row["power"]) else f"{row['power']:.2f}"


def _cells(row: pd.Series) -> dict[str, str]:
    cells = {
        "id": row["id"],
        "claim": row["claim"],
        "verdict": row["verdict"],
        "effect": _effect(row),
        "seeds": f"{row['seeds']}",
        "power": _power(row),
        "reason": "; ".join(filter(None, [_control(row), _shortened(row, "reason")])),
    }
    return {name: textwrap.fill(text, WRAP[name]) if name in WRAP else text for name, text in cells.items()}


def _shortened(row: pd.Series, column: str) -> str:
    return textwrap.shorten(row[column], LONGEST[column], placeholder=" ...")
