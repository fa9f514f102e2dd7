"""Row and column densities of the update mask over training, as Figures 3 and 14 of P2 show them."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import base_of, scratch_base
from rlscape.figures.style import BLUE, GREY, INDIGO, SKY, add_note, describe_seeds, new_figure
from rlscape.results import bias
from rlscape.results.pairs import middle_layer
from rlscape.settings.scale import Config

ARM = "rlvr_long"
TIMES = (240 / 1280, 720 / 1280, 1200 / 1280)
"""Paper: after 240, 720 and 1,200 updates (steps 60, 180 and 300) of a run of 320 steps, hence 1,280 updates.
Here: the snapshots nearest to these shares of the run; two may fall together."""
WINDOW = 3
"""Entries over which the curves are smoothed, as in the paper; the CSV is not."""
COLOURS = (SKY, BLUE, INDIGO)
SYMBOLS = {"row": r"row density $\rho_i$", "column": r"column density $\kappa_j$"}
HEADS = {("q", "row"), ("o", "column")}
"""Axes that run over the heads."""


def assemble_profiles(config: Config, shown: Mapping[str, str]) -> pd.DataFrame:
    """A row per kind, step and index of the middle layer of every seed.

    Args:
        shown: kind of matrix -> axis.

    Columns: arm, seed, tensor, layer, kind, axis, step, last_step, index, share, share_by_magnitude, head_dim, and
    of the whole run, over all layers, stability and stability_new (see :func:`rlscape.results.bias.rank_stability`).
    """
    profiles = bias.profiles(config, [ARM])
    stability = bias.rank_stability(profiles, dict(shown)).groupby(["seed", "kind"])[["share", "new"]].mean()
    middle = middle_layer(profiles)
    last = int(profiles["step"].max())
    saved = sorted(profiles["step"].unique())
    steps = {min(saved, key=lambda step: abs(step - time * last)) for time in TIMES}
    frames = []
    for kind, axis in shown.items():
        rows = profiles[profiles["layer"].eq(middle) & profiles["step"].isin(steps)]
        rows = rows[(rows["kind"] == kind) & (rows["axis"] == axis)]
        of_seed = stability.xs(kind, level="kind")
        frames.append(
            rows.assign(stability=rows["seed"].map(of_seed["share"]), stability_new=rows["seed"].map(of_seed["new"]))
        )
    columns = ["arm", "seed", "tensor", "layer", "kind", "axis", "step", "index", "share", "share_by_magnitude"]
    columns += ["stability", "stability_new"]
    head_dim = scratch_base(config, base_of(config, ARM)).model.head_dim
    frame = pd.concat(frames, ignore_index=True)[columns]
    return frame.assign(last_step=last, head_dim=head_dim, scale=config.scale)


def draw_profiles(frame: pd.DataFrame, claim: str) -> Figure:
    """A panel per kind: the first seed, smoothed; dotted, what the magnitudes of the base's weights alone predict.

    Args:
        claim: the paper's, for the note.
    """
    panels = list(dict.fromkeys(zip(frame["kind"], frame["axis"], strict=True)))
    figure = new_figure(11, 3.8)
    seeds = sorted(frame["seed"].unique())
    for ax, (kind, axis) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        _draw_panel(ax, frame[(frame["kind"] == kind) & (frame["axis"] == axis)], kind, axis)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds([len(seeds)]) + (f", shown: seed {seeds[0]}" if len(seeds) > 1 else ""),
        "rank correlations: first and last snapshot, mean over layers and seeds",
        f"{WINDOW}-point smoothing",
        f"paper: {claim} (no numbers printed)",
    )
    return figure


def _draw_panel(ax: Axes, frame: pd.DataFrame, kind: str, axis: str) -> None:
    stability = frame.groupby("seed")[["stability", "stability_new"]].first().mean()
    shown = frame[frame["seed"] == frame["seed"].min()]
    last = int(frame["last_step"].iloc[0])
    for colour, (step, rows) in zip(COLOURS, shown.groupby("step"), strict=False):
        rows = rows.sort_values("index")
        smooth = rows[["share", "share_by_magnitude"]].rolling(WINDOW, center=True, min_periods=1).mean()
        ax.plot(rows["index"], smooth["share"], color=colour, linewidth=1, label=f"step {step} of {last}")
        label = "from magnitudes alone" if step == shown["step"].max() else None
        ax.plot(rows["index"], smooth["share_by_magnitude"], color=colour, linestyle=":", linewidth=1, label=label)
    if (kind, axis) in HEADS:
        for border in range(0, int(shown["index"].max()) + 2, int(shown["head_dim"].iloc[0])):
            ax.axvline(border - 0.5, color=GREY, linewidth=0.6, linestyle="--", zorder=0)
    ax.set(xlabel=f"{axis}{', dashed: heads' if (kind, axis) in HEADS else ''}", ylabel=SYMBOLS[axis])
    ax.set_ylim(0, 1)
    layer = int(frame["layer"].iloc[0])
    ax.set_title(f"{kind.upper()}, layer {layer}", loc="left")
    ax.set_title(
        f"first to last: {stability['stability']:.2f}; new changes beyond magnitude: {stability['stability_new']:.2f}",
        loc="right",
        fontsize=8,
    )
