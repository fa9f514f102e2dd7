"""P2, Figure 11: adapters and full fine-tuning of a second model.

Paper: Llama-3.2-3B-Instruct, MATH500 (mean of 4), rank 64, three learning rates each, full fine-tuning at 1e-6. Here:
a Llama of our own and the largest rank; the same seven runs.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.adapters import ERRORS_NOTE, PANELS, assemble_by_step, draw_by_step
from rlscape.figures.style import add_note, describe_seeds, new_figure
from rlscape.results.restricted import adapter_arms
from rlscape.settings.scale import Config

FULL = "llama_full"
BASE = "llama"


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.adapters.assemble_by_step`."""
    return assemble_by_step(config, [FULL, *adapter_arms(config, BASE)])


def draw(frame: pd.DataFrame) -> Figure:
    """Left: the validation set. Right: downstream."""
    figure = new_figure(11.5, 4.2)
    axes = figure.subplots(1, len(PANELS), sharex=True)
    for ax, (panel, label) in zip(axes, PANELS.items(), strict=True):
        draw_by_step(ax, frame[frame["panel"] == panel])
        ax.set(xlabel="optimiser step", ylabel=label)
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside right center")
    seeds = frame[frame["kind"] == "evaluation"].groupby("arm")["seed"].nunique()
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(seeds),
        f"adapters: rank {frame['rank'].max():.0f}",
        ERRORS_NOTE,
        "paper: three rates, MATH500 on an axis from 0.3 to 0.5, 200 steps; PiSSA as in Figure 10 (no numbers printed)",
    )
    return figure
