"""Control: the ceiling against the learning rate. At fixed steps a rate that is too small can read as a low ceiling.

Paper: one learning rate, 5e-7. Here: half and twice the scale's rate for one arm of each compared family, and four
and eight times as much where pilots choose rates, so that a difference of ceilings between arms can be told from a
difference of their best rates.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from rlscape.catalogue import ARMS
from rlscape.catalogue.grids import (
    FURTHER_RATES,
    LEARNING_RATE_CORE,
    LEARNING_RATE_EXTRA,
    LEARNING_RATES,
    learning_rate_arm,
)
from rlscape.figures.style import ARM_STYLES, add_note, describe_seeds, new_figure
from rlscape.figures.tables import error_bars, final_pass_rates, fit_estimates
from rlscape.settings.scale import Config

QUANTITIES = {"A": ("ceiling A", "-"), "final": ("final pass rate", "--")}
"""Label and line; the final pass rate has open markers."""
COLUMNS = 6
STAGGER = 1.03
"""Between the two quantities, so that their intervals do not hide each other."""


def assemble(config: Config) -> pd.DataFrame:
    """A row per arm and rate: arm, factor, seeds, A and ``final`` with t limits.

    Arms that have half and double rates at this scale; further rates where they run.
    """
    rows = []
    for arm in (*LEARNING_RATE_CORE, *LEARNING_RATE_EXTRA):
        usual = {learning_rate_arm(arm, rate): factor for rate, factor in LEARNING_RATES.items()} | {arm: 1.0}
        further = {learning_rate_arm(arm, rate): factor for rate, factor in FURTHER_RATES.items()}
        factors = usual | {variant: factor for variant, factor in further.items() if variant in config.seeds}
        if usual.keys() <= config.seeds.keys():
            found = fit_estimates(config, factors).join(final_pass_rates(config, factors))
            rows.append(found.assign(factor=pd.Series(factors), arm=arm).sort_values("factor"))
    return pd.concat(rows, ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """An axes per arm, the core comparisons (loss, batch, model) first."""
    arms = list(frame["arm"].unique())
    count = -(-len(arms) // COLUMNS)
    figure = new_figure(13, 2.5 * count + 0.9)
    figure.suptitle("ceiling and end of the run against the learning rate, at fixed steps", fontsize=10)
    axes = figure.subplots(count, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for row in axes:
        row[0].set_ylabel("pass rate")
    for ax in axes.flat[len(arms) :]:
        ax.set_axis_off()
    for ax, arm in zip(axes.flat, arms, strict=False):
        rows = frame[frame["arm"] == arm]
        colour, marker = ARM_STYLES[arm]
        for index, (quantity, (label, line)) in enumerate(QUANTITIES.items()):
            ax.errorbar(
                rows["factor"] * STAGGER ** (2 * index - 1),
                rows[quantity],
                yerr=error_bars(rows, quantity),
                color=colour,
                marker=marker,
                markerfacecolor="white" if index else colour,
                markersize=5,
                linestyle=line,
                linewidth=1,
                elinewidth=0.8,
                label=label,
            )
        ax.set_title(ARMS[arm].label, loc="left", fontsize=8)
        ax.set_xlabel("learning rate (× the scale's)")
        ax.tick_params(labelbottom=True)
    axes[0, 0].set_xscale("log")
    axes[0, 0].xaxis.set_major_locator(FixedLocator(sorted(frame["factor"].unique())))
    axes[0, 0].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[0, 0].xaxis.set_minor_locator(NullLocator())
    axes[0, 0].legend(loc="best")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame["seeds"].astype(int)),
        "bars: 95% intervals over seeds, where there are several",
        "A: fit to all of the run",
        "paper: one rate",
    )
    return figure
