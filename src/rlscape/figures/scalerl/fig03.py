"""P1, Figure 3: what R_0, A, C_mid and B mean in Eq 1, drawn with ScaleRL's published parameters."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.scalerl.paper_values import R_0, SCALERL
from rlscape.figures.style import BLUE, INK, add_note, log_compute_axis, new_figure
from rlscape.scaling.sigmoid import sigmoid
from rlscape.settings.scale import Config


def assemble(config: Config) -> pd.DataFrame:
    """compute, value, and the parameters in every row; the same at every scale."""
    A, B, C_mid = SCALERL
    compute = np.geomspace(C_mid / 20, C_mid * 20, 200)
    return pd.DataFrame(
        {
            "compute": compute,
            "value": sigmoid(compute, A, B, C_mid, R_0),
            "A": A,
            "B": B,
            "C_mid": C_mid,
            "R_0": R_0,
        }
    )


def draw(frame: pd.DataFrame) -> Figure:
    """The curve with its parameters marked."""
    A, B, C_mid, start = frame[["A", "B", "C_mid", "R_0"]].iloc[0]
    middle = (A + start) / 2
    left, right = frame["compute"].min(), frame["compute"].max()
    figure = new_figure(6.4, 4.2)
    ax = figure.subplots()
    ax.plot(frame["compute"], frame["value"], color=BLUE, linewidth=2)
    for level in (start, A):
        ax.axhline(level, color=INK, linewidth=0.8, linestyle="--")
    ax.plot([C_mid, C_mid, left], [start - 0.02, middle, middle], color=INK, linewidth=0.8, linestyle=":")
    ax.plot(C_mid, middle, "o", color=BLUE)
    ax.text(left * 1.05, A + 0.004, f"$A$ = {A:g}: the asymptote", va="bottom")
    ax.text(right / 1.05, start + 0.004, f"$R_0$ = {start:.2f}: before training", ha="right", va="bottom")
    ax.text(left * 1.05, middle + 0.004, r"$(A + R_0)/2$", va="bottom")
    ax.text(C_mid * 1.08, start - 0.013, f"$C_{{mid}}$ = {C_mid:g}: half of the rise", va="center")
    ax.text(C_mid * 1.25, middle, f"$B$ = {B:g}: the steepness", va="center")
    ax.set_ylim(start - 0.025, A + 0.03)
    ax.set_xlim(left, right)
    ax.set_ylabel("pass rate")
    ax.set_title(r"$R_C = R_0 + (A - R_0)\,/\,(1 + (C_{mid}/C)^B)$")
    log_compute_axis(ax, "compute (GPU-hours)")
    add_note(
        figure,
        "schematic with the paper's ScaleRL fit (Figure 7 table); R_0 is not stated, its curves imply 0.40",
    )
    return figure
