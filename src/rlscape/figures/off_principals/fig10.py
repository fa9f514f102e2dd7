"""P2, Figure 10: LoRA and PiSSA at three learning rates and three ranks.

Paper: DS-Qwen-1.5B on DeepMath, AIME24 above AMC23, ranks 8, 32 and 64 (columns presumed), rates 1e-4, 5e-5 and 1e-5.
Here: the same ratios to our full rate, ranks scaled to the width; the harder problems below, the validation set above.
PiSSA's factors start large, so the same rate moves it further; ``control_adapters`` compares at equal step sizes.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.adapters import ERRORS_NOTE, PANELS, assemble_by_step, draw_by_step
from rlscape.figures.style import add_note, describe_seeds, new_figure
from rlscape.results.restricted import adapter_arms
from rlscape.settings.scale import Config


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.adapters.assemble_by_step`."""
    return assemble_by_step(config, [arm for arm in adapter_arms(config) if not ARMS[arm].extra])


def draw(frame: pd.DataFrame) -> Figure:
    """A column per rank, the validation set above."""
    ranks = sorted(frame["rank"].unique())
    figure = new_figure(3.8 * len(ranks), 6.2)
    grid = figure.subplots(len(PANELS), len(ranks), sharex=True, sharey="row", squeeze=False)
    for row, (panel, label) in zip(grid, PANELS.items(), strict=True):
        for ax, rank in zip(row, ranks, strict=True):
            draw_by_step(ax, frame[(frame["panel"] == panel) & (frame["rank"] == rank)])
        row[0].set_ylabel(label)
    for ax, rank in zip(grid[0], ranks, strict=True):
        ax.set_title(f"rank {rank:.0f}", loc="left")
    for ax in grid[-1]:
        ax.set_xlabel("optimiser step")
    handles, labels = grid[-1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    seeds = frame[frame["kind"] == "evaluation"].groupby("arm")["seed"].nunique()
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(seeds),
        ERRORS_NOTE,
        "paper: PiSSA gains nothing over LoRA and collapses at high rates (no numbers printed)",
    )
    return figure
