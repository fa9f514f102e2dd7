"""P1, Figure 17: ScaleRL with 8 to 32 generations per prompt at a fixed number of completions per update.

a: the validation set. b: downstream. Paper: AIME-24. Here: held-out problems longer than any in training.
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
from rlscape.figures.scalerl.paper_values import FIG17
from rlscape.figures.style import new_figure

SETTINGS = {"scalerl": "16 generations"}


def assemble(config: Config) -> pd.DataFrame:
    """Curves and downstream curves; see :mod:`rlscape.figures.learning_curves`."""
    return pd.concat([assemble_curves(config, FIG17), assemble_downstream(config, FIG17)], ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(10, 5.2)
    validation, downstream = figure.subplots(1, 2)
    draw_panel(validation, frame, "a: validation set", FIG17, FIG17, SETTINGS)
    draw_downstream(downstream, frame, FIG17, SETTINGS)
    add_title_and_legend(downstream, "b: downstream")
    add_curve_note(figure, frame)
    return figure
