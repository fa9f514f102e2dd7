"""P1, Figure 13: Eq 1 with A varied (a); a fast, low run against a slow, high one (b)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.scalerl.paper_values import FIG13_A, FIG13B_FAST, FIG13B_SLOW, SCALERL
from rlscape.figures.scalerl.synthetic import curve, draw_family, family, last_crossing
from rlscape.figures.style import INK, add_note, new_figure
from rlscape.settings.scale import Config


def assemble(config: Config) -> pd.DataFrame:
    """panel, label, compute, value, and where panel b's curves cross; the same at every scale."""
    fast_and_slow = {
        f"fast, low: A = {FIG13B_FAST.A:g}, B = {FIG13B_FAST.B:g}": FIG13B_FAST,
        f"slow, high: A = {FIG13B_SLOW.A:g}, B = {FIG13B_SLOW.B:g}": FIG13B_SLOW,
    }
    crossing = last_crossing(FIG13B_FAST, FIG13B_SLOW)
    return pd.concat(
        [
            family("a: asymptote A", {f"A = {A:g}": SCALERL._replace(A=A) for A in FIG13_A}),
            family("b: the early leader loses", fast_and_slow).assign(
                crossing=crossing, crossing_value=float(curve(FIG13B_FAST, np.array(crossing)))
            ),
        ],
        ignore_index=True,
    )


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(10, 4.2)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (title, rows) in zip(axes, frame.groupby("panel"), strict=True):
        draw_family(ax, rows, str(title))
    crossing, level = frame[["crossing", "crossing_value"]].dropna().iloc[0]
    axes[1].plot(crossing, level, "o", color=INK)
    axes[1].annotate(f"crossing at {crossing:,.0f}", (crossing, level), xytext=(10, -12), textcoords="offset points")
    add_note(
        figure,
        "synthetic",
        "paper: values not stated; here: values that its fits span, (b) crossing as in Figure 5b",
    )
    return figure
