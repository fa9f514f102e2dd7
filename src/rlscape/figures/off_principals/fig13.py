"""P2, Figure 13: where RL's update of a Llama and of a Mistral falls.

Paper: update masks of Llama-3.1-8B and Mistral-Small-24B (SimpleRL-Zoo pairs), one matrix each, which is not named; no
numbers. Here: the query projection of the middle layer, with the principal mask, chance and nulls as in Figure 1.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.off_principals.mask_panels import add_mask_legend, assemble_mask, describe_mask_seed, draw_mask
from rlscape.figures.style import add_note, describe_seeds, new_figure
from rlscape.figures.weights import describe_learning_rates, learning_rates, shown_matrix
from rlscape.results import weights
from rlscape.settings.scale import Config

SHOWN = {"llama_full": "13a", "mistral_full": "13b"}


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind overlap (quantity, value) and mask (row, column, category); ``tensor`` is the shown matrix."""
    frames = []
    for arm in SHOWN:
        matrices = weights.matrices(config, [arm])
        tensor = shown_matrix(matrices)
        frames.append(assemble_mask(config, arm, tensor, matrices).assign(tensor=tensor))
    frame = pd.concat(frames, ignore_index=True).assign(scale=config.scale)
    frame["learning_rate"] = learning_rates(frame, config)
    # Said once, in the overlap rows: a mask has thousands of rows.
    frame.loc[frame["kind"] != "overlap", ["scale", "tensor", "learning_rate"]] = None
    return frame.astype({name: "Int64" for name in ("row", "column", "category")})


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per model."""
    figure = new_figure(8.5, 6.6)
    overlaps = frame[frame["kind"] == "overlap"]
    for ax, (arm, panel) in zip(figure.subplots(1, len(SHOWN)), SHOWN.items(), strict=True):
        tensor = overlaps.loc[overlaps["arm"] == arm, "tensor"].iloc[0]
        name = tensor.removeprefix("model.").removesuffix(".weight")
        draw_mask(ax, frame[frame["arm"] == arm], f"{panel}: {ARMS[arm].label}\n{name}")
    add_mask_legend(figure)
    add_note(
        figure,
        f"scale: {overlaps['scale'].iloc[0]}",
        describe_seeds(overlaps.groupby("arm")["seed"].nunique()),
        f"{describe_mask_seed(frame)}; overlaps: means over seeds",
        describe_learning_rates(overlaps),
        "paper: stripes, without numbers",
    )
    return figure
