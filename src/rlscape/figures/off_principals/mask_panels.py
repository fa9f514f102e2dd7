"""What Figures 1 and 13 of P2 share: the entries of one matrix that changed, which of them are principal, and nulls."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from rlscape.catalogue import first_run
from rlscape.figures.style import BLUE, RED
from rlscape.figures.weights import NULL_STYLES
from rlscape.paths import results_dir
from rlscape.results.files import require
from rlscape.settings.scale import Config

CATEGORIES = {
    "unchanged": "white",
    "principal, unchanged": "#d9d9d9",
    "updated": BLUE,
    "updated and principal": RED,
}
LARGEST_MASK = 256
"""Larger matrices are shown by their upper left corner of this many rows and columns."""


def assemble_mask(config: Config, arm: str, tensor: str, matrices: pd.DataFrame) -> pd.DataFrame:
    """Rows of kind overlap (seed, quantity, value) and, for the first seed, of kind mask (row, column, category).

    Args:
        matrices: as :func:`rlscape.results.weights.matrices` returns them.
    """
    from rlscape.geometry.measure import load_mask  # imports torch

    quantities = {"overlap": "overlap_principal", "chance": "overlap_principal_chance", "sparsity": "sparsity"}
    quantities |= {null: f"overlap_principal_{null}" for null in NULL_STYLES}
    shown = matrices[(matrices["arm"] == arm) & (matrices["tensor"] == tensor)]
    overlaps = pd.concat(
        pd.DataFrame({"seed": shown["seed"], "quantity": quantity, "value": shown[column]})
        for quantity, column in quantities.items()
    )
    npz = require(results_dir(config) / "geometry" / first_run(config, arm) / "masks.npz")
    update = load_mask(npz, tensor, "update")[:LARGEST_MASK, :LARGEST_MASK]
    principal = load_mask(npz, tensor, "principal")[:LARGEST_MASK, :LARGEST_MASK]
    row, column = np.indices(update.shape).reshape(2, -1)
    category = (principal + 2 * update.astype(int)).ravel()
    mask = pd.DataFrame({"seed": config.first_seed, "row": row, "column": column, "category": category})
    return pd.concat([overlaps.assign(kind="overlap"), mask.assign(kind="mask")], ignore_index=True).assign(arm=arm)


def draw_mask(ax: Axes, frame: pd.DataFrame, title: str) -> None:
    """The rows of one arm; overlaps, chance and nulls of the whole matrix, means over seeds, are below the picture."""
    mask = frame[frame["kind"] == "mask"].astype({"row": int, "column": int, "category": int})
    image = mask.pivot(index="row", columns="column", values="category").to_numpy()
    colours = ListedColormap(list(CATEGORIES.values()))
    ax.imshow(image, cmap=colours, vmin=0, vmax=3, interpolation="none", rasterized=True)
    ax.set(title=title, xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    overlaps = frame[frame["kind"] == "overlap"].groupby("quantity")["value"].mean()
    nulls = "\n".join(f"null, {label}: {overlaps[null]:.3f}" for null, (label, _, _) in NULL_STYLES.items())
    ax.set_xlabel(
        f"updated: {1 - overlaps['sparsity']:.0%} of entries\n"
        f"of these principal: {overlaps['overlap']:.3f} (chance {overlaps['chance']:.3f})\n" + nulls,
        fontsize=8,
    )


def describe_mask_seed(frame: pd.DataFrame) -> str:
    """For a figure's note: whose masks its rows of kind mask show."""
    return f"masks: seed {frame.loc[frame['kind'] == 'mask', 'seed'].iloc[0]:.0f}"


def add_mask_legend(figure: Figure | SubFigure) -> None:
    """What the colours mean."""
    handles = [Patch(facecolor=colour, edgecolor="#888888", label=label) for label, colour in CATEGORIES.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(CATEGORIES))
