"""P2, Figure 1: the ways of RL and SFT through the loss, where their updates fall, and how far subspaces rotate.

Paper: 1a and 1b are cartoons; 1c shows one matrix of a Qwen3-8B pair, with rank, mask density and matrix not stated.
Here: 1a and 1b are measured (:mod:`rlscape.figures.off_principals.landscape_panels`); 1c shows the query projection of
the middle layer, every overlap beside chance and its nulls.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.off_principals.landscape_panels import (
    PANELS,
    assemble_landscape,
    describe_landscape,
    draw_landscape,
)
from rlscape.figures.off_principals.mask_panels import add_mask_legend, assemble_mask, describe_mask_seed, draw_mask
from rlscape.figures.style import ARM_STYLES, add_note, describe_seeds, new_figure
from rlscape.figures.weights import describe_learning_rates, learning_rates, shown_matrix
from rlscape.results import weights
from rlscape.settings.scale import Config

METHODS = ("rlvr", "sft")


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind mask (row, column, category), overlap (quantity, value), angle (index, side, value), grid and path.

    The last two are those of :func:`rlscape.figures.off_principals.landscape_panels.assemble_landscape`.
    """
    matrices, spectra = weights.matrices(config, METHODS), weights.spectra(config, METHODS)
    tensor = shown_matrix(matrices)
    frames = [assemble_mask(config, arm, tensor, matrices) for arm in METHODS]
    angles = spectra[(spectra["tensor"] == tensor) & spectra["angle_left"].notna()]
    for side in ("left", "right"):
        frames.append(angles[["arm", "seed", "index"]].assign(kind="angle", side=side, value=angles[f"angle_{side}"]))
    frame = pd.concat(frames, ignore_index=True).assign(scale=config.scale, tensor=tensor)
    frame["learning_rate"] = learning_rates(frame, config)
    # Said once, in the overlap rows: a mask has thousands of rows.
    frame.loc[frame["kind"] != "overlap", ["scale", "tensor", "learning_rate"]] = None
    frame = pd.concat([frame, assemble_landscape(config)], ignore_index=True)
    return frame.astype({name: "Int64" for name in ("row", "column", "category", "index", "step", "seed")})


def draw(frame: pd.DataFrame) -> Figure:
    """1a, 1b: the slice through both runs. 1c-left: masks. 1c-right: principal angles, mean and range over seeds."""
    figure = new_figure(11, 9.8)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.05), squeeze=False).flat
    for ax, quantity in zip(above.subplots(1, len(PANELS)), PANELS, strict=True):
        draw_landscape(ax, frame, quantity)
    axes = below.subplots(1, 3, width_ratios=(1, 1, 1.15))
    for ax, arm in zip(axes, METHODS, strict=False):
        draw_mask(ax, frame[frame["arm"] == arm], f"1c-left: {ARMS[arm].label}")
    add_mask_legend(below)
    _draw_angles(axes[2], frame[frame["kind"] == "angle"])
    overlaps = frame[frame["kind"] == "overlap"]
    add_note(
        figure,
        f"scale: {overlaps['scale'].iloc[0]}",
        describe_seeds(overlaps.groupby("arm")["seed"].nunique()),
        describe_learning_rates(overlaps),
        "overlaps: means over seeds; bands: range over seeds",
        f"{describe_mask_seed(frame)}, {overlaps['tensor'].iloc[0].removeprefix('model.').removesuffix('.weight')}",
        describe_landscape(frame),
        "paper: 1a, 1b cartoons; 1c without numbers (RL off the mask, SFT on it)",
    )
    return figure


def _draw_angles(ax: Axes, frame: pd.DataFrame) -> None:
    for (arm, side), rows in frame.groupby(["arm", "side"]):
        summary = rows.groupby("index")["value"].agg(["mean", "min", "max"])
        colour, _ = ARM_STYLES[arm]
        label = f"{ARMS[arm].label}, {'$U$' if side == 'left' else '$V$'}"
        ax.plot(
            summary.index,
            summary["mean"],
            color=colour,
            linestyle="-" if side == "left" else "--",
            label=label,
        )
        ax.fill_between(
            summary.index.astype(int), summary["min"], summary["max"], color=colour, alpha=0.15, linewidth=0
        )
    ax.set(
        title="1c-right: rotation of the top-$k$ subspaces",
        xlabel="index",
        ylabel="principal angle (degrees)",
    )
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper left")
