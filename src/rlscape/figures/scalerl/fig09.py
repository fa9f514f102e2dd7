"""P1, Figure 9: ScaleRL with a longer generation budget; left the validation set, right downstream.

Paper: 14k against 34k tokens, 12k and 32k of them for thinking; downstream is AIME-24. Here: the same ratio of
the thinking budgets; downstream are held-out problems longer than any in training.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.config import Config
from rlscape.figures.learning_curves import (
    add_curve_note,
    add_title_and_legend,
    assemble_curves,
    assemble_downstream,
    draw_downstream,
    draw_panel,
)
from rlscape.figures.scalerl.paper_values import FIG9, FIG9_DOWNSTREAM
from rlscape.figures.style import new_figure

SETTINGS = {"scalerl": "14k budget"}


def assemble(config: Config) -> pd.DataFrame:
    """Curves and downstream curves; see :mod:`rlscape.figures.learning_curves`."""
    return pd.concat([assemble_curves(config, FIG9), assemble_downstream(config, FIG9)], ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels left and right."""
    figure = new_figure(10, 4.8)
    left, right = figure.subplots(1, 2)
    draw_panel(left, frame, "left: validation set", FIG9, FIG9, SETTINGS)
    draw_downstream(right, frame, FIG9, SETTINGS)
    add_title_and_legend(right, "right: downstream")
    short, long = FIG9_DOWNSTREAM["scalerl"], FIG9_DOWNSTREAM["long_budget"]
    add_curve_note(figure, frame, f"AIME-24 in the paper: {short:.2f} and {long:.2f} at the end")
    return figure
