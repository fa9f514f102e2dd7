"""P2, Figure 6: overlap of a run's update with that of a repeat, and of a run from a changed base, layer by layer.

Paper: one run each on Qwen3-4B-Base; layer 20 rotated and permuted, layer 25 rotated. Here: layers at the same
depths, all pairs of runs with different seeds, so that either comparison is across data orders; matrices apart by
what the change reaches. Whether the overlap is lost or only moved is :mod:`control_gauge`'s question.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.figures.style import ARM_STYLES, GREY, INK, add_note, describe_seeds, new_figure, whole_numbers_axis
from rlscape.results import pairs
from rlscape.settings.scale import Config

REFERENCE = "rlvr"
COMPARED = {"rlvr": "repeat, same base", "rlvr_intervened": "run from the changed base"}
PARTS = {"value, output": ("v", "o"), "query, key": ("q", "k"), "MLP": ("gate", "up", "down")}


def assemble(config: Config) -> pd.DataFrame:
    """A row per compared arm, part of the layer, seed (of the compared run) and layer: overlap, chance, binned null.

    Values are means over the reference's seeds.
    """
    measured = pairs.pairs(config, "intervened")
    measured = measured[measured["view"] == "stored"]
    frames = []
    for arm in COMPARED:
        chosen = pairs.against(measured, REFERENCE, arm)
        if chosen.empty:  # one seed has no repeat
            continue
        for part, kinds in PARTS.items():
            pooled = pairs.pooled_overlap(chosen[chosen["kind"].isin(kinds)], ["seed_a", "seed_b", "layer"])
            by_seed = pooled.groupby(["seed_b", "layer"]).mean().drop(columns="seed_a").reset_index()
            edits = chosen[chosen["kind"].isin(kinds)].groupby("layer")["edit"].first()
            frames.append(by_seed.assign(arm=arm, part=part, edit=by_seed["layer"].map(edits)))
    frame = pd.concat(frames, ignore_index=True).rename(columns={"seed_b": "seed"})
    return frame.astype({"seed": int, "layer": int}).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per part of the layer; lines are means over seeds, bands their range."""
    figure = new_figure(12, 4.2)
    grid = figure.subplots(1, len(PARTS), sharey=True)
    for ax, part in zip(grid, PARTS, strict=True):
        _draw_part(ax, frame[frame["part"] == part])
        ax.set(title=part, xlabel="layer")
    grid[0].set_ylabel("share of the run's changed entries\nthat the reference changed too")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        "reference: other seeds of RLVR; mean and range over seeds",
        "random and null: of the runs from the changed base",
        "shaded: layers whose matrices of this panel were changed",
        "paper (no numbers): random in the changed layers, high elsewhere",
    )
    return figure


def _draw_part(ax: Axes, frame: pd.DataFrame) -> None:
    for layer in frame.loc[frame["edit"] != "none", "layer"].unique():
        ax.axvspan(layer - 0.4, layer + 0.4, color=GREY, alpha=0.2, linewidth=0)
    for arm, label in COMPARED.items():
        rows = frame[frame["arm"] == arm]
        colour, marker = ARM_STYLES[arm]
        summary = rows.groupby("layer")["value"].agg(["mean", "min", "max"])
        layers = summary.index.astype(int)
        ax.plot(layers, summary["mean"], color=colour, marker=marker, markersize=4, label=label)
        ax.fill_between(layers, summary["min"], summary["max"], color=colour, alpha=0.2, linewidth=0)
    nulls = frame[frame["arm"] == frame["arm"].iloc[-1]].groupby("layer").mean(numeric_only=True)
    layers = nulls.index.astype(int)
    ax.plot(layers, nulls["chance"], color=GREY, linewidth=1, label="random (density of the reference)")
    ax.plot(layers, nulls["binned"], color=INK, linestyle=":", label="permuted within magnitude bins, 95% range")
    ax.fill_between(layers, nulls["binned_low"], nulls["binned_high"], color=INK, alpha=0.15, linewidth=0)
    whole_numbers_axis(ax)
