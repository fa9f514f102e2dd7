"""The figures of ``rlscape fit`` and ``rlscape compare``, in the style of the replication's figures."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rlscape.figures.style import BLUE, GREY, INK, PALETTE, RC, add_note, log_compute_axis, new_figure
from rlscape.files import atomic
from rlscape.tools.curves.log_comparison import LogComparison
from rlscape.tools.curves.log_fit import Point, Report
from rlscape.tools.curves.logs import Log
from rlscape.tools.curves.seeds import binned, to_points

MARKERS = ("o", "s", "^", "D", "v", "p")
TITLE_WIDTH = 95
LEGEND_RUNS = 10
"""More runs than this are not named."""


def draw_points(axes: Axes, log: Log, bounds: tuple[float, float], colours: Sequence[str] = PALETTE) -> None:
    """The evaluations of every run, long runs in the bins that were fitted."""
    low, high = bounds
    for number, series in enumerate(log.series):
        points = binned(to_points(series, bounds))
        axes.plot(
            points.compute,
            low + (high - low) * points.rate,
            linestyle="none",
            marker=MARKERS[number % len(MARKERS)],
            markersize=3,
            alpha=0.6,
            color=colours[number % len(colours)],
            label=series.name,
        )


def draw_band(axes: Axes, points: Sequence[Point], colour: str, linestyle: str = "-") -> None:
    """A curve with its interval."""
    compute, low, estimate, high = (
        [getattr(point, name) for point in points] for name in ("compute", "low", "estimate", "high")
    )
    axes.fill_between(compute, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(compute, estimate, color=colour, linestyle=linestyle)


def draw_fit(log: Log, report: Report) -> Figure:
    """Data, fit and interval; beyond the data the forecast (dashed, on grey) unless it was refused; A."""
    figure = new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    log_compute_axis(axes, report.x_column)
    axes.set_ylabel(report.y_column)
    runs = len(log.series)
    draw_points(axes, log, report.bounds, [BLUE] if runs == 1 else PALETTE)
    if report.curve:
        draw_band(axes, report.curve, INK)
    elif report.verdict == "flat":
        ends = [min(series.x[series.x > 0].min() for series in log.series), report.last_compute]
        draw_band(axes, [Point(x, report.A.low, report.A.estimate, report.A.high) for x in ends], INK)
    if report.forecast:
        draw_band(axes, report.forecast, INK, "--")
        axes.axvspan(report.last_compute, report.forecast[-1].compute, color=GREY, alpha=0.12, linewidth=0)
        axes.axhline(report.A.estimate, color=GREY, linestyle=":", linewidth=1)
        label = f"A = {report.A.estimate:.4g} [{report.A.low:.4g}, {report.A.high:.4g}]"
        axes.annotate(label, (0.01, report.A.estimate), xycoords=axes.get_yaxis_transform(), va="bottom", fontsize=8)
    if 1 < runs <= LEGEND_RUNS:
        axes.legend(loc="lower right")
    add_note(figure, f"band: {100 * report.confidence:g}% interval of the curve", f"runs: {runs}", *_widened(report))
    axes.set_title("\n".join(textwrap.wrap(f"{report.verdict}: {report.reason}", TITLE_WIDTH)), fontsize=8, loc="left")
    return figure


def _widened(report: Report) -> list[str]:
    """What runs share, for the note."""
    return [f"their residuals correlate {report.residual_correlation:.2g}"] if report.seeds > 1 else []


def draw_comparison(logs: Mapping[str, Log], comparison: LogComparison, bounds: tuple[float, float]) -> Figure:
    """Points, fits and bands; dashed the forecast beyond the data, unless refused; crosses where curves cross."""
    figure = new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    log_compute_axis(axes, comparison.x_column)
    axes.set_ylabel(comparison.y_column)
    colours = {recipe.name: PALETTE[i % len(PALETTE)] for i, recipe in enumerate(comparison.recipes)}
    handles = []
    for recipe in comparison.recipes:
        colour = colours[recipe.name]
        draw_points(axes, logs[recipe.name], bounds, [colour])
        for points, line in ((recipe.curve, "-"), (recipe.forecast, "--")):
            if points:
                draw_band(axes, points, colour, line)
        seeds = "1 run" if recipe.runs == 1 else f"{recipe.runs} runs"
        handles.append(Line2D([], [], color=colour, label=f"{recipe.name} ({seeds})"))
    if comparison.level == comparison.level:
        axes.axhline(comparison.level, color=GREY, linestyle=":", linewidth=1)
    curves = {recipe.name: (*recipe.curve, *recipe.forecast) for recipe in comparison.recipes}
    for pair in comparison.pairs:
        for crossing in pair.crossings:
            points = curves[pair.recipe]
            height = np.interp(crossing.compute, *np.transpose([(point.compute, point.estimate) for point in points]))
            axes.plot(crossing.compute, height, "x", color=INK if crossing.shown else GREY, markersize=7)
    axes.legend(handles=handles, loc="lower right")
    band = f"bands: {100 * comparison.confidence:g}% intervals of the curves"
    crossed = any(pair.crossings for pair in comparison.pairs)
    level = f"dotted: the common level {comparison.level:.3g}" if comparison.level == comparison.level else ""
    add_note(figure, band, level, "crosses: the fits cross (grey: no lead shown)" if crossed else "")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write PNG or SVG by the suffix; the same numbers give the same bytes."""
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(RC), atomic(path) as temporary:  # type: ignore[arg-type]
        figure.savefig(temporary, format=kind, metadata=metadata)
