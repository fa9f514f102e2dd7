"""P2, Figure 9: distance from the start while only some entries train.

Paper: a token-wise KL loss up to 0.0125 over about 320 steps on samples that are not described; safe tracks dense,
M_princ is slowest. Here: both directions on reference traces of validation problems; embedding, norms and head are
frozen under every mask. Masks of unequal density move unequally far whatever they select: only the safe and the
random mask, and M_princ and its complement, are equally dense.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.catalogue.grids import MASK_STEPS
from rlscape.figures.learning_curves import add_title_and_legend
from rlscape.figures.style import ARM_STYLES, INK, add_note, describe_seeds, new_figure, whole_numbers_axis
from rlscape.results import curves
from rlscape.results.restricted import distances_to_dense, masked_arms
from rlscape.settings.scale import Config

DIRECTIONS: dict[str, str] = {
    # column: title
    "kl_to_start": r"KL$(\pi\,\|\,\pi_0)$, as the paper writes it",
    "kl_from_start": r"KL$(\pi_0\,\|\,\pi)$",
}


def assemble(config: Config) -> pd.DataFrame:
    """By ``kind`` and direction: step, a row per run and step (0 is the start), value in nats per token; and distance.

    A distance is a run's from the dense run of its seed, see :func:`rlscape.results.restricted.distances_to_dense`.
    """
    updates = curves.updates(config, masked_arms(config))
    frames = []
    for direction in DIRECTIONS:
        steps = updates[["arm", "seed", "step"]].assign(value=updates[direction], kind="step")
        start = steps.drop_duplicates(["arm", "seed"]).assign(step=0, value=0.0)
        distances = distances_to_dense(updates, direction).assign(kind="distance")
        frames += [part.assign(direction=direction) for part in (start, steps, distances)]
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per direction."""
    figure = new_figure(10.5, 5.6)
    for ax, (direction, title) in zip(figure.subplots(1, len(DIRECTIONS)), DIRECTIONS.items(), strict=True):
        _draw_panel(ax, frame[frame["direction"] == direction])
        add_title_and_legend(ax, title)
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        "mean; thin: seeds; in brackets: by how much less area lies below it than below the dense one",
        "paper: safe tracks dense, principal slowest; axis to 0.0125, some 320 steps (no numbers printed)",
    )
    return figure


def _draw_panel(ax: Axes, frame: pd.DataFrame) -> None:
    distances = frame[frame["kind"] == "distance"].groupby("arm")["value"].mean()
    steps = frame[frame["kind"] == "step"]
    for arm, rows in steps.groupby("arm", sort=False):
        colour, _ = ARM_STYLES[str(arm)]
        label = ARMS[str(arm)].label + (f" ({distances[arm]:.2f})" if arm in distances else "")
        if rows["seed"].nunique() > 1:
            for _, seed in rows.groupby("seed"):
                ax.plot(seed["step"], seed["value"], color=colour, linewidth=0.5, alpha=0.3)
        mean = rows.groupby("step")["value"].mean()
        ax.plot(mean.index, mean, color=colour, linewidth=1.4, label=label)
    short = steps["step"].max() * MASK_STEPS[0] / MASK_STEPS[1]
    ax.axvline(short, color=INK, linewidth=0.8, linestyle=":")
    ax.annotate(
        f"stands for {MASK_STEPS[0]} steps",
        (short, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(-3, 0),
        textcoords="offset points",
        ha="right",
        fontsize=7,
        color=INK,
    )
    ax.set(xlabel="optimiser step", ylabel="KL (nats per token)")
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    whole_numbers_axis(ax)
