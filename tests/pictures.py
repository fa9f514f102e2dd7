"""What a drawn figure says, and what makes it hard to read."""

from itertools import pairwise

from matplotlib.axis import Axis
from matplotlib.figure import Figure

TOLERANCE = 0.5
"""Pixels that labels may share."""


def legend_entries(figure: Figure) -> list[str]:
    """Every entry of every legend."""
    legends = [*figure.legends, *(legend for ax in figure.axes if (legend := ax.get_legend()))]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def note(figure: Figure) -> str:
    """What stands under a figure."""
    return figure.texts[-1].get_text()


def crowded_axes(figure: Figure) -> list[str]:
    """The axes whose tick labels run into each other: title of the panel and name of the axis."""
    figure.draw_without_rendering()
    return [
        f"{ax.get_title(loc='left')}: {axis.axis_name}"
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        if is_crowded(axis)
    ]


def is_crowded(axis: Axis) -> bool:
    """Whether labels of an axis, major or minor, overlap; those outside of its limits are not drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if low <= tick.get_loc() <= high]
    labels = [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]
    side = 0 if axis.axis_name == "x" else 1
    extents = sorted(tuple(label.get_window_extent().get_points()[:, side]) for label in labels)
    return any(second[0] < first[1] - TOLERANCE for first, second in pairwise(extents))


def legends_on_lines(figure: Figure) -> list[str]:
    """The panels, by title, where a line runs through the legend."""
    figure.draw_without_rendering()
    found = []
    for ax in figure.axes:
        if legend := ax.get_legend():
            box = legend.get_window_extent()
            paths = [line.get_transform().transform_path(line.get_path()) for line in ax.lines if len(line.get_xdata())]
            if any(path.intersects_bbox(box, filled=False) for path in paths):
                found.append(ax.get_title(loc="left"))
    return found
