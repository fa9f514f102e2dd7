"""P2, Figure 15: token-wise KL divergence from the start during training without a KL penalty.

Paper: one DAPO run; called "forward KL" but written KL(pi || pi_ref), on samples that are not described. Here: both
directions over the whole vocabulary, on reference traces of validation problems, and SFT beside RL.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.style import ARM_STYLES, add_note, describe_seeds, new_figure
from rlscape.results import curves
from rlscape.settings.scale import Config

PANELS: dict[str, tuple[str, ...]] = {"RL": ("rlvr", "rlvr_long"), "SFT": ("sft",)}
DIRECTIONS: dict[str, tuple[str, str]] = {
    # column: label, line style
    "kl_to_start": (r"KL$(\pi\,\|\,\pi_0)$, as the paper writes it", "-"),
    "kl_from_start": (r"KL$(\pi_0\,\|\,\pi)$", "--"),
}


def assemble(config: Config) -> pd.DataFrame:
    """A row per arm, seed, step and direction: value, in nats per token; step 0 is the start."""
    updates = curves.updates(config, [arm for arms in PANELS.values() for arm in arms])
    frame = updates.melt(
        id_vars=["arm", "seed", "step"], value_vars=list(DIRECTIONS), var_name="direction", value_name="value"
    )
    start = frame.drop_duplicates(["arm", "seed", "direction"]).assign(step=0, value=0.0)
    frame = pd.concat([start, frame], ignore_index=True).sort_values(["arm", "seed", "direction", "step"])
    return frame.assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Left: RL, as in the paper. Right: SFT."""
    figure = new_figure(11, 3.8)
    for ax, (title, arms) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for arm in arms:
            _draw_arm(ax, frame[frame["arm"] == arm], arm)
        ax.set_title(title, loc="left")
        ax.set(xlabel="optimiser step", ylabel="KL (nats per token)")
        ax.set_ylim(bottom=0)
        ax.set_xlim(left=0)
        ax.legend(loc="best")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        "mean and range over seeds",
        "paper: steady, bounded growth (no numbers)",
    )
    return figure


def _draw_arm(ax: Axes, frame: pd.DataFrame, arm: str) -> None:
    colour, _ = ARM_STYLES[arm]
    for direction, (label, dashes) in DIRECTIONS.items():
        by_step = frame[frame["direction"] == direction].groupby("step")["value"].agg(["mean", "min", "max"])
        ax.plot(by_step.index, by_step["mean"], color=colour, linestyle=dashes, label=f"{ARMS[arm].label}, {label}")
        ax.fill_between(by_step.index, by_step["min"], by_step["max"], color=colour, alpha=0.15, linewidth=0)
