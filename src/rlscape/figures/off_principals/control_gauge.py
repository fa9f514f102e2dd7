"""Control of Figure 6: is the overlap in changed layers lost, or only in other coordinates?

The change leaves the function and the singular values as they are. Here its inverse is applied to the update, which
is put on the original base and read in bf16 there. Training commutes with a permutation (Adam works entry by entry),
so there the overlap must return to that of a repeat. It commutes with a rotation under SGD, not under Adam: what does
not return then is Adam's doing. V keeps the norms of its columns and O those of its rows under either change, so
some overlap may remain without undoing anything.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.config import Config
from rlscape.figures.style import BLUE, GREEN, GREY, INK, PURPLE, RED, add_note, describe_seeds, new_figure
from rlscape.results import pairs

OPTIMIZERS = {"AdamW": ("rlvr", "rlvr_intervened"), "SGD": ("rlvr_sgd", "rlvr_intervened_sgd")}
"""Optimiser -> the arm on the base, and that on the changed base."""
COMPARISONS: dict[str, tuple[str, str, str]] = {
    # label, colour, marker
    "repeat": ("repeat, same base", BLUE, "o"),
    "stored": ("changed base, as stored", RED, "v"),
    "undone": ("changed base, undone", GREEN, "^"),
    "twins": ("two runs from the changed base, as stored", PURPLE, "D"),
}
MEASURES = {"phi": r"$\phi$ of the bf16 masks", "phi_top": r"$\phi$ of the fp32 masks"}
KINDS = ("q", "k", "v", "o")


def assemble(config: Config) -> pd.DataFrame:
    """A row per optimiser, changed layer, kind, comparison, seed and measure: value and the binned null's mean.

    Values are means over the reference's seeds. Runs under SGD are there where the scale has them.
    """
    measured = pairs.pairs(config, "intervened")
    measured = measured[measured["kind"].isin(KINDS)]
    edits = measured[measured["edit"] != "none"].groupby(["layer", "kind"])["edit"].first().rename("edit")
    stored, undone = (measured[measured["view"] == view] for view in ("stored", "undone"))
    frames = []
    for optimizer, (reference, changed) in OPTIMIZERS.items():
        compared = {
            "repeat": pairs.against(stored, reference, reference),
            "stored": pairs.against(stored, reference, changed),
            "undone": pairs.against(undone, reference, changed),
            "twins": pairs.against(stored, changed, changed),
        }
        if compared["stored"].empty:
            continue
        for comparison, chosen in compared.items():
            for measure in MEASURES:
                columns = {measure: "value", f"{measure}_binned": "binned"}
                by_seed = chosen.groupby(["layer", "kind", "seed_b"])[list(columns)].mean().rename(columns=columns)
                frames.append(by_seed.reset_index().assign(optimizer=optimizer, comparison=comparison, measure=measure))
    frame = pd.concat(frames, ignore_index=True).rename(columns={"seed_b": "seed"})
    frame = frame[frame["layer"].isin(edits.index.get_level_values("layer"))]
    frame = frame.merge(edits.reset_index(), how="left", on=["layer", "kind"]).fillna({"edit": "none"})
    return frame.astype({"layer": int, "seed": int}).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Rows: bf16 and fp32 masks. Columns: changed layers, for each optimiser."""
    columns = list(frame.groupby(["optimizer", "layer"]).groups)
    figure = new_figure(3.6 * len(columns) + 1.5, 6.2)
    grid = figure.subplots(len(MEASURES), len(columns), sharey="row", squeeze=False)
    for row, (measure, label) in zip(grid, MEASURES.items(), strict=True):
        for ax, (optimizer, layer) in zip(row, columns, strict=True):
            chosen = (frame["measure"] == measure) & (frame["optimizer"] == optimizer) & (frame["layer"] == layer)
            _draw_layer(ax, frame[chosen])
        row[0].set_ylabel(label)
    for ax, (optimizer, layer) in zip(grid[0], columns, strict=True):
        ax.set_title(f"{optimizer}, layer {layer}")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby(["optimizer", "comparison"])["seed"].nunique()),
        "mean and range over seeds, against the other seeds",
        "fp32: the fifth of the entries that moved furthest; chance is 0",
    )
    return figure


def _draw_layer(ax: Axes, frame: pd.DataFrame) -> None:
    edits = frame.drop_duplicates("kind").set_index("kind")["edit"]
    for index, (comparison, (label, colour, marker)) in enumerate(COMPARISONS.items()):
        summary = frame[frame["comparison"] == comparison].groupby("kind")["value"].agg(["mean", "min", "max"])
        summary = summary.reindex(KINDS)
        beside = [place + 0.16 * (index - 1.5) for place in range(len(KINDS))]
        ax.vlines(beside, summary["min"], summary["max"], color=colour, linewidth=1)
        ax.plot(beside, summary["mean"], color=colour, marker=marker, markersize=5, linestyle="", label=label)
    null = frame[frame["comparison"] == "repeat"].groupby("kind")["binned"].mean().reindex(KINDS)
    places = range(len(KINDS))
    ax.hlines(
        null,
        [place - 0.35 for place in places],
        [place + 0.35 for place in places],
        color=INK,
        linestyle=":",
        label="repeat, permuted within magnitude bins",
    )
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.set_xticks(places, KINDS)
    changes = {edit: ", ".join(kind for kind in KINDS if edits[kind] == edit) for edit in edits[list(KINDS)]}
    ax.set_xlabel("; ".join(f"{kinds}: {'unchanged' if edit == 'none' else edit}" for edit, kinds in changes.items()))
