"""P1, panels that its camera-ready version adds: what the FP32 head mends, and what schedules do per update.

a, b: importance ratios of the first batch, trainer over generator, without and with an FP32 head on both sides; the
weights are those of the base model on either side, so that every ratio but 1 is numerical. c, d: generated tokens and
mean reward per update under PipelineRL-8 and PPO-off-policy-8. Paper: with the FP32 head points come to lie on the
diagonal; c and d about equal. Here: a and b show the ratio itself, since a diagonal would hide small departures from 1.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.learning_curves import means_over_seeds
from rlscape.figures.style import (
    ARM_STYLES,
    INK,
    add_note,
    describe_seeds,
    draw_seeds_and_band,
    new_figure,
    whole_numbers_axis,
)
from rlscape.results import curves
from rlscape.settings.scale import Config

HEADS = {"baseline": "a: no FP32 head", "fp32_head": "b: FP32 head on both sides"}
SCHEDULES = {"baseline": "PipelineRL-8", "ppo8": ARMS["ppo8"].label}
PER_UPDATE = {
    "tokens_generated": ("c: tokens per update", "generated tokens"),
    "reward_mean": ("d: reward per update", "mean reward of the batch"),
}
LARGEST_SCATTER = 2000
"""Points per panel, evenly taken from the batch; the numbers in it are of all."""


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind

    - ratio: per token shown, arm and the probabilities ``generator`` and ``trainer``;
    - agreement: per arm the number of ``tokens`` of the batch, their mean |log rho| as value, and the ``least`` and
      the ``largest`` rho;
    - update and mean: per arm and quantity (``panel``) a row per seed and update, and its mean with t limits.
    """
    frames = []
    for arm in HEADS:
        log_probs = curves.first_log_probs(config, arm)
        log_ratios = log_probs["trainer"] - log_probs["generator"]
        shown = np.exp(log_probs.iloc[:: -(-len(log_probs) // LARGEST_SCATTER)])
        frames.append(shown.assign(kind="ratio", arm=arm))
        extremes = {"least": np.exp(log_ratios.min()), "largest": np.exp(log_ratios.max())}
        agreement = {"kind": "agreement", "arm": arm, "tokens": len(log_ratios), "value": log_ratios.abs().mean()}
        frames.append(pd.DataFrame(agreement | extremes, index=[0]))
    updates = curves.updates(config, SCHEDULES)
    for panel in PER_UPDATE:
        rows = updates[["arm", "seed", "step", "compute"]].assign(kind="update", value=updates[panel])
        frames += [rows.assign(panel=panel), means_over_seeds(rows, "mean").assign(panel=panel)]
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Scatters above, schedules below."""
    figure = new_figure(10, 7.4)
    above, below = figure.subplots(2, 2)
    above[1].sharey(above[0])
    for ax, (arm, title) in zip(above, HEADS.items(), strict=True):
        _draw_ratios(ax, frame[frame["arm"] == arm], arm, title)
    for ax, (panel, (title, label)) in zip(below, PER_UPDATE.items(), strict=True):
        _draw_updates(ax, frame[frame["panel"] == panel])
        ax.set(xlabel="update", ylabel=label)
        ax.set_title(title, loc="left")
    below[1].legend(loc="lower right")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame[frame["kind"] == "update"].groupby("arm")["seed"].nunique()),
        "a, b: the first batch of one seed; c, d: bands are 95% intervals over seeds",
        "paper (camera-ready): FP32 brings a onto the diagonal; c, d about equal (no numbers)",
    )
    return figure


def _draw_ratios(ax: Axes, frame: pd.DataFrame, arm: str, title: str) -> None:
    shown = frame[frame["kind"] == "ratio"]
    agreement = frame[frame["kind"] == "agreement"].iloc[0]
    ax.scatter(
        shown["generator"],
        shown["trainer"] / shown["generator"],
        color=ARM_STYLES[arm][0],
        s=6,
        alpha=0.5,
        linewidth=0,
        rasterized=True,
    )
    ax.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    ax.set(xlabel="generator's probability", ylabel="importance ratio, trainer over generator")
    ax.set_title(title, loc="left")
    ax.text(
        0.97,
        0.97,
        f"{agreement['tokens']:,.0f} tokens: mean |log ρ| {agreement['value']:.2g},\n"
        f"ρ from {agreement['least']:.3f} to {agreement['largest']:.3f}",
        transform=ax.transAxes,
        ha="right",
        va="top",
        fontsize=8,
    )


def _draw_updates(ax: Axes, frame: pd.DataFrame) -> None:
    for arm, label in SCHEDULES.items():
        colour, _ = ARM_STYLES[arm]
        rows = frame[frame["arm"] == arm]
        mean = rows[rows["kind"] == "mean"]
        draw_seeds_and_band(ax, rows[rows["kind"] == "update"], mean, "step", colour)
        ax.plot(mean["step"], mean["value"], color=colour, linewidth=1.3, label=label)
    whole_numbers_axis(ax)
