"""P1, Figure 10: ScaleRL with smaller and larger batches; a the validation set, b downstream.

Paper: 512, 768 and 2,048 completions per update; downstream is AIME-24. Here: the same ratios over as many
completions, twice as many for the largest batch; downstream are held-out problems longer than any in training.
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
from rlscape.figures.scalerl.paper_values import FIG10
from rlscape.figures.style import new_figure

SETTINGS = {"scalerl": "batch 768"}


def assemble(config: Config) -> pd.DataFrame:
    """Curves and downstream curves; see :mod:`rlscape.figures.learning_curves`."""
    return pd.concat([assemble_curves(config, FIG10), assemble_downstream(config, FIG10)], ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(10, 5)
    validation, downstream = figure.subplots(1, 2)
    draw_panel(validation, frame, "a: validation set", FIG10, FIG10, SETTINGS)
    draw_downstream(downstream, frame, FIG10, SETTINGS)
    add_title_and_legend(downstream, "b: downstream")
    add_curve_note(figure, frame)
    return figure
