"""P2, Figure 7: where the updates of two agents fall, beside the principal masks of the same matrices.

Paper: the output projection of layer 16 of agentflow-planner-7b, which has 28 layers, and the key projection of
layer 11 of SkyRL-Agent-WebResearch-8B, which has 36; no numbers. Here: the same projections at the same relative
depths of agents that plan and that search; every overlap stands beside chance and its nulls.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rlscape.catalogue import ARMS, first_run
from rlscape.figures.off_principals.mask_panels import describe_mask_seed
from rlscape.figures.style import INK, add_note, describe_seeds, new_figure
from rlscape.figures.weights import NULL_STYLES, describe_learning_rates, learning_rates
from rlscape.paths import results_dir
from rlscape.results import weights
from rlscape.results.files import require
from rlscape.settings.scale import Config


class Shown(NamedTuple):
    """A matrix."""

    kind: str
    depth: float
    """Layer over number of layers."""


SHOWN = {"agent_planning": Shown("o", 16 / 28), "agent_search": Shown("k", 11 / 36)}
COLUMNS = {"update": "update mask", "principal": r"$M_\mathrm{princ}$"}
LEGEND = {"black": "changed in bf16 (left), principal (right)", "white": "not"}
LARGEST_MASK = 256
"""Larger matrices are shown by their upper left corner of this many rows and columns."""


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind mask (a matrix row each: which of its entries are in it, first seed) and overlap (of every seed)."""
    from rlscape.geometry.measure import load_mask  # imports torch

    blocks = weights.in_blocks(weights.matrices(config, SHOWN))
    frames = []
    for arm, shown in SHOWN.items():
        layers = np.unique(blocks.loc[blocks["arm"] == arm, "layer"])
        layer = layers[np.abs(layers - int(shown.depth * (layers.max() + 1))).argmin()]
        matrices = blocks[(blocks["arm"] == arm) & (blocks["layer"] == layer) & (blocks["kind"] == shown.kind)]
        quantities = {"overlap": "overlap_principal", "chance": "overlap_principal_chance", "sparsity": "sparsity"}
        quantities |= {null: f"overlap_principal_{null}" for null in NULL_STYLES}
        overlaps = matrices.rename(columns={column: name for name, column in quantities.items()})
        rows = [overlaps.melt(id_vars="seed", value_vars=list(quantities), var_name="quantity").assign(kind="overlap")]
        npz = require(results_dir(config) / "geometry" / first_run(config, arm) / "masks.npz")
        for name in COLUMNS:
            mask = load_mask(npz, matrices["tensor"].iloc[0], name)[:LARGEST_MASK, :LARGEST_MASK]  # type: ignore[arg-type]
            entries = [" ".join(map(str, row)) for row in mask.astype(int)]
            columns = {"seed": config.first_seed, "mask": name, "row": range(len(mask)), "entries": entries}
            rows.append(pd.DataFrame(columns).assign(kind="mask"))
        frames.append(pd.concat(rows, ignore_index=True).assign(arm=arm, layer=layer, matrix=shown.kind))
    frame = pd.concat(frames, ignore_index=True).assign(scale=config.scale).astype({"row": "Int64"})
    return frame.assign(learning_rate=learning_rates(frame, config))


def draw(frame: pd.DataFrame) -> Figure:
    """A row per agent: which entries its update changed, and which are principal; the overlap below."""
    figure = new_figure(9, 8.4)
    grid = figure.subplots(len(SHOWN), len(COLUMNS))
    entries = [Patch(facecolor=colour, edgecolor=INK, label=label) for colour, label in LEGEND.items()]
    figure.legend(handles=entries, loc="outside upper center", ncols=len(entries))
    for axes, arm in zip(grid, SHOWN, strict=True):
        rows = frame[frame["arm"] == arm]
        for ax, (name, label) in zip(axes, COLUMNS.items(), strict=True):
            _draw_mask(ax, rows[rows["mask"] == name])
            ax.set_title(f"{ARMS[arm].label}, layer {rows['layer'].iloc[0]} {rows['matrix'].iloc[0]}: {label}")
        value = rows[rows["kind"] == "overlap"].groupby("quantity")["value"].mean()
        axes[0].set_xlabel(
            f"updated: {1 - value['sparsity']:.0%} of entries\n"
            f"of these principal: {value['overlap']:.3f} (chance {value['chance']:.3f})",
            fontsize=8,
        )
        axes[1].set_xlabel(
            "\n".join(f"null, {label}: {value[null]:.3f}" for null, (label, _, _) in NULL_STYLES.items()), fontsize=8
        )
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        f"{describe_mask_seed(frame)}; overlaps: mean over seeds",
        describe_learning_rates(frame),
        "paper (no numbers): stripes outside the principal bands",
    )
    return figure


def _draw_mask(ax: Axes, frame: pd.DataFrame) -> None:
    image = np.array([row.split() for row in frame.sort_values("row")["entries"]], dtype=int)
    ax.imshow(image, cmap="Greys", vmin=0, vmax=1, interpolation="none", rasterized=True)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
