"""P1, Figure 6: from the section 3 baseline, which prompts are learnt from.

a: prompts whose rewards are all equal are dropped from the average ("effective batch"). b: prompts that the
policy has mastered are not drawn again (No-Positive-Resampling).
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import add_curve_note, assemble_curves, draw_panel
from rlscape.figures.scalerl.paper_values import FIG6
from rlscape.figures.style import new_figure
from rlscape.settings.scale import Config


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_curves`."""
    return assemble_curves(config, FIG6)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(11, 4.8)
    batch, sampling = figure.subplots(1, 2, sharey=True)
    draw_panel(
        batch,
        frame,
        "a: prompts in the average",
        ("baseline", "zero_variance_filter"),
        FIG6,
        {"baseline": "all prompts"},
    )
    draw_panel(
        sampling,
        frame,
        "b: prompts drawn in later epochs",
        ("baseline", "no_positive_resampling"),
        FIG6,
        {"baseline": "uniform"},
    )
    add_curve_note(figure, frame)
    return figure
