"""P2, Figure 5: overlap of the RL update with principal and low-magnitude weights, layer by layer.

Paper: against a random mask only. Here: also against the nulls of :mod:`rlscape.geometry.nulls`; bf16
hides small changes of large weights from any update, so chance is not the value to beat.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.style import ARM_STYLES, add_note, describe_seeds, new_figure, whole_numbers_axis
from rlscape.figures.weights import CHANCE_COLOUR, MASKS, NULL_STYLES
from rlscape.results import weights
from rlscape.settings.scale import Config

ARM = "rlvr"


def assemble(config: Config) -> pd.DataFrame:
    """A row per mask, seed and layer: the overlap, chance, and each null with its 95% range."""
    matrices = weights.matrices(config, [ARM])
    frames = [weights.pooled_overlaps(matrices, mask, ["seed", "layer"]).assign(mask=mask) for mask in MASKS]
    return pd.concat(frames, ignore_index=True).assign(arm=ARM, scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per mask; seeds as thin lines, their mean as the thick one."""
    figure = new_figure(11, 4.0)
    grid = figure.subplots(1, len(MASKS))
    for ax, (mask, label) in zip(grid, MASKS.items(), strict=True):
        _draw_mask(ax, frame[frame["mask"] == mask])
        ax.set(title=label, xlabel="layer")
    grid[0].set_ylabel("share of the changed entries")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds([frame["seed"].nunique()]),
        "bands: 95% range of one draw of a null",
        "paper: below, above and furthest below random (no numbers printed)",
    )
    return figure


def _draw_mask(ax: Axes, frame: pd.DataFrame) -> None:
    means = frame.groupby("layer").mean(numeric_only=True)
    layers = means.index.astype(int)
    ax.plot(layers, means["chance"], color=CHANCE_COLOUR, linewidth=1, label="chance")
    for null, (label, colour, dashes) in NULL_STYLES.items():
        ax.plot(layers, means[null], color=colour, linestyle=dashes, label=label)
        ax.fill_between(layers, means[f"{null}_low"], means[f"{null}_high"], color=colour, alpha=0.15, linewidth=0)
    colour, marker = ARM_STYLES[ARM]
    for _, seed in frame.groupby("seed"):
        ax.plot(seed["layer"].astype(int), seed["value"], color=colour, linewidth=0.7, alpha=0.4)
    ax.plot(layers, means["value"], color=colour, marker=marker, markersize=4, label=ARMS[ARM].label)
    whole_numbers_axis(ax)
