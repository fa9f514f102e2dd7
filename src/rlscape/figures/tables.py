"""Tables drawn as figures, and the estimates per arm that tables and controls show.

A quantity with its 95% interval over seeds takes three columns of a frame: ``A``, ``A_low``, ``A_high``.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rlscape.figures.style import INK, describe_interval
from rlscape.results import curves
from rlscape.scaling.uncertainty import Interval, log_t_interval, t_interval
from rlscape.settings.scale import Config


def interval_columns(quantity: str, interval: Interval) -> dict[str, float]:
    """A quantity's three columns; the limits are NaN for one seed."""
    return {quantity: interval.estimate, f"{quantity}_low": interval.low, f"{quantity}_high": interval.high}


def interval_cell(row: pd.Series, quantity: str, digits: int = 3) -> str:
    """A quantity's three columns as :func:`rlscape.figures.style.describe_interval` writes them."""
    names = {quantity: "value", f"{quantity}_low": "low", f"{quantity}_high": "high"}
    return describe_interval(row[list(names)].rename(names), digits)


def error_bars(rows: pd.DataFrame, quantity: str) -> list[pd.Series]:
    """Distances from a quantity to its limits, for ``Axes.errorbar``; none for one seed."""
    value = rows[quantity]
    return [(value - rows[f"{quantity}_low"]).fillna(0), (rows[f"{quantity}_high"] - value).fillna(0)]


def fit_estimates(config: Config, arms: Iterable[str], task: str = "math") -> pd.DataFrame:
    """A row per arm (the index): seeds, and A, B and C_mid of the fits to all of its runs; C_mid on the logarithm."""
    arms = tuple(arms)
    fits = curves.fits(config, arms, task)
    rows = {}
    for arm in arms:
        of_arm = [run.fit for run in fits if run.arm == arm]
        rows[arm] = (
            {"seeds": len(of_arm)}
            | interval_columns("A", t_interval(fit.A for fit in of_arm))
            | interval_columns("B", t_interval(fit.B for fit in of_arm))
            | interval_columns("C_mid", log_t_interval(fit.C_mid for fit in of_arm))
        )
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")


def final_pass_rates(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """A row per arm (the index): ``final``, the pass rate at the last evaluation."""
    arms = tuple(arms)
    metrics = curves.metrics(config, arms)
    last = metrics.loc[metrics.groupby("run")["compute"].idxmax()]
    rows = {arm: interval_columns("final", t_interval(last.loc[last["arm"] == arm, "pass_rate"])) for arm in arms}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")


def draw_table(
    ax: Axes,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[float],
    colours: Sequence[str | None] | None = None,
    bold: Sequence[bool] | None = None,
    size: float = 8,
) -> None:
    """Fill an axes with a table of left-aligned text; the first row is the header.

    Args:
        widths: relative column widths.
        colours: of the first cell of every row; None is the usual ink.
        bold: which rows are set in bold.
    """
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(len(rows) + 1, 0))
    left = np.concatenate([[0], np.cumsum(widths)[:-1]]) / sum(widths)
    for x, text in zip(left, header, strict=True):
        ax.text(x, 0.5, text, fontsize=size, fontweight="bold", va="center")
    ax.axhline(1, color=INK, linewidth=0.8)
    for index, row in enumerate(rows):
        weight = "bold" if bold and bold[index] else "normal"
        for column, (x, text) in enumerate(zip(left, row, strict=True)):
            colour = colours[index] if colours and column == 0 else None
            ax.text(x, index + 1.5, text, fontsize=size, fontweight=weight, va="center", color=colour or INK)
    ax.axhline(len(rows) + 1, color=INK, linewidth=0.8)
