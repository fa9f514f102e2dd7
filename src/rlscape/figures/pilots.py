"""What pilots chose, and by how much it changes the end of a run: learning rates by family, and controls.

Paper: no pilots. Here: see :mod:`rlscape.catalogue.pilots`.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS, CHOICES
from rlscape.figures.style import BLUE, GREY, INK, add_note, describe_seeds, new_figure
from rlscape.results.files import chosen_by_pilots
from rlscape.settings.scale import Config

RATES = "rate_"
"""Begins the names of choices of a learning rate."""
SHOWN = {
    "collapsed": "collapsed",
    "falls": "training pass rate halved",
    "cut_at_start": "cut at the start",
    "clipped": "tokens clipped",
    "promises": "forecast promises",
    "learns": "gain from 0.1-0.4",
}
"""Quantity -> what a share of it is of."""
LINE = 0.24
"""Inches."""


def assemble(config: Config) -> pd.DataFrame:
    """``pilots.csv`` as it is."""
    return chosen_by_pilots(config).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """The rate that each family is given, against its usual one, and every candidate of the controls: what there is."""
    is_rate = frame["choice"].str.startswith(RATES)
    panels = {
        "best rate of a family, less its usual one": (frame[is_rate & frame["chosen"]], _rate),
        "controls, less what stands beside them": (frame[~is_rate], _control),
    }
    panels = {title: panel for title, panel in panels.items() if len(panel[0])}
    lines = max(len(rows) + rows["choice"].nunique() for rows, _ in panels.values())
    figure = new_figure(6.5 * len(panels), LINE * lines + 1.6)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, (rows, label)) in zip(axes, panels.items(), strict=True):
        _differences(ax, rows, [label(row) for row in rows.to_dict("records")])
        ax.set_title(title, loc="left", fontsize=9)
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame["seeds"].astype(int)),
        "bars: 95% intervals, paired by seed",
        "filled: chosen by the rules of src/rlscape/catalogue/pilots.py",
        "ends: mean pass rate of the last three evaluations",
    )
    return figure


def _rate(row: dict) -> str:
    return ARMS[row["arm"]].label + (" (end of the range)" if row["outermost"] else "")


def _control(row: dict) -> str:
    low, high = CHOICES[row["choice"]].window
    shown = f"{SHOWN[row['quantity']]} {row['value']:.2g} (asked: {low:g} to {high:g})"
    return f"{ARMS[row['arm']].label} | {ARMS[row['against']].label}\n{shown}, beside it {row['value_against']:.2g}"


def _differences(ax: Axes, rows: pd.DataFrame, labels: list[str]) -> None:
    """A line per row from the top, a gap between choices that have several."""
    gaps = (rows["choice"] != rows["choice"].shift()).cumsum() * (0.6 if rows["choice"].duplicated().any() else 0.0)
    places = pd.Series(range(len(rows)), index=rows.index) + gaps
    for (_, row), place in zip(rows.iterrows(), places, strict=True):
        ax.errorbar(
            row["effect"],
            place,
            xerr=[[row["effect"] - row["effect_low"]], [row["effect_high"] - row["effect"]]],
            color=BLUE if row["chosen"] else GREY,
            marker="o",
            markersize=5,
            markerfacecolor=BLUE if row["chosen"] else "white",
            linewidth=1,
        )
    ax.axvline(0, color=INK, linewidth=0.6)
    ax.set_yticks(places, labels, fontsize=6.5)
    ax.set_ylim(places.max() + 0.7, places.min() - 0.7)
    ax.set_xlabel("difference of the ends (pass rate)")
