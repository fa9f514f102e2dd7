"""P1, Figure 1a: the dense model trained with ScaleRL, and the forecast from the first half of its compute.

Paper: 100,000 GPU-hours of an 8B model, fitted up to 50,000; a second curve for the Scout model. Here: the
dense model.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.config import Config
from rlscape.figures.learning_curves import assemble_curves, draw_curves, estimate, forecast_note, seed_counts
from rlscape.figures.scalerl.paper_values import FIG1A_DENSE, FIG1A_STEPS
from rlscape.figures.style import add_note, describe_interval, describe_seeds, new_figure


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_curves`."""
    return assemble_curves(config, ["scalerl"])


def draw(frame: pd.DataFrame) -> Figure:
    """Panel a."""
    figure = new_figure(6.4, 4.6)
    ax = figure.subplots()
    draw_curves(ax, frame, ["scalerl"])
    ax.legend(loc="upper left")
    ax.set_title("a: ScaleRL, dense model; stars fitted, crosses later", loc="left")
    ax.text(
        0.97,
        0.12,
        f"first half: A = {describe_interval(estimate(frame, 'scalerl', 'forecast_A'))}\n"
        f"all: A = {describe_interval(estimate(frame, 'scalerl', 'A'))}\n"
        f"paper: A = {FIG1A_DENSE.A:.3f} after {FIG1A_STEPS:,} steps",
        transform=ax.transAxes,
        ha="right",
        va="bottom",
        fontsize=8,
    )
    steps = int(frame["step"].max())
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(seed_counts(frame)),
        f"{steps} steps",
        forecast_note(frame),
        "paper: 8B, one seed",
    )
    return figure
