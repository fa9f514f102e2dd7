"""RL and SFT at equal size: what the controls of matching and of the optimiser share."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from rlscape.catalogue import ARMS
from rlscape.figures.style import ARM_STYLES, GREY, add_note, describe_seeds, name_log_ticks, new_figure
from rlscape.figures.tables import error_bars, interval_columns
from rlscape.results import bias
from rlscape.results.bias import MATCHED, MATCHINGS
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

STATISTICS: dict[str, tuple[str, float | None]] = {
    # column: label, value under its null
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
    # Rounding alone puts overlaps off chance.
    "overlap_principal_less_chance": (r"$M_\mathrm{princ}$ less chance", None),
    "overlap_principal_less_binned": (r"$M_\mathrm{princ}$ less binned null", 0.0),
    "energy_enrichment_principal": (r"fp32 energy in $M_\mathrm{princ}$ / chance", 1.0),
    "overlap_low_less_chance": (r"$M_\mathrm{low}$ less chance", None),
    "energy_enrichment_low": (r"fp32 energy in $M_\mathrm{low}$ / chance", 1.0),
}
LOGARITHMIC = {"x", "kl", "nss", "largest_angle"}
METHODS = {"rl": 0, "sft": 1}
"""Method -> which of the arms that are matched has its look."""
COLUMNS = 5
ROWS = -(-len(STATISTICS) // COLUMNS)
SPREAD = 0.24
"""Between the lowest and the highest of the series of a line, in lines; with more than two series, twice that."""


def assemble_matched(config: Config, name: str) -> pd.DataFrame:
    """A row per matching, method and statistic: seeds, value with t limits; ``arms``, those that were taken.

    Args:
        name: of a table of matchings, a key of ``MATCHED``.
    """
    table = bias.matching(config, name)
    rows = []
    for (matching, method), runs in table.groupby(["matching", "method"], sort=False):
        for statistic in STATISTICS:
            row = {"matching": matching, "method": method, "statistic": statistic, "seeds": len(runs)}
            row |= interval_columns("value", t_interval(runs[statistic]))
            rows.append(row | {"arms": " ".join(sorted(set(runs["arm"])))})
    return pd.DataFrame(rows).assign(scale=config.scale)


Series = Sequence[tuple[str, pd.DataFrame]]
"""Arm whose look it has, and its rows of :func:`assemble_matched`, of one method."""


def draw_matched(series: Series, notes: Sequence[str]) -> Figure:
    """A panel per statistic, a line per matching.

    Args:
        notes: what the picture's note says beside scale and seeds.
    """
    figure = new_figure(13, height_of(series))
    draw_statistics(figure, series)
    frame = pd.concat([rows for _, rows in series])
    add_note(figure, f"scale: {frame['scale'].iloc[0]}", describe_seeds(frame["seeds"].astype(int)), *notes)
    return figure


def height_of(series: Series) -> float:
    """Of :func:`draw_statistics`, in inches."""
    return (2.3 if len(series) == 2 else 3.0) * ROWS + 0.8


def draw_statistics(figure: Figure | SubFigure, series: Series) -> None:
    """The panels of :func:`draw_matched` with their legend."""
    axes = figure.subplots(ROWS, COLUMNS, sharey=True)
    for ax, (statistic, (label, neutral)) in zip(axes.flat, STATISTICS.items(), strict=True):
        _draw_statistic(ax, [(arm, rows[rows["statistic"] == statistic]) for arm, rows in series])
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


def _draw_statistic(ax: Axes, series: Series) -> None:
    places = {matching: place for place, matching in enumerate(MATCHINGS)}
    spread = SPREAD if len(series) == 2 else 2 * SPREAD
    for index, (arm, rows) in enumerate(series):
        rows = rows.dropna(subset="value")
        colour, marker = ARM_STYLES[arm]
        ax.errorbar(
            rows["value"],
            rows["matching"].map(places) + spread * (index / (len(series) - 1) - 0.5),
            xerr=error_bars(rows, "value"),
            color=colour,
            marker=marker,
            markersize=5,
            linestyle="",
            elinewidth=0.8,
            label=ARMS[arm].label,
        )


def arm_of(name: str, method: str) -> str:
    """The arm that a method has the look of."""
    return MATCHED[name][METHODS[method]]
