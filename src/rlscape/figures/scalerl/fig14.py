"""P1, Figure 14: from the section 3 baseline, how the loss is averaged (a) and the advantages scaled (b)."""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import add_curve_note, assemble_curves, draw_panel
from rlscape.figures.scalerl.paper_values import FIG14
from rlscape.figures.style import new_figure
from rlscape.settings.scale import Config


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_curves`."""
    return assemble_curves(config, FIG14)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(11, 5)
    aggregation, norm = figure.subplots(1, 2, sharey=True)
    draw_panel(
        aggregation,
        frame,
        "a: loss aggregation",
        ("baseline", "prompt_average", "token_average"),
        FIG14,
        {"baseline": "sample average"},
    )
    draw_panel(
        norm,
        frame,
        "b: advantage normalisation",
        ("baseline", "batch_norm", "no_norm"),
        FIG14,
        {"baseline": "prompt-level"},
    )
    add_curve_note(figure, frame)
    return figure
