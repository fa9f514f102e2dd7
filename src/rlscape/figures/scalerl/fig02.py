"""P1, Figure 2: five recipes. The table gives the ceiling A and the steepness B, ours beside the paper's.

Paper: fits end at 8,000 of 10,000-16,000 GPU-hours. Here: at half of each run's compute. The table's fits
use all of the run. The small panels, the same curves in other units of compute, are ours.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.compute_units import draw_units
from rlscape.figures.learning_curves import assemble_curves, draw_curves, estimate, forecast_note, seed_counts
from rlscape.figures.scalerl.paper_values import FIG2
from rlscape.figures.style import ARM_STYLES, add_note, describe_interval, describe_seeds, new_figure
from rlscape.figures.tables import draw_table
from rlscape.settings.scale import Config


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_curves`."""
    return assemble_curves(config, FIG2)


def draw(frame: pd.DataFrame) -> Figure:
    """The curves above, then in other units of compute, the table below."""
    figure = new_figure(7.6, 9.1)
    grid = figure.add_gridspec(3, 1, height_ratios=(3.4, 1.25, 1.1))
    curves, table = figure.add_subplot(grid[0]), figure.add_subplot(grid[2])
    draw_units(figure, grid[1], frame, FIG2)
    draw_curves(curves, frame, FIG2)
    curves.legend(loc="upper left")
    rows = [
        [
            ARMS[arm].label,
            describe_interval(estimate(frame, arm, "A")),
            f"{paper.A:.3f}",
            describe_interval(estimate(frame, arm, "B"), digits=2),
            f"{paper.B:.2f}",
        ]
        for arm, paper in FIG2.items()
    ]
    draw_table(
        table,
        ["recipe", "A (95% interval)", "A, paper", "B (95% interval)", "B, paper"],
        rows,
        widths=(2, 2.2, 1, 2.2, 1),
        colours=[ARM_STYLES[arm][0] for arm in FIG2],
    )
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(seed_counts(frame)),
        forecast_note(frame),
        "paper: 8B, one seed, Figure 2",
    )
    return figure
