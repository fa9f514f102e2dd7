"""Tables drawn as figures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from rlscape.figures.style import INK


def draw_table(
    ax: Axes,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[float],
    colours: Sequence[str | None] | None = None,
    bold: Sequence[bool] | None = None,
    size: float = 8,
) -> None:
    """Fill an axes with a table of left-aligned text; the first row is the header.

    Args:
        widths: relative column widths.
        colours: of the first cell of every row; None is the usual ink.
        bold: which rows are set in bold.
    """
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(len(rows) + 1, 0))
    left = np.concatenate([[0], np.cumsum(widths)[:-1]]) / sum(widths)
    for x, text in zip(left, header, strict=True):
        ax.text(x, 0.5, text, fontsize=size, fontweight="bold", va="center")
    ax.axhline(1, color=INK, linewidth=0.8)
    for index, row in enumerate(rows):
        weight = "bold" if bold and bold[index] else "normal"
        for column, (x, text) in enumerate(zip(left, row, strict=True)):
            colour = colours[index] if colours and column == 0 else None
            ax.text(x, index + 1.5, text, fontsize=size, fontweight=weight, va="center", color=colour or INK)
    ax.axhline(len(rows) + 1, color=INK, linewidth=0.8)
