"""P1, Figure 5: from the section 3 baseline, the loss (a) and the precision of the language-model head (b).

"DAPO" in the paper's panel a is that baseline: sample average, Eq 3.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.figures.compute_units import draw_units
from rlscape.figures.learning_curves import add_curve_note, assemble_curves, draw_panel
from rlscape.figures.scalerl.binding import assemble_binding, describe_binding
from rlscape.figures.scalerl.paper_values import FIG5
from rlscape.figures.style import new_figure
from rlscape.settings.scale import Config

PANELS = {"a": ("loss", ("baseline", "gspo", "cispo")), "b": ("head precision", ("baseline", "fp32_head"))}


def assemble(config: Config) -> pd.DataFrame:
    """Curves (see :mod:`rlscape.figures.learning_curves`), and what the head's precision touches
    (:func:`rlscape.figures.scalerl.binding.assemble_binding`).
    """
    frames = [assemble_curves(config, FIG5), assemble_binding(config, FIG5)]
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b, below them the same in other units of compute."""
    figure = new_figure(11, 6.9)
    grid = figure.add_gridspec(2, 2, height_ratios=(2.6, 1))
    first: Axes | None = None
    for column, (panel, (title, arms)) in enumerate(PANELS.items()):
        first = ax = figure.add_subplot(grid[0, column], sharey=first)
        draw_panel(ax, frame, f"{panel}: {title}", arms, FIG5)
        draw_units(figure, grid[1, column], frame, arms, panel)
    add_curve_note(figure, frame, f"b: {describe_binding(frame, 'head', PANELS['b'][1])}")
    return figure
