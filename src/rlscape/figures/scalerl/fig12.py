"""P1, Figure 12: Eq 1 with B varied (a) and with C_mid varied (b), everything else as in ScaleRL's fit."""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.scalerl.paper_values import FIG12_B, FIG12_C_MID, SCALERL
from rlscape.figures.scalerl.synthetic import draw_family, family
from rlscape.figures.style import add_note, new_figure
from rlscape.settings.scale import Config


def assemble(config: Config) -> pd.DataFrame:
    """panel, label, compute, value; the same at every scale."""
    return pd.concat(
        [
            family("a: steepness B", {f"B = {B:g}": SCALERL._replace(B=B) for B in FIG12_B}),
            family(
                "b: midpoint C_mid",
                {f"C_mid = {C_mid:,g}": SCALERL._replace(C_mid=C_mid) for C_mid in FIG12_C_MID},
            ),
        ],
        ignore_index=True,
    )


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(10, 4.2)
    for ax, (title, rows) in zip(figure.subplots(1, 2, sharey=True), frame.groupby("panel"), strict=True):
        draw_family(ax, rows, str(title))
    add_note(figure, "synthetic", "paper: values not stated; here: values that its fits span")
    return figure
