"""Panels 1a and 1b of P2: a slice of the loss through two trained models, and the ways there.

Paper: cartoons of SFT crossing a mountain and RL taking a detour. Here: the plane of the final updates of one run
each (:mod:`rlscape.geometry.landscape`), and the runs' evaluations projected into it.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from rlscape.catalogue import ARMS
from rlscape.figures.style import ARM_STYLES, INK
from rlscape.results import loss
from rlscape.settings.scale import Config

RUNS = {"rl": "rlvr", "sft": "sft"}
"""Run in the measurement -> arm."""
PANELS = {
    "nll": "1a: NLL per token of reference traces",
    "reward": "1b: probability of the reference trace",
}
LEVELS = 12


def assemble_landscape(config: Config) -> pd.DataFrame:
    """Rows of kind grid (a, b, nll, reward) and path (arm, seed, step, a, b, norm, in_plane, cosine)."""
    table = loss.landscape(config)
    paths = table["kind"] == "path"
    table.loc[paths, "arm"] = table.loc[paths, "run"].map(RUNS)
    table.loc[paths, "seed"] = config.first_seed
    table.loc[~paths, "cosine"] = np.nan  # said once, in the paths
    return table.drop(columns="run")


def draw_landscape(ax: Axes, frame: pd.DataFrame, quantity: str) -> None:
    """Contours of ``nll`` (logarithmic) or ``reward`` over the plane, with both paths."""
    grid = frame[frame["kind"] == "grid"].pivot(index="b", columns="a", values=quantity)
    low, high = grid.min().min(), grid.max().max()
    logarithmic = quantity == "nll"
    levels = np.geomspace(low, high, LEVELS) if logarithmic else np.linspace(low, high, LEVELS)
    a, b, values = grid.columns.to_numpy(), grid.index.to_numpy(), grid.to_numpy()
    norm = LogNorm(low, high) if logarithmic else None
    filled = ax.contourf(a, b, values, levels=levels, norm=norm, cmap="Greys" if logarithmic else "Greys_r")
    ax.figure.colorbar(filled, ax=ax, format="%.3g", shrink=0.8)
    paths = frame[frame["kind"] == "path"].sort_values("step")
    for arm, rows in paths.groupby("arm"):
        colour, marker = ARM_STYLES[arm]
        label = f"{ARMS[arm].label}, $\\Vert\\Delta W\\Vert$ = {rows['norm'].iloc[-1]:.2g}"
        ax.plot(rows["a"], rows["b"], color=colour, marker=marker, markersize=4, markeredgecolor="white", label=label)
    ax.plot(0, 0, marker="D", color=INK, markersize=4)
    ax.set(xlabel=f"share of the update of {ARMS['sft'].label}", ylabel=f"share of the update of {ARMS['rlvr'].label}")
    ax.set_title(PANELS[quantity])
    ax.legend(loc="upper right", frameon=True, framealpha=0.9)


def describe_landscape(frame: pd.DataFrame) -> str:
    """For the figure's note: the angle between the updates, and how much of the paths the plane shows."""
    paths = frame[frame["kind"] == "path"]
    shares = ", ".join(
        f"{rows['in_plane'].min():.0%} ({ARMS[arm].label})"
        for arm, rows in paths.dropna(subset="in_plane").groupby("arm")
    )
    return (
        f"1a, 1b: seed {paths['seed'].iloc[0]:.0f}, updates at cosine {paths['cosine'].iloc[0]:.2f}, "
        f"squared norm in the plane at least {shares}"
    )
