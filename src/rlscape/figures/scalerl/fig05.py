"""P1, Figure 5: from the section 3 baseline, the loss (a) and the precision of the language-model head (b).

"DAPO" in the paper's panel a is that baseline: sample average, Eq 3.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import add_curve_note, assemble_curves, draw_panel
from rlscape.figures.scalerl.paper_values import FIG5
from rlscape.figures.style import new_figure
from rlscape.settings.scale import Config


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_curves`."""
    return assemble_curves(config, FIG5)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(11, 5)
    loss, head = figure.subplots(1, 2, sharey=True)
    draw_panel(loss, frame, "a: loss", ("baseline", "gspo", "cispo"), FIG5)
    draw_panel(head, frame, "b: head precision", ("baseline", "fp32_head"), FIG5)
    add_curve_note(figure, frame)
    return figure
