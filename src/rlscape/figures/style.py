"""How every figure looks, and how it is written: SVG, PNG and the plotted numbers as CSV.

An arm has one colour and one marker in every figure. Files are byte-identical between runs of the same
numbers (fixed SVG ids, no dates).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from rlscape.catalogue import styles
from rlscape.files import atomic

PALETTE = sns.color_palette("colorblind").as_hex()
BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = PALETTE
INDIGO, TEAL = (sns.color_palette("dark").as_hex()[index] for index in (4, 9))
COLOURS = {
    **dict(zip("blue orange green red purple brown pink grey yellow sky".split(), PALETTE, strict=True)),
    "indigo": INDIGO,
    "teal": TEAL,
}
"""By the names of :mod:`rlscape.catalogue.styles`."""
INK = "#333333"

ARM_STYLES = {arm: (COLOURS[colour], marker) for arm, (colour, marker) in styles.ARM_STYLES.items()}

VERDICT_COLOURS = {
    "replicated": GREEN,
    "not replicated": RED,
    "inconclusive": YELLOW,
    "not testable at this scale": GREY,
}

RC: dict[str, Any] = {
    "svg.hashsalt": "rlscape",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 150,
}


FEW_DECADES = 1.6
PASS_RATE_TICKS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
SMALL_PASS_RATE_TICKS = (2, 3, 4, 5, 7, 9)
WIDE_PASS_RATE_TICKS = (1, 2, 5)
WIDE = 4
"""Of pass rates, in tenths: of panels, of small ones, and where the highest is so many times the lowest."""
NOTE_CHARACTERS_PER_INCH = 18
NOTE_LINE, NOTE_MARGIN = 0.12, 0.1
"""Inches."""


def apply_style() -> None:
    """Set the theme; figure functions assume it."""
    sns.set_theme(context="paper", style="ticks", palette="colorblind", rc=RC)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches; its layout leaves the lowest strip to :func:`add_note`."""
    apply_style()
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine())


def add_note(figure: Figure, *parts: str) -> None:
    """What stands under every figure: scale, seeds, and what the paper reports. Lines break between parts."""
    longest = NOTE_CHARACTERS_PER_INCH * figure.get_figwidth()
    lines = [""]
    for part in filter(None, parts):
        longer = f"{lines[-1]}  ·  {part}" if lines[-1] else part
        if len(longer) > longest and lines[-1]:
            lines.append(part)
        else:
            lines[-1] = longer
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine), "of new_figure"
    strip = (NOTE_MARGIN + NOTE_LINE * len(lines)) / figure.get_figheight()
    layout.set(rect=(0, strip, 1, 1 - strip))
    figure.text(0.008, 0.012, "\n".join(lines), fontsize=7, color="#555555", va="bottom")


def describe_seeds(counts: Iterable[int]) -> str:
    """``[5, 5, 1]`` -> ``"seeds per arm: 1-5"``; one seed is always said."""
    counts = sorted(set(counts))
    if counts == [1]:
        return "one seed: no verdict"
    return f"seeds per arm: {counts[0]}" + (f"–{counts[-1]}" if len(counts) > 1 else "")


def describe_interval(values: pd.Series, digits: int = 3) -> str:
    """``value, low, high`` as ``"0.612 [0.600, 0.624]"``; without limits, the value alone."""
    value, low, high = (values[name] for name in ("value", "low", "high"))
    if pd.isna(value):
        return "no fit"
    limits = "" if pd.isna(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{limits}"


def name_log_ticks(axis: Axis, style: str = "g") -> None:
    """Plain numbers on a logarithmic axis, after its data are drawn.

    Named at 1, 2 and 5, or, where the data span more than :data:`FEW_DECADES`, at powers of ten.
    """
    low, high = axis.get_data_interval()
    decades = np.log10(high / low) if low > 0 else 0
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < FEW_DECADES else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:{style}}"))
    axis.set_minor_formatter(NullFormatter())


def log_compute_axis(axes: Axes, label: str = "compute (virtual accelerator-seconds)") -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5."""
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" if value < 1e4 else f"{value / 1000:g}k")
    )
    axes.xaxis.set_minor_formatter(NullFormatter())


def small_numbers_axis(axes: Axes) -> None:
    """A logarithmic x axis of small numbers, such as learning rates, after they are drawn: ``2e-04``."""
    axes.set_xscale("log")
    name_log_ticks(axes.xaxis, ".0e")


def pass_rate_axis(axes: Axes, label: str = "validation pass rate", small: bool = False) -> None:
    """A logarithmic pass-rate axis, as in the paper, after the rates are drawn; linear where one is zero."""
    axes.set_ylabel(label)
    drawn = [shared.dataLim for shared in axes.get_shared_y_axes().get_siblings(axes)]
    low, high = min(limits.y0 for limits in drawn), max(limits.y1 for limits in drawn)
    if low > 0:
        ticks: tuple[float, ...] = SMALL_PASS_RATE_TICKS if small else PASS_RATE_TICKS
        if high > WIDE * low:
            ticks = WIDE_PASS_RATE_TICKS
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=ticks))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def draw_seeds_and_band(axes: Axes, seeds: pd.DataFrame, mean: pd.DataFrame, x: str, colour: str) -> None:
    """Thin lines of every seed, and the band of ``mean``'s limits ``low`` and ``high``, against a column of both."""
    for _, seed in seeds.groupby("seed"):
        axes.plot(seed[x], seed["value"], color=colour, linewidth=0.5, alpha=0.3)
    axes.fill_between(mean[x], mean["low"], mean["high"], color=colour, alpha=0.15, linewidth=0)


def whole_numbers_axis(axes: Axes) -> None:
    """Ticks of the x axis at whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _settle(figure: Figure) -> None:
    """Lay out once and for all, without the last bits, in which the layout's solver varies."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax in figure.axes:
        ax.set_position(Bbox(ax.get_position().get_points().round(9)))


def write_figure(figure: Figure, frame: pd.DataFrame, stem: Path) -> None:
    """Write ``<stem>.svg``, ``<stem>.png`` and the plotted numbers, ``<stem>.csv``."""
    with matplotlib.rc_context(RC):  # type: ignore[arg-type]
        _settle(figure)
        with atomic(stem.with_name(f"{stem.name}.svg")) as path:
            figure.savefig(path, format="svg", metadata={"Date": None})
        with atomic(stem.with_name(f"{stem.name}.png")) as path:
            figure.savefig(path, format="png", metadata={"Software": None})
    with atomic(stem.with_name(f"{stem.name}.csv")) as path:
        frame.to_csv(path, index=False)
