"""P1, Figure 5: from the section 3 baseline, the loss (a) and the precision of the language-model head (b).

"DAPO" in the paper's panel a is that baseline: sample average, Eq 3.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.config import Config
from rlscape.figures.learning_curves import assemble_curves, draw_curves, estimate, forecast_note, seed_counts
from rlscape.figures.scalerl.paper_values import FIG5
from rlscape.figures.style import add_note, describe_interval, describe_seeds, new_figure

PANELS = {"a: loss": ("baseline", "gspo", "cispo"), "b: head precision": ("baseline", "fp32_head")}


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_curves`."""
    return assemble_curves(config, FIG5)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(10, 4.6)
    notes = {
        arm: f": A {describe_interval(estimate(frame, arm, 'A'))}, paper {paper.A:.3f}" for arm, paper in FIG5.items()
    }
    for ax, (title, arms) in zip(figure.subplots(1, 2, sharey=True), PANELS.items(), strict=True):
        draw_curves(ax, frame, arms, notes)
        ax.set_title(title, loc="left")
        ax.legend(loc="upper left")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(seed_counts(frame)),
        forecast_note(frame),
        "A: fit to all of the run, 95% interval",
        "paper: 8B, one seed",
    )
    return figure
