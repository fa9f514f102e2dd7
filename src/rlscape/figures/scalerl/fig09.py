"""P1, Figure 9: ScaleRL with a longer generation budget; left the validation set, right downstream.

Paper: 14k against 34k tokens, 12k and 32k of them for thinking; downstream is AIME-24. Here: the same ratio of
the thinking budgets; downstream are held-out problems longer than any in training.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import add_curve_note, assemble_with_downstream, draw_with_downstream
from rlscape.figures.scalerl.binding import assemble_binding, describe_binding
from rlscape.figures.scalerl.paper_values import FIG9, FIG9_DOWNSTREAM
from rlscape.figures.style import new_figure
from rlscape.settings.scale import Config

SETTINGS = {"scalerl": "14k budget"}


def assemble(config: Config) -> pd.DataFrame:
    """Curves (:func:`rlscape.figures.learning_curves.assemble_with_downstream`), and what the budget touches
    (:func:`rlscape.figures.scalerl.binding.assemble_binding`).
    """
    frames = [assemble_with_downstream(config, FIG9), assemble_binding(config, FIG9)]
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels left and right."""
    figure = new_figure(10, 6.6)
    draw_with_downstream(figure, frame, FIG9, SETTINGS, ("left", "right"))
    short, long = FIG9_DOWNSTREAM["scalerl"], FIG9_DOWNSTREAM["long_budget"]
    add_curve_note(
        figure,
        frame,
        describe_binding(frame, "length", FIG9),
        f"AIME-24 in the paper: {short:.2f} and {long:.2f} at the end",
    )
    return figure
