"""Control: sparsity and overlaps against the learning rate, for RL and SFT on one axis, and against the size x.

At the end of runs, and against the size also along them, at every evaluation.

Paper: says that sparsity vanishes at larger learning rates, without numbers, and compares RL with SFT at rates that
differ or are not known. Here: both over the same range of rates, with what each run gained; x is the size of the
update in units of bf16 rounding, and the curve is the sparsity of an isotropic update of that size.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS, arms_of, figure_of
from rlscape.figures.style import ARM_STYLES, GREY, INK, add_note, describe_seeds, new_figure
from rlscape.figures.weights import MASKS, NULL_STYLES, LineStyle, learning_rates
from rlscape.results import curves, origin, weights
from rlscape.settings.scale import Config

TARGET = "off_principals_control_learning_rate"
METHODS = {"rl": "rlvr", "sft": "sft"}
"""Method -> the arm whose look it has."""
SHOWN_MASKS = ("principal", "low")


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind end, one per run: method, learning rate, gain, sparsity, x, isotropic sparsity; per mask overlap,
    chance, nulls. Of kind path, one per evaluation: method, step, sparsity, x.
    """
    arms = arms_of(config, figure_of(TARGET))
    frame = origin.sizes(config, arms).join(origin.gains(config, arms), on="run")
    matrices = weights.matrices(config, arms)
    for mask in SHOWN_MASKS:
        pooled = weights.pooled_overlaps(matrices, mask, ["run"]).set_index("run")
        names = {"value": mask, "chance": f"{mask}_chance"} | {null: f"{mask}_{null}" for null in NULL_STYLES}
        frame = frame.join(pooled[list(names)].rename(columns=names), on="run")
    frame = frame.assign(kind="end", learning_rate=learning_rates(frame, config))
    paths = curves.metrics(config, arms)[["run", "arm", "seed", "step", "sparsity", "x"]].assign(kind="path")
    frame = pd.concat([frame, paths[paths["x"] > 0]], ignore_index=True)
    return frame.assign(method=[ARMS[arm].method for arm in frame["arm"]], scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Left: sparsity against rate and against x. Right: both overlaps against the rate, beside chance and nulls."""
    figure = new_figure(11, 7.2)
    (by_rate, principal), (by_size, low) = figure.subplots(2, 2)
    paths = frame[frame["kind"] == "path"]
    frame = frame[frame["kind"] == "end"]
    _draw_rates(by_rate, frame, "sparsity")
    _draw_rates(by_rate, frame, "isotropic_sparsity", dashes=NULL_STYLES["isotropic"][2])
    by_rate.set(title="sparsity against the learning rate", ylabel="bf16 sparsity", ylim=(-0.06, 1))
    _draw_sizes(by_size, frame, paths)
    for ax, axis in ((by_rate, "learning_rate"), (by_size, "x")):
        _annotate_gains(ax, frame, axis)
    for ax, mask in zip((principal, low), SHOWN_MASKS, strict=True):
        _draw_rates(ax, frame, mask)
        for null, (_, _, dashes) in NULL_STYLES.items():
            _draw_rates(ax, frame, f"{mask}_{null}", dashes=dashes)
        ax.axhline(frame[f"{mask}_chance"].mean(), color=GREY, linewidth=0.8)
        ax.set(title=f"overlap with {MASKS[mask]}", ylabel="share of changed entries")
    for ax in (by_rate, principal, low):
        ax.set(xscale="log", xlabel="learning rate")
    handles = [
        by_rate.plot([], [], color=ARM_STYLES[arm][0], marker=ARM_STYLES[arm][1], label=ARMS[arm].label)[0]
        for arm in METHODS.values()
    ]
    for label, _, dashes in NULL_STYLES.values():
        handles += by_rate.plot([], [], color=INK, linestyle=dashes, label=label)
    handles += by_rate.plot([], [], color=GREY, linewidth=0.8, label="chance")
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        "a dot per seed, lines through means; numbers: mean gain in pass rate",
        "paper: no numbers for rates; Table 1: RL 36–92%, SFT 0.6–18.8% sparse",
    )
    return figure


def _draw_rates(ax: Axes, frame: pd.DataFrame, quantity: str, dashes: LineStyle | None = None) -> None:
    """A line through the means of each method's arms; without ``dashes``, also a dot per seed."""
    for method, arm in METHODS.items():
        rows = frame[frame["method"] == method]
        means = rows.groupby("learning_rate")[quantity].mean()
        colour, marker = ARM_STYLES[arm]
        ax.plot(means.index, means, color=colour, linestyle=dashes or "-", linewidth=1)
        if dashes is None:
            ax.plot(rows["learning_rate"], rows[quantity], color=colour, marker=marker, markersize=5, linestyle="")


def _draw_sizes(ax: Axes, frame: pd.DataFrame, paths: pd.DataFrame) -> None:
    """A dot where a run ends, a small one at each evaluation before, on the curve of isotropic updates."""
    sizes = pd.concat([frame["x"], paths["x"]])
    curve = np.geomspace(sizes.min() / 2, sizes.max() * 2, 200)
    ax.plot(curve, 1 - 2 / np.pi * np.arctan(curve), color=INK, linestyle=NULL_STYLES["isotropic"][2], linewidth=1)
    for method, arm in METHODS.items():
        colour, marker = ARM_STYLES[arm]
        for rows, size in ((paths, 2), (frame, 5)):
            shown = rows[rows["method"] == method]
            ax.plot(shown["x"], shown["sparsity"], color=colour, marker=marker, markersize=size, linestyle="")
    ax.set(title="sparsity against size (small: along runs)", xlabel="size x", xscale="log")
    ax.set(ylabel="bf16 sparsity", ylim=(-0.06, 1))


def _annotate_gains(ax: Axes, frame: pd.DataFrame, axis: str) -> None:
    """Above each arm's mean; below it for SFT, whose points may lie on those of RL."""
    for (_, method), rows in frame.groupby(["arm", "method"], sort=False):
        means = rows[[axis, "sparsity", "gain"]].mean()
        offset = (3, 4) if method == "rl" else (-22, -10)
        colour, _ = ARM_STYLES[METHODS[method]]
        place = means[axis], means["sparsity"]
        ax.annotate(f"{means['gain']:+.2f}", place, offset, textcoords="offset points", fontsize=6.5, color=colour)
