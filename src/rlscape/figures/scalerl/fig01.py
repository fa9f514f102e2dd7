"""P1, Figure 1: the longest runs with ScaleRL, of the dense and of the larger model, and their downstream pass rates.

Paper: a: an 8B run at batch 2048, fitted up to 50,000 of 100,000 GPU-hours, and Scout (17B x 16, a mixture of
experts), fitted up to 16,000 of 45,000; b: AIME-24. Here: a: the run at batch 2048 with twice the completions of the
others, and the mixture of experts, each fitted up to half of its compute; b: harder held-out problems.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import (
    add_curve_note,
    add_title_and_legend,
    assemble_with_downstream,
    draw_curves,
    draw_downstream,
    estimate,
)
from rlscape.figures.scalerl.paper_values import FIG1A, FIG1A_STEPS, FIG1B
from rlscape.figures.style import describe_interval, new_figure
from rlscape.settings.scale import Config

LEGEND_TITLE = "arm: A [95% interval] of the fit to all of the run, and of its first half"


def assemble(config: Config) -> pd.DataFrame:
    """See :mod:`rlscape.figures.learning_curves`."""
    return assemble_with_downstream(config, FIG1A)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(11, 5.6)
    above, downstream = figure.subplots(1, 2)
    steps = frame[frame["kind"] == "mean"].groupby("arm")["step"].max()
    ends = frame[frame["kind"] == "end"].groupby("arm")["value"].mean()
    notes = {
        arm: (
            f": A {describe_interval(estimate(frame, arm, 'A'))}, {_forecast(estimate(frame, arm, 'forecast_A'))}\n"
            f"ends at {ends[arm]:.3f} after {steps[arm]:,.0f} steps; paper: A {paper.A:.3f}, {FIG1A_STEPS[arm]:,} steps"
        )
        for arm, paper in FIG1A.items()
    }
    draw_curves(above, frame, FIG1A, notes)
    add_title_and_legend(above, "a: ScaleRL; stars fitted, crosses later", LEGEND_TITLE)
    draw_downstream(
        downstream, frame, FIG1A, {arm: f"paper: AIME-24 {value:.2f} at the end" for arm, value in FIG1B.items()}
    )
    add_title_and_legend(downstream, "b: downstream")
    add_curve_note(figure, frame, "MoE stands for the paper's Scout")
    return figure


def _forecast(A: pd.Series) -> str:
    return "forecast refused" if pd.isna(A["value"]) else f"forecast {describe_interval(A)}"
