"""Control: every overlap with principal and small weights beside its nulls, in bf16 and in fp32, for RL and for SFT.

Paper: overlaps of RL against chance. Here: also against an isotropic update, and the update with its entries shuffled,
randomly rotated, or permuted among weights of equal magnitude; and the fp32 energy in the same masks, which rounding
cannot touch.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.style import ARM_STYLES, add_note, describe_seeds, new_figure
from rlscape.figures.weights import CHANCE_COLOUR, MASKS, NULL_STYLES
from rlscape.results import weights
from rlscape.settings.scale import Config

METHODS = ("rlvr", "sft")
PRECISIONS = {"bf16": "share of changed entries", "fp32": "energy / chance"}
NULL_OFFSET = 0.22
SEED_WIDTH = 0.3


def assemble(config: Config) -> pd.DataFrame:
    """A row per precision, mask, arm and seed: value, chance and each null's mean and 95% range.

    bf16: overlap pooled over the matrices in the blocks (:func:`rlscape.results.weights.pooled_overlaps`).
    fp32: mean energy enrichment over them; chance is 1, as under all nulls but the binned one, whose columns are
    empty; the binned null is analytic.
    """
    matrices = weights.matrices(config, METHODS)
    frames = []
    for mask in MASKS:
        overlaps = weights.pooled_overlaps(matrices, mask, ["arm", "seed"])
        frames.append(overlaps.assign(mask=mask, precision="bf16"))
        column = f"energy_enrichment_{mask}"
        names = {column: "value"} | {f"{column}_binned{end}": f"binned{end}" for end in ("", "_low", "_high")}
        energies = weights.in_blocks(matrices).groupby(["arm", "seed"], sort=False)[list(names)].mean()
        frames.append(energies.rename(columns=names).reset_index().assign(mask=mask, precision="fp32", chance=1.0))
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Rows: bf16, fp32. A column per mask; a dot per seed beside the nulls."""
    figure = new_figure(11, 6)
    grid = figure.subplots(len(PRECISIONS), len(MASKS))
    for row, (precision, label) in zip(grid, PRECISIONS.items(), strict=True):
        for ax, (mask, title) in zip(row, MASKS.items(), strict=True):
            _draw_panel(ax, frame[(frame["precision"] == precision) & (frame["mask"] == mask)])
            ax.set_title(f"{precision}: {title}", loc="left")
        row[0].set_ylabel(label)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        "a dot per seed; nulls with the 95% range of one draw; in fp32 the first three are at chance",
        "paper: RL below, above, below chance in bf16 (no numbers)",
    )
    return figure


def _draw_panel(ax: Axes, frame: pd.DataFrame) -> None:
    for place, arm in enumerate(METHODS):
        rows = frame[frame["arm"] == arm].sort_values("seed")
        colour, marker = ARM_STYLES[arm]
        spread = rows["seed"].rank() / (len(rows) + 1) - 0.5
        ax.plot(place + SEED_WIDTH * spread, rows["value"], color=colour, marker=marker, markersize=5, linestyle="")
        means = rows.mean(numeric_only=True)
        first = place == 0
        ends = (place - 0.4, place + 0.4)
        ax.plot(ends, [means["chance"]] * 2, color=CHANCE_COLOUR, linewidth=1, label="chance" if first else None)
        for offset, (null, (label, null_colour, dashes)) in enumerate(NULL_STYLES.items()):
            if pd.isna(means[null]):
                continue
            ax.plot(ends, [means[null]] * 2, color=null_colour, linestyle=dashes, label=label if first else None)
            middle = place + NULL_OFFSET * (offset - (len(NULL_STYLES) - 1) / 2)
            ax.vlines(middle, means[f"{null}_low"], means[f"{null}_high"], color=null_colour, linewidth=3, alpha=0.35)
    ax.set_xticks(range(len(METHODS)), [ARMS[arm].label for arm in METHODS])
    ax.set_xlim(-0.5, len(METHODS) - 0.5)
