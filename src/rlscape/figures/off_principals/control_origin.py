"""Control: which property of RL's updates is RL's? Other data, other bases, another optimiser, other objectives.

Paper: RL beside SFT, from bases and at learning rates that differ. Here: from one base, SFT on the base's own correct
samples (rejection sampling) and SFT with noisy weights stand between SFT and RL, and so do DPO and SimPO; RL is also
run from another initialisation, from a tenth of the pretraining and with plain gradient descent, SFT from a random
base.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlscape.catalogue import ARMS, arms_of, figure_of
from rlscape.figures.style import ARM_STYLES, GREY, add_note, describe_seeds, name_log_ticks, new_figure
from rlscape.figures.weights import learning_rates, seed_heights
from rlscape.results import origin
from rlscape.settings.scale import Config

TARGET = "off_principals_control_origin"
QUANTITIES = {
    "gain": "gain in pass rate",
    "x": "size x",
    "sparsity": "bf16 sparsity",
    "nss": "NSS",
    "angle": "largest angle (degrees)",
    "efficiency": "efficiency $e$",
    "principal": r"$M_\mathrm{princ}$ less binned null",
    "principal_half": r"$M_\mathrm{princ}$ at half, less binned",
    "principal_rotated": r"$M_\mathrm{princ}$ less rotated null",
    "low": r"$M_\mathrm{low}$ less shuffled null",
    "energy_left": "energy in $U_k$ / chance",
    "energy_right": "energy in $V_k$ / chance",
    "energy_both": "energy in both / chance",
}
LOGARITHMIC = {"x", "nss", "angle"}
COLUMNS = 5


def assemble(config: Config) -> pd.DataFrame:
    """A row per run and quantity: arm, seed, learning rate, value and null; see :func:`origin.statistics`."""
    arms = arms_of(config, figure_of(TARGET))
    frame = origin.statistics(config, arms)
    return frame.assign(learning_rate=learning_rates(frame, config), scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per quantity, a line per arm, a dot per seed; grey: the null."""
    arms = list(frame["arm"].unique())
    count = -(-len(QUANTITIES) // COLUMNS)
    figure = new_figure(13, count * (0.24 * len(arms) + 0.7) + 0.5)
    grid = figure.subplots(count, COLUMNS, sharey=True)
    for ax, (quantity, label) in zip(grid.flat, QUANTITIES.items(), strict=False):
        _draw_quantity(ax, frame[frame["quantity"] == quantity], arms)
        ax.set_title(label, loc="left", fontsize=9)
        if quantity in LOGARITHMIC:
            ax.set_xscale("log")
            name_log_ticks(ax.xaxis)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(3))
    for ax in grid.flat[len(QUANTITIES) :]:
        ax.remove()
    rates = frame.drop_duplicates("arm").set_index("arm")["learning_rate"]
    grid[0, 0].set_yticks(range(len(arms)), [f"{ARMS[arm].label} ({rates[arm]:.0e})" for arm in arms])
    grid[0, 0].invert_yaxis()
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        "a dot per seed; in brackets: learning rate",
        "grey: isotropic update of equal norm (overlaps: the nulls named), or what any update has in expectation",
        "paper: no such control",
    )
    return figure


def _draw_quantity(ax: Axes, frame: pd.DataFrame, arms: list[str]) -> None:
    for place, arm in enumerate(arms):
        rows = frame[frame["arm"] == arm]
        colour, marker = ARM_STYLES[arm]
        heights = seed_heights(rows, place)
        ax.plot(rows["null"], heights, color=GREY, marker="|", markersize=10, linestyle="")
        ax.plot(rows["value"], heights, color=colour, marker=marker, markersize=4.5, linestyle="")
