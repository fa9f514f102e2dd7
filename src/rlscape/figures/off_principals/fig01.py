"""P2, Figure 1c: where the updates of RL and SFT fall in one matrix, and how far its subspaces rotate.

Paper: one matrix of a Qwen3-8B pair; rank, mask density and matrix are not stated. Here: the query
projection of the middle layer; every overlap stands beside chance and its nulls.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rlscape.catalogue import ARMS, run_name
from rlscape.config import Config
from rlscape.figures.style import ARM_STYLES, BLUE, RED, add_note, describe_seeds, new_figure
from rlscape.figures.weights import NULL_STYLES, describe_learning_rates, learning_rates, shown_matrix
from rlscape.results import weights
from rlscape.results.files import require

METHODS = ("rlvr", "sft")
CATEGORIES = {
    "unchanged": "white",
    "principal, unchanged": "#d9d9d9",
    "updated": BLUE,
    "updated and principal": RED,
}
LARGEST_MASK = 256
"""Larger matrices are shown by their upper left corner of this many rows and columns."""


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind mask (row, column, category), overlap (quantity, value) and angle (index, side, value)."""
    from rlscape.geometry.measure import load_mask  # imports torch

    matrices, spectra = weights.matrices(config, METHODS), weights.spectra(config, METHODS)
    tensor = shown_matrix(matrices)
    frames = []
    for _, matrix in matrices[matrices["tensor"] == tensor].iterrows():
        quantities = {
            "overlap": "overlap_principal",
            "chance": "overlap_principal_chance",
            "sparsity": "sparsity",
        }
        quantities |= {null: f"overlap_principal_{null}" for null in NULL_STYLES}
        frames.append(
            pd.DataFrame(
                {
                    "kind": "overlap",
                    "arm": matrix["arm"],
                    "seed": matrix["seed"],
                    "quantity": list(quantities),
                    "value": [matrix[column] for column in quantities.values()],
                }
            )
        )
    for arm in METHODS:
        npz = require(config.results_dir / "geometry" / run_name(arm, 0) / "masks.npz")
        update, principal = (
            load_mask(npz, tensor, mask)[:LARGEST_MASK, :LARGEST_MASK]  # type: ignore[arg-type]
            for mask in ("update", "principal")
        )
        row, column = np.indices(update.shape).reshape(2, -1)
        category = (principal + 2 * update.astype(int)).ravel()
        frames.append(
            pd.DataFrame(
                {
                    "kind": "mask",
                    "arm": arm,
                    "seed": 0,
                    "row": row,
                    "column": column,
                    "category": category,
                }
            )
        )
    angles = spectra[(spectra["tensor"] == tensor) & spectra["angle_left"].notna()]
    for side in ("left", "right"):
        frames.append(angles[["arm", "seed", "index"]].assign(kind="angle", side=side, value=angles[f"angle_{side}"]))
    frame = pd.concat(frames, ignore_index=True).assign(scale=config.scale, tensor=tensor)
    frame["learning_rate"] = learning_rates(frame, config)
    # Said once, in the overlap rows: a mask has thousands of rows.
    frame.loc[frame["kind"] != "overlap", ["scale", "tensor", "learning_rate"]] = None
    return frame.astype({name: "Int64" for name in ("row", "column", "category", "index")})


def draw(frame: pd.DataFrame) -> Figure:
    """1c-left: the masks of seed 0. 1c-right: principal angles, mean and range over seeds."""
    figure = new_figure(11, 4.8)
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    for ax, arm in zip(axes, METHODS, strict=False):
        _draw_mask(ax, frame[frame["arm"] == arm], arm)
    handles = [Patch(facecolor=colour, edgecolor="#888888", label=label) for label, colour in CATEGORIES.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=4)
    _draw_angles(axes[2], frame[frame["kind"] == "angle"])
    seeds = frame.groupby("arm")["seed"].nunique()
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(seeds),
        describe_learning_rates(frame),
        f"masks: seed 0, {frame['tensor'].iloc[0].removeprefix('model.').removesuffix('.weight')}",
        "paper (no numbers): RL off the mask, SFT on it; RL rotates less",
    )
    return figure


def _draw_mask(ax: Axes, frame: pd.DataFrame, arm: str) -> None:
    mask = frame[frame["kind"] == "mask"].astype({"row": int, "column": int, "category": int})
    image = mask.pivot(index="row", columns="column", values="category").to_numpy()
    ax.imshow(image, cmap=ListedColormap(list(CATEGORIES.values())), vmin=0, vmax=3, interpolation="none")
    ax.set(title=f"1c-left: {ARMS[arm].label}", xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    overlaps = frame[frame["kind"] == "overlap"].groupby("quantity")["value"].mean()
    nulls = "\n".join(f"null, {label}: {overlaps[null]:.3f}" for null, (label, _, _) in NULL_STYLES.items())
    ax.set_xlabel(
        f"updated: {1 - overlaps['sparsity']:.0%} of entries\n"
        f"of these principal: {overlaps['overlap']:.3f} (chance {overlaps['chance']:.3f})\n" + nulls,
        fontsize=8,
    )


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
