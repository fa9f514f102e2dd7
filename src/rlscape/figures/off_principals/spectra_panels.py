"""Spectra and principal subspaces before and after fine-tuning: what Figures 4, 8, 16, 17 and 18 of P2 share.

Paper: a single layer and all layers, each for a pair of checkpoints; rank and layer mostly not stated. Here: the
middle layer, and the larger of the left and right angles; every pair is a run's model and the model it started from.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.style import GREY, add_note, describe_seeds, new_figure, whole_numbers_axis
from rlscape.figures.weights import KIND_STYLES, describe_learning_rates, learning_rates, shown_matrix
from rlscape.results import weights
from rlscape.settings.scale import Config


def assemble_spectra(config: Config, arms: Sequence[str]) -> pd.DataFrame:
    """Rows of kind angle, singular_before, singular_after (one layer), max_angle and nss (all layers)."""
    matrices, spectra = weights.matrices(config, arms), weights.spectra(config, arms)
    layer = matrices.loc[matrices["tensor"] == shown_matrix(matrices), "layer"].iloc[0]
    blocks = weights.in_blocks(matrices)
    one_layer = spectra[spectra["layer"] == layer].rename(columns={"kind": "matrix"})
    identity = ["arm", "seed", "layer", "matrix", "index"]
    angles = one_layer.assign(value=one_layer[["angle_left", "angle_right"]].max(axis=1)).dropna(subset="value")
    by_layer = blocks.rename(columns={"kind": "matrix"})
    frames = [angles[[*identity, "value"]].assign(kind="angle")]
    frames += [
        one_layer[identity].assign(kind=f"singular_{when}", value=one_layer[f"singular_{when}"])
        for when in ("before", "after")
    ]
    frames += [
        by_layer[identity[:-1]].assign(kind=kind, value=value) for kind, value in by_layer[["max_angle", "nss"]].items()
    ]
    frame = pd.concat(frames, ignore_index=True).assign(scale=config.scale)
    return frame.assign(learning_rate=learning_rates(frame, config))


def draw_spectra(frame: pd.DataFrame, arms: Sequence[str], paper: str, zoomed: str | None = None) -> Figure:
    """A row per arm; columns: angles and singular values of the middle layer, then all layers.

    Args:
        paper: what the paper shows, for the note.
        zoomed: an arm with changes so small that a last row shows them again, on axes of its own, with the change of
            singular values.
    """
    figure = new_figure(12, 1.2 + 2.2 * (len(arms) + (zoomed is not None)))
    panels = figure.subplots(len(arms) + (zoomed is not None), 4, squeeze=False)
    grid = panels[: len(arms)]
    for column in grid.T:
        for ax in column[1:]:
            ax.sharey(column[0])
    layer = int(frame.loc[frame["kind"] == "angle", "layer"].iloc[0])
    titles = (
        f"layer {layer}: principal angles",
        f"layer {layer}: singular values",
        "largest angle",
        "spectral shift",
    )
    for row, arm in zip(grid, arms, strict=True):
        rows = frame[frame["arm"] == arm]
        _draw_changes(row, rows)
        _draw_values(row[1], rows)
        row[0].set_ylabel(f"{ARMS[arm].label}\n\nangle (degrees)")
        row[1].set_ylabel("singular value")
    if zoomed is not None:
        rows = frame[frame["arm"] == zoomed]
        _draw_changes(panels[-1], rows)
        _draw_change_of_values(panels[-1, 1], rows)
        panels[-1, 0].set_ylabel(f"{ARMS[zoomed].label}, zoomed\n\nangle (degrees)")
        panels[-1, 1].set_ylabel("singular value, after – before")
    for ax, title in zip(grid[0], titles, strict=True):
        ax.set_title(title, loc="left")
    grid[0, 1].text(
        0.97,
        0.97,
        "grey: before\ndashed: after",
        transform=grid[0, 1].transAxes,
        ha="right",
        va="top",
        fontsize=8,
    )
    for ax, label in zip(panels[-1], ("index", "index", "layer", "layer"), strict=True):
        ax.set_xlabel(label)
    for ax in (*grid.flat, *panels[len(arms) :, [0, 2, 3]].flat):
        ax.set_ylim(bottom=0)
    figure.legend(handles=grid[0, 2].get_legend_handles_labels()[0], loc="outside right center", title="matrix")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        describe_learning_rates(frame),
        "mean and range over seeds (singular values: mean); the larger of the left and right angle",
        "printed means: over seeds, layers and matrices",
        "last row: the row above on its own axes" if zoomed else "",
        f"paper: {paper} (no numbers printed)",
    )
    return figure


def _draw_changes(row: Sequence[Axes], rows: pd.DataFrame) -> None:
    """Angles of the middle layer, largest angles and spectral shifts of all layers: columns 1, 3 and 4."""
    _draw_lines(row[0], rows[rows["kind"] == "angle"], "index")
    _draw_lines(row[2], rows[rows["kind"] == "max_angle"], "layer", markers=True)
    _draw_lines(row[3], rows[rows["kind"] == "nss"], "layer", markers=True)
    row[2].set_ylabel("largest angle (degrees)")
    row[3].set_ylabel("NSS")


def _draw_lines(ax: Axes, frame: pd.DataFrame, x: str, markers: bool = False) -> None:
    for matrix, (colour, marker) in KIND_STYLES.items():
        summary = frame[frame["matrix"] == matrix].groupby(x)["value"].agg(["mean", "min", "max"])
        positions = summary.index.astype(int)
        ax.plot(
            positions,
            summary["mean"],
            color=colour,
            marker=marker if markers else "",
            markersize=4,
            label=matrix,
        )
        ax.fill_between(positions, summary["min"], summary["max"], color=colour, alpha=0.15, linewidth=0)
    if markers:
        ax.set_title(f"mean {frame['value'].mean():.3g}", loc="right", fontsize=8)
        whole_numbers_axis(ax)


def _values(frame: pd.DataFrame, matrix: str) -> tuple[pd.Series, pd.Series]:
    """Singular values of a kind of matrix by index, mean over seeds, before and after."""
    rows = frame[frame["matrix"] == matrix]
    before, after = (
        rows[rows["kind"] == f"singular_{when}"].groupby("index")["value"].mean() for when in ("before", "after")
    )
    return before, after


def _draw_values(ax: Axes, frame: pd.DataFrame) -> None:
    for matrix, (colour, _) in KIND_STYLES.items():
        before, after = _values(frame, matrix)
        ax.plot(before.index.astype(int), before, color=GREY, linewidth=2.5, alpha=0.5)
        ax.plot(after.index.astype(int), after, color=colour, linestyle="--")


def _draw_change_of_values(ax: Axes, frame: pd.DataFrame) -> None:
    """By how much singular values differ from those before."""
    for matrix, (colour, _) in KIND_STYLES.items():
        before, after = _values(frame, matrix)
        ax.plot(before.index.astype(int), after - before, color=colour, linewidth=1)
    ax.axhline(0, color=GREY, linewidth=0.8)
