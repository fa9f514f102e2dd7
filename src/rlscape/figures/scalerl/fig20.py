"""P1, Figure 20: the clips of GSPO; a their scale, b a wider upper clip at the scale of 1e-3."""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import add_curve_note, assemble_curves, draw_panel
from rlscape.figures.scalerl.paper_values import FIG20
from rlscape.figures.style import new_figure
from rlscape.settings.scale import Config

UPPER_CLIPS = ("gspo", "gspo_5")
SETTINGS = {"gspo": "4e-3 / 3e-3"}


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_curves`."""
    return assemble_curves(config, dict.fromkeys((*FIG20, *UPPER_CLIPS)))


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(11, 5.2)
    scale, upper = figure.subplots(1, 2, sharey=True)
    draw_panel(scale, frame, "a: scale of both clips, upper / lower", FIG20, FIG20, SETTINGS)
    draw_panel(upper, frame, "b: upper clip", UPPER_CLIPS, {}, SETTINGS)
    add_curve_note(figure, frame, "paper, b: 5e-3 slightly better than 4e-3")
    return figure
