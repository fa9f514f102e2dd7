"""P1, Figure 16: the entropy of the policy on the validation set, for batches of 768 and 2,048 completions."""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.learning_curves import means_over_seeds
from rlscape.figures.scalerl.paper_values import FIG16_ENTROPY
from rlscape.figures.style import (
    ARM_STYLES,
    add_note,
    describe_interval,
    describe_seeds,
    draw_seeds_and_band,
    new_figure,
    whole_numbers_axis,
)
from rlscape.results import curves
from rlscape.settings.scale import Config

SETTINGS = {"scalerl": ", batch 768", "large_batch": ""}


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind entropy (arm, seed, step, compute, value) and mean (with t limits over seeds)."""
    metrics = curves.metrics(config, FIG16_ENTROPY)
    rows = metrics[["arm", "seed", "step", "compute"]].assign(kind="entropy", value=metrics["entropy"])
    return pd.concat([rows, means_over_seeds(rows, "mean")], ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """One panel, entropy against updates."""
    figure = new_figure(6.4, 4.4)
    ax = figure.subplots()
    seeds = frame[frame["kind"] == "entropy"]
    for arm, (start, end) in FIG16_ENTROPY.items():
        colour, marker = ARM_STYLES[arm]
        mean = frame[(frame["kind"] == "mean") & (frame["arm"] == arm)]
        draw_seeds_and_band(ax, seeds[seeds["arm"] == arm], mean, "step", colour)
        ours = " → ".join(describe_interval(mean.iloc[position], digits=2) for position in (0, -1))
        ax.plot(
            mean["step"],
            mean["value"],
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.2,
            label=f"{ARMS[arm].label}{SETTINGS[arm]}: {ours} (paper {start:.2f} → {end:.2f})",
        )
    ax.set(xlabel="updates", ylabel="entropy on the validation set (nats per token)")
    ax.set_ylim(bottom=0)
    whole_numbers_axis(ax)
    ax.legend(loc="lower left")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(seeds.groupby("arm")["seed"].nunique()),
        "band: 95% interval over seeds",
        "paper: 8B, one seed, read off its figure",
    )
    return figure
