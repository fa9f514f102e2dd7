"""P1, Figure 10: ScaleRL with smaller and larger batches; a the validation set, b downstream.

Paper: 512, 768 and 2,048 completions per update; downstream is AIME-24. Here: the same ratios over as many
completions, twice as many for the largest batch; downstream are held-out problems longer than any in training.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import add_curve_note, assemble_with_downstream, draw_with_downstream
from rlscape.figures.scalerl.paper_values import FIG10
from rlscape.figures.style import new_figure
from rlscape.settings.scale import Config

SETTINGS = {"scalerl": "batch 768"}


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_with_downstream`."""
    return assemble_with_downstream(config, FIG10)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(10, 6.8)
    draw_with_downstream(figure, frame, FIG10, SETTINGS)
    add_curve_note(figure, frame)
    return figure
