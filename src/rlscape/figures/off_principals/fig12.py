"""P2, Figure 12: Jaccard index of the update masks of five runs, pair by pair, one layer.

Paper: layer 13, next to nothing but the values. Here: the middle layer; below each, what independent masks of the
same densities would have, and masks permuted within magnitude bins.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from rlscape.catalogue import ARMS
from rlscape.catalogue.grids import FOOTPRINT
from rlscape.figures.style import add_note, new_figure
from rlscape.figures.weights import KIND_STYLES
from rlscape.results import pairs
from rlscape.settings.scale import Config

ROWS = {"jaccard": "measured", "jaccard_chance": "independent", "jaccard_binned": "permuted within\nmagnitude bins"}


def assemble(config: Config) -> pd.DataFrame:
    """A row per kind of matrix and pair of runs, in both orders: jaccard, jaccard_chance, jaccard_binned."""
    frame = pairs.footprint(config, FOOTPRINT)
    layer = pairs.middle_layer(frame)
    frame = pairs.both_ways(frame[frame["layer"] == layer])
    return frame[["layer", "kind", "arm_a", "arm_b", *ROWS]].assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Rows: measured and the two baselines. Columns: kinds of matrix. One colour scale."""
    arms = [arm for arm in FOOTPRINT if arm in set(frame["arm_a"])]
    limits = frame[list(ROWS)].min().min(), frame[list(ROWS)].max().max()
    figure = new_figure(14, 6.4)
    grid = figure.subplots(len(ROWS), len(KIND_STYLES))
    for row, quantity in zip(grid, ROWS, strict=True):
        for ax, kind in zip(row, KIND_STYLES, strict=True):
            image = _draw_pairs(ax, frame[frame["kind"] == kind], quantity, arms, limits)
    for ax, kind in zip(grid[0], KIND_STYLES, strict=True):
        ax.set_title(kind)
    for ax, label in zip(grid[:, 0], ROWS.values(), strict=True):
        ax.set_yticks(range(len(arms)), [ARMS[arm].label.partition(",")[0] for arm in arms], fontsize=7)
        ax.set_ylabel(label)
    figure.colorbar(image, ax=grid, label="Jaccard index", shrink=0.6)
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        f"layer {frame['layer'].iloc[0]}; {len(arms)} runs of one base on disjoint data, one seed each",
        "columns in the order of the rows; below each matrix the mean of its pairs",
        "paper (means of its pairs, Table 2): .55–.60 against .37–.47 for independent masks",
    )
    return figure


def _draw_pairs(
    ax: Axes, frame: pd.DataFrame, quantity: str, arms: list[str], limits: tuple[float, float]
) -> AxesImage:
    values = frame.pivot(index="arm_a", columns="arm_b", values=quantity).reindex(index=arms, columns=arms)
    image = ax.imshow(values, cmap="viridis", vmin=limits[0], vmax=limits[1])
    middle = np.mean(limits)
    for (row, column), value in np.ndenumerate(values):
        if row != column:
            colour = "black" if value > middle else "white"
            ax.text(column, row, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=6.5, color=colour)
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(f"mean {frame[quantity].mean():.3f}", fontsize=8)
    return image
