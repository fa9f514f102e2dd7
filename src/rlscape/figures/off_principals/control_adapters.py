"""Control for Figures 10 and 11: does PiSSA collapse earlier, or does it take larger steps at the same rate?

Paper: scaling, target matrices and dropout of the adapters are not stated. Here: adapters by learning rate and by the
size of their steps, with the start from the smallest singular components (MiLoRA), the start from random directions
with PiSSA's factor norms, and dropout, where the scale runs them.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rlscape.catalogue import ARMS
from rlscape.figures.adapters import KINDS
from rlscape.figures.style import INK, add_note, describe_seeds, new_figure, small_numbers_axis
from rlscape.results import restricted
from rlscape.results.restricted import COLLAPSE, COLLAPSE_DURATION, adapter_arms
from rlscape.settings.scale import Config

POSITIONS = {
    # column: label of the x axis
    "learning_rate": "learning rate",
    "step_size": "relative norm of the update per step, first evaluation",
}
QUANTITIES = {"pass_rate": "final validation pass rate", "fall": "sustained fall of the training pass rate"}
RANK_MARKERS = ("o", "s", "D")
"""From the smallest rank on."""
STAGGER = 1.06
"""Between kinds at one learning rate, so that they do not hide each other."""


def assemble(config: Config) -> pd.DataFrame:
    """A row per run, see :func:`rlscape.results.restricted.stability`, with adapter, rank and dropout."""
    frame = restricted.stability(config, adapter_arms(config))
    adapters = frame["arm"].map({arm: spec.adapter for arm, spec in ARMS.items()})
    return frame.assign(
        adapter=[adapter.kind for adapter in adapters],
        rank=[adapter.rank for adapter in adapters],
        dropout=[adapter.dropout for adapter in adapters],
        scale=config.scale,
    )


def draw(frame: pd.DataFrame) -> Figure:
    """Columns: learning rate, size of a step. Rows: final pass rate, how far training fell."""
    figure = new_figure(11, 6.6)
    grid = figure.subplots(len(QUANTITIES), len(POSITIONS), sharex="col", sharey="row")
    for row, (quantity, label) in zip(grid, QUANTITIES.items(), strict=True):
        for ax, position in zip(row, POSITIONS, strict=True):
            _draw_panel(ax, frame, position, quantity)
        row[0].set_ylabel(label)
    for ax, label in zip(grid[-1], POSITIONS.values(), strict=True):
        ax.axhline(COLLAPSE, color=INK, linewidth=0.8, linestyle=":")
        ax.set_xlabel(label)
    grid[-1, 0].annotate(
        "collapsed above", (0.02, COLLAPSE), xycoords=("axes fraction", "data"), fontsize=7, va="bottom"
    )
    figure.legend(handles=_legend(frame), loc="outside right center")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        "a point per run; lines: mean over ranks, no dropout",
        f"fall: share of the running peak that is missing for {COLLAPSE_DURATION:.0%} of the steps in a row",
        "not in the paper",
    )
    return figure


def _draw_panel(ax: Axes, frame: pd.DataFrame, position: str, quantity: str) -> None:
    ranks = sorted(frame["rank"].unique())
    for index, (kind, (_, colour)) in enumerate(KINDS.items()):
        of_kind = frame[frame["adapter"] == kind]
        shift = STAGGER**index if position == "learning_rate" else 1.0
        for (rank, dropout), rows in of_kind.groupby(["rank", "dropout"]):
            ax.plot(
                rows[position] * shift,
                rows[quantity],
                color=colour,
                marker=RANK_MARKERS[ranks.index(rank)],
                markerfacecolor="white" if dropout else colour,
                markersize=5,
                linestyle="",
            )
        if position == "learning_rate":
            mean = of_kind[of_kind["dropout"] == 0].groupby(position)[quantity].mean()
            ax.plot(mean.index * shift, mean, color=colour, linewidth=1)
    small_numbers_axis(ax)


def _legend(frame: pd.DataFrame) -> list[Line2D]:
    kinds = [KINDS[kind] for kind in KINDS if (frame["adapter"] == kind).any()]
    handles = [Line2D([], [], color=colour, label=label) for label, colour in kinds]
    for rank, marker in zip(sorted(frame["rank"].unique()), RANK_MARKERS, strict=False):
        handles.append(Line2D([], [], color=INK, marker=marker, linestyle="", label=f"rank {rank}"))
    if (frame["dropout"] > 0).any():
        label = f"dropout {frame['dropout'].max():g}"
        handles.append(Line2D([], [], color=INK, marker="o", markerfacecolor="white", linestyle="", label=label))
    return handles
