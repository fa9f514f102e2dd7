"""P1, Figure 17: ScaleRL with 8 to 32 generations per prompt at a fixed number of completions per update.

a: the validation set. b: downstream. Paper: AIME-24. Here: held-out problems longer than any in training.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import add_curve_note, assemble_with_downstream, draw_with_downstream
from rlscape.figures.scalerl.paper_values import FIG17
from rlscape.figures.style import new_figure
from rlscape.settings.scale import Config

SETTINGS = {"scalerl": "16 generations"}


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_with_downstream`."""
    return assemble_with_downstream(config, FIG17)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(10, 7)
    draw_with_downstream(figure, frame, FIG17, SETTINGS)
    add_curve_note(figure, frame)
    return figure
