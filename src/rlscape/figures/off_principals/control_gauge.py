"""Control of Figure 6: is the overlap in changed layers lost, or only in other coordinates?

The change leaves the function and the singular values as they are. Here its inverse is applied to the update, which
is put on the original base and read in bf16 there. Training commutes with a permutation (Adam works entry by entry),
so there the overlap must return to that of a repeat. It commutes with a rotation under SGD, not under Adam: what does
not return then is Adam's doing. V keeps the norms of its columns and O those of its rows under either change, so
some overlap may remain without undoing anything.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.figures.style import BLUE, GREEN, GREY, INK, PURPLE, RED, add_note, describe_seeds, new_figure
from rlscape.results import pairs
from rlscape.settings.scale import Config

OPTIMIZERS = {
    "AdamW": ("rlvr", "rlvr_intervened"),
    "AdamW, no rotation": ("rlvr", "rlvr_permuted"),
    "SGD": ("rlvr_sgd", "rlvr_intervened_sgd"),
}
"""Optimiser -> the arm on the base, and that on the changed base."""
COMPARISONS: dict[str, tuple[str, str, str]] = {
    # label, colour, marker
    "repeat": ("repeat, same base", BLUE, "o"),
    "stored": ("changed base, as stored", RED, "v"),
    "undone": ("changed base, undone", GREEN, "^"),
    "twins": ("two runs from the changed base, as stored", PURPLE, "D"),
}
MEASURES = {"phi": "full", "phi_top": "none"}
"""Phi of the bf16 masks and of those of the largest fp32 updates -> how its markers are filled."""
KINDS = ("q", "k", "v", "o")


def assemble(config: Config) -> pd.DataFrame:
    """A row per optimiser, changed layer, kind, comparison, seed and measure: value and the binned null's mean.

    Values are means over the reference's seeds. Runs under SGD, and from a base of which nothing is rotated,
    are there where the scale has them.
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
    """A panel per changed layer and optimiser; filled markers are bf16, open ones fp32."""
    columns = list(frame.groupby(["optimizer", "layer"]).groups)
    figure = new_figure(4.6 * len(columns) + 1, 4.4)
    row = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for ax, (optimizer, layer) in zip(row, columns, strict=True):
        _draw_layer(ax, frame[(frame["optimizer"] == optimizer) & (frame["layer"] == layer)])
        ax.set_title(f"{optimizer}, layer {layer}")
    row[0].set_ylabel(r"similarity of update masks, $\phi$")
    handles, labels = row[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby(["optimizer", "comparison"])["seed"].nunique()),
        "mean and range over seeds, against the other seeds",
        "open: fp32, the fifth of the entries that moved furthest",
        "chance: 0",
    )
    return figure


def _draw_layer(ax: Axes, frame: pd.DataFrame) -> None:
    places = np.arange(len(KINDS))
    for side, (measure, fill) in zip((-0.2, 0.2), MEASURES.items(), strict=True):
        rows = frame[frame["measure"] == measure]
        for index, (comparison, (label, colour, marker)) in enumerate(COMPARISONS.items()):
            values = rows[rows["comparison"] == comparison].groupby("kind")["value"].agg(["mean", "min", "max"])
            values, beside = values.reindex(KINDS), places + side + 0.09 * (index - 1.5)
            label = label if measure == "phi" else ""
            ax.vlines(beside, values["min"], values["max"], color=colour, linewidth=1)
            ax.plot(beside, values["mean"], marker, color=colour, fillstyle=fill, markersize=5, label=label)
        null = rows[rows["comparison"] == "repeat"].groupby("kind")["binned"].mean().reindex(KINDS)
        label = "repeat, permuted within magnitude bins" if measure == "phi" else ""
        ax.hlines(null, places + side - 0.18, places + side + 0.18, color=INK, linestyle=":", label=label)
    ax.axhline(0, color=GREY, linewidth=0.8)
    edits = frame.drop_duplicates("kind").set_index("kind")["edit"]
    ax.set_xticks(places, KINDS)
    changes = {edit: ", ".join(kind for kind in KINDS if edits[kind] == edit) for edit in edits[list(KINDS)]}
    ax.set_xlabel("; ".join(f"{kinds}: {'unchanged' if edit == 'none' else edit}" for edit, kinds in changes.items()))
