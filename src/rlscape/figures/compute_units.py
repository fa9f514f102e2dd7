"""Learning curves against what else may be called compute: updates, generated tokens, FLOPs.

The main panels have virtual accelerator-seconds, idle ones included, so that a schedule's price and what it learns per
update stand in one number; small panels below them take the two apart.
"""

from collections.abc import Collection

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import EngFormatter, LogLocator

from rlscape.figures.style import ARM_STYLES, log_compute_axis, pass_rate_axis

LABELS = {"step": "updates", "tokens_generated": "tokens generated", "flops": "FLOPs"}
"""Column of an assembled frame -> label."""
SMALL = 7


def draw_units(figure: Figure, place: SubplotSpec, frame: pd.DataFrame, arms: Collection[str], panel: str = "") -> None:
    """A row of small panels, one per unit: means over seeds with their intervals, no fits.

    Args:
        frame: of :func:`rlscape.figures.learning_curves.assemble_curves`.
        panel: the main panel that has the same arms.
    """
    means = frame[frame["kind"] == "mean"]
    first: Axes | None = None
    grid = place.subgridspec(1, len(LABELS))
    for column, (unit, label) in enumerate(LABELS.items()):
        ax = figure.add_subplot(grid[0, column], sharey=first)
        for arm in arms:
            colour, marker = ARM_STYLES[arm]
            mean = means[means["arm"] == arm]
            ax.fill_between(mean[unit], mean["low"], mean["high"], color=colour, alpha=0.15, linewidth=0)
            ax.plot(mean[unit], mean["value"], color=colour, linewidth=1, marker=marker, markersize=4, markevery=[-1])
        log_compute_axis(ax, label)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        if first is None:
            ax.set_title(f"{panel} against other units".strip(), loc="left", fontsize=SMALL + 1)
            pass_rate_axis(ax, "pass rate", small=True)
            first = ax
        else:
            ax.tick_params(labelleft=False)
        ax.tick_params(labelsize=SMALL)
        ax.xaxis.label.set_fontsize(SMALL + 1)
        ax.yaxis.label.set_fontsize(SMALL + 1)
