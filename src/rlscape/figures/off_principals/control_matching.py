"""Control: RL against SFT at equal learning rate, update norm, KL and pass rate.

Paper: pairs as published, whose rates, lengths and bases differ. Here: one base; SFT's final model moved along its
update, or another of its snapshots. What differs at equal norm is direction, what differs only as run is size.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlscape.catalogue import ARMS
from rlscape.figures.style import ARM_STYLES, GREY, add_note, describe_seeds, name_log_ticks, new_figure
from rlscape.figures.tables import error_bars, interval_columns
from rlscape.results import bias
from rlscape.results.bias import MATCHINGS
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

STATISTICS: dict[str, tuple[str, float | None]] = {
    # column: label, value of an update without preference
    "sparsity": ("bf16 sparsity", None),
    "x": ("size x", None),
    "kl": (r"KL$(\pi_0\,\|\,\pi)$", None),
    "pass_rate": ("pass rate", None),
    "nss": ("NSS", None),
    "largest_angle": ("largest angle (degrees)", None),
    "efficiency": ("efficiency $e$", None),
    "energy_left_over_chance": ("energy in $U_k$ / chance", 1.0),
    "energy_right_over_chance": ("energy in $V_k$ / chance", 1.0),
    "energy_both_over_chance": ("energy in both / chance", 1.0),
    "overlap_principal_less_chance": (r"$M_\mathrm{princ}$ less chance", 0.0),
    "overlap_principal_less_binned": (r"$M_\mathrm{princ}$ less binned null", 0.0),
    "energy_enrichment_principal": (r"fp32 energy in $M_\mathrm{princ}$ / chance", 1.0),
    "overlap_low_less_chance": (r"$M_\mathrm{low}$ less chance", 0.0),
    "energy_enrichment_low": (r"fp32 energy in $M_\mathrm{low}$ / chance", 1.0),
}
LOGARITHMIC = {"x", "kl", "nss", "largest_angle"}
METHODS = {"rl": "rlvr", "sft": "sft"}
"""Method -> the arm whose look it has."""
COLUMNS = 5
STAGGER = 0.12


def assemble(config: Config) -> pd.DataFrame:
    """A row per matching, method and statistic: seeds, value with t limits; ``arms``, those that were taken."""
    table = bias.matching(config)
    rows = []
    for (matching, method), runs in table.groupby(["matching", "method"], sort=False):
        for statistic in STATISTICS:
            row = {"matching": matching, "method": method, "statistic": statistic, "seeds": len(runs)}
            row |= interval_columns("value", t_interval(runs[statistic]))
            rows.append(row | {"arms": " ".join(sorted(set(runs["arm"])))})
    return pd.DataFrame(rows).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per statistic, a line per matching."""
    count = -(-len(STATISTICS) // COLUMNS)
    figure = new_figure(13, 2.3 * count + 0.8)
    axes = figure.subplots(count, COLUMNS, sharey=True)
    for ax, (statistic, (label, neutral)) in zip(axes.flat, STATISTICS.items(), strict=True):
        _draw_statistic(ax, frame[frame["statistic"] == statistic])
        if neutral is not None:
            ax.axvline(neutral, color=GREY, linewidth=0.8)
        ax.set_title(label, loc="left", fontsize=9)
        if statistic in LOGARITHMIC:
            ax.set_xscale("log")
            name_log_ticks(ax.xaxis)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(4))
    axes[0, 0].set_yticks(range(len(MATCHINGS)), list(MATCHINGS.values()))
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame["seeds"].astype(int)),
        "bars: 95% intervals over seeds, where there are several; grey: no preference",
        "a scaled model's pass rate is not measured",
        "paper: no matched comparison",
    )
    return figure


def _draw_statistic(ax: Axes, frame: pd.DataFrame) -> None:
    places = {matching: place for place, matching in enumerate(MATCHINGS)}
    for index, (method, arm) in enumerate(METHODS.items()):
        rows = frame[frame["method"] == method].dropna(subset="value")
        colour, marker = ARM_STYLES[arm]
        ax.errorbar(
            rows["value"],
            rows["matching"].map(places) + STAGGER * (2 * index - 1),
            xerr=error_bars(rows, "value"),
            color=colour,
            marker=marker,
            markersize=5,
            linestyle="",
            elinewidth=0.8,
            label=ARMS[arm].label,
        )
