"""Control: does "off the principals" depend on the mask's rank and density, and on masks rather than subspaces?

Paper: masks of entries of one rank and density, which it does not state. Here: a grid of both, less what the
magnitudes of the same weights predict, and the energy of the same updates in the subspaces of the same ranks. The two
can disagree in sign: an entry mask knows nothing of directions.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.style import BLUE, GREEN, GREY, RED, add_note, describe_seeds, name_log_ticks, new_figure
from rlscape.results import bias
from rlscape.settings.scale import Config

METHODS = ("rlvr", "sft")
SHARES: dict[str, str] = {
    "overlap": "changed in bf16",
    "largest": r"largest $|\Delta W|$, as many",
    "energy": "fp32 energy",
}
SUBSPACES: dict[str, tuple[str, str]] = {
    "left": ("$U_k$", BLUE),
    "right": ("$V_k$", GREEN),
    "both": ("both", RED),
}

MARGIN = 1.4
"""Of the colour scale beyond the largest value, so that no cell is too dark for its number."""


def assemble(config: Config) -> pd.DataFrame:
    """A row per arm, operator, rank fraction and (masks) density: means over matrices, then over seeds.

    principal, low: ``<share>`` over chance, ``<share>_excess`` that less the magnitude-binned null's, for each of
    :data:`SHARES`; left, right, both: ``energy`` over chance with its range over seeds, energy_low and energy_high.
    """
    table = bias.operators(config, METHODS)
    values = table[["arm", "seed", "operator", "rank_fraction", "alpha"]].copy()
    for share in SHARES:
        values[share] = table[share] / table["chance"]
        values[f"{share}_excess"] = (table[share] - table[f"{share}_binned"]) / table["chance"]
    cell = ["arm", "operator", "rank_fraction", "alpha"]
    runs = values.groupby([*cell, "seed"], dropna=False, sort=False).mean().reset_index()
    cells = runs.groupby(cell, dropna=False, sort=False)
    frame = cells.mean().drop(columns="seed")
    frame["energy_low"], frame["energy_high"] = cells["energy"].min(), cells["energy"].max()
    return frame.assign(seeds=cells["seed"].nunique(), scale=config.scale).reset_index()


def draw(frame: pd.DataFrame) -> Figure:
    """Rows: RL, SFT. Three heat maps of the principal masks, then the subspaces."""
    figure = new_figure(13, 6)
    grid = figure.subplots(len(METHODS), len(SHARES) + 1)
    masks = frame[frame["operator"] == "principal"]
    excess = masks[[f"{share}_excess" for share in SHARES]]
    limit = max(MARGIN * float(np.nanmax(excess.abs().to_numpy(), initial=0.0)), 0.01)
    norm = TwoSlopeNorm(0, -limit, limit)
    for row, arm in zip(grid, METHODS, strict=True):
        of_arm = frame[frame["arm"] == arm]
        for ax, (share, label) in zip(row, SHARES.items(), strict=False):
            _draw_heat(ax, of_arm[of_arm["operator"] == "principal"], share, norm)
            ax.set_title(f"{ARMS[arm].label}: {label}", loc="left", fontsize=9)
        _draw_subspaces(row[-1], of_arm)
        row[-1].set_title(f"{ARMS[arm].label}: energy in subspaces", loc="left", fontsize=9)
    figure.colorbar(
        ScalarMappable(norm, "RdBu_r"), ax=grid[:, :-1], label="share in $M_\\mathrm{princ}$ / chance, less binned null"
    )
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame["seeds"].astype(int)),
        "means over matrices and seeds; in the cells: share / chance, nothing subtracted; right: range over seeds",
        "paper: one rank and density, not stated",
    )
    return figure


def _draw_heat(ax: Axes, cells: pd.DataFrame, share: str, norm: TwoSlopeNorm) -> None:
    heat, plain = (
        cells.pivot(index="rank_fraction", columns="alpha", values=name) for name in (f"{share}_excess", share)
    )
    ax.imshow(heat, cmap="RdBu_r", norm=norm, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(plain.to_numpy()):
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7)
    ax.set_xticks(range(len(heat.columns)), [f"{alpha:g}" for alpha in heat.columns])
    ax.set_yticks(range(len(heat.index)), [f"1/{1 / fraction:.0f}" for fraction in heat.index])
    ax.set(xlabel=r"mask density $\alpha$", ylabel="k / min(m, n)")


def _draw_subspaces(ax: Axes, frame: pd.DataFrame) -> None:
    for operator, (label, colour) in SUBSPACES.items():
        rows = frame[frame["operator"] == operator].sort_values("rank_fraction")
        ax.plot(rows["rank_fraction"], rows["energy"], color=colour, marker="o", markersize=4, label=label)
        ax.fill_between(
            rows["rank_fraction"], rows["energy_low"], rows["energy_high"], color=colour, alpha=0.15, linewidth=0
        )
    ax.axhline(1, color=GREY, linewidth=0.8)
    ax.set(xscale="log", yscale="log", xlabel="k / min(m, n)", ylabel="energy / chance")
    name_log_ticks(ax.yaxis)
    ax.set_xticks(rows["rank_fraction"], [f"1/{1 / fraction:.0f}" for fraction in rows["rank_fraction"]])
    ax.minorticks_off()
    ax.legend(loc="best")
