"""Control: from which mismatch between generator and trainer on does the precision of the language-model head matter?

a: FP32 head on neither, one or both sides, for two losses; b: the mismatch that each leaves; c: the tokens whose
ratio the loss clips; d: the dose, a generator head of fewer and fewer mantissa bits. Paper: an FP32 head on both
sides raises the baseline's ceiling from .520 to .610; that both sides are best is stated without numbers. Here: bf16
has 7 mantissa bits, coarser heads stand for kernels that disagree more.
"""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import arms_of, figure_of
from rlscape.figures.scalerl.binding import LEAST_MISMATCH
from rlscape.figures.scalerl.paper_values import FIG5
from rlscape.figures.style import ARM_STYLES, INK, add_note, describe_seeds, name_log_ticks, new_figure
from rlscape.figures.tables import error_bars, final_pass_rates, fit_estimates, interval_columns
from rlscape.results import curves
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

TARGET = "scalerl_control_head_precision"
SIDES = ("neither", "trainer", "generator", "both")
LOSSES = {"baseline": "DAPO", "cispo": "CISPO"}
"""The loss, by the arm whose look it has."""
DOSED = LOSSES | {"moe": "ScaleRL (CISPO), MoE"}
CROSS = {
    # arm: loss, sides with an FP32 head
    "baseline": ("baseline", "neither"),
    "fp32_trainer": ("baseline", "trainer"),
    "fp32_generator": ("baseline", "generator"),
    "fp32_head": ("baseline", "both"),
    "cispo": ("cispo", "neither"),
    "cispo_fp32_trainer": ("cispo", "trainer"),
    "cispo_fp32_generator": ("cispo", "generator"),
    "cispo_fp32_head": ("cispo", "both"),
}
DOSES = {
    # arm: of DOSED, mantissa bits of the generator's head
    "baseline": ("baseline", 7),
    "head_m5": ("baseline", 5),
    "head_m3": ("baseline", 3),
    "head_m2": ("baseline", 2),
    "head_m1": ("baseline", 1),
    "cispo": ("cispo", 7),
    "cispo_head_m2": ("cispo", 2),
    "cispo_head_m1": ("cispo", 1),
    "moe_bf16_head": ("moe", 7),
    "moe_head_m2": ("moe", 2),
    "moe_head_m1": ("moe", 1),
}
STAGGER = 0.06


def assemble(config: Config) -> pd.DataFrame:
    """A row per arm: loss, sides, bits, seeds, and with t limits A, final pass rate, mismatch and clip_fraction.

    ``mismatch`` is the mean |log rho| while generator and trainer hold equal weights (mean over seeds);
    ``clip_fraction`` the mean over the optimiser steps of each run.
    """
    arms = arms_of(config, figure_of(TARGET))
    frame = fit_estimates(config, arms).join(final_pass_rates(config, arms))
    records = pd.DataFrame(curves.run_records(config, arms)).T
    clipped = curves.updates(config, arms).groupby("run")["clip_fraction"].mean()
    rows = {}
    for arm in arms:
        runs = records.index[records["arm"] == arm]
        rows[arm] = interval_columns("mismatch", t_interval(records.loc[runs, "mismatch"].astype(float)))
        rows[arm] |= interval_columns("clip_fraction", t_interval(clipped[runs]))
    loss = {arm: name for arm, (name, _) in (CROSS | DOSES).items()}
    frame = frame.join(pd.DataFrame.from_dict(rows, orient="index")).assign(
        loss=pd.Series(loss),
        sides=pd.Series({arm: sides for arm, (_, sides) in CROSS.items()}),
        bits=pd.Series({arm: bits for arm, (_, bits) in DOSES.items()}),
        scale=config.scale,
    )
    return frame.reset_index()


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b above, c and d below."""
    figure = new_figure(11, 8)
    (rates, mismatch), (clipped, dose) = figure.subplots(2, 2)
    cross = frame.dropna(subset="sides")
    for ax, quantity in ((mismatch, "mismatch"), (clipped, "clip_fraction")):
        _draw_sides(ax, cross, quantity)
    for quantity, filled in (("A", True), ("final", False)):
        _draw_sides(rates, cross, quantity, filled)
        _draw_doses(dose, frame.dropna(subset="bits"), quantity, filled)
    rates.set(ylabel="pass rate")
    rates.set_title("a: ceiling A (filled) and final pass rate (open)", loc="left")
    mismatch.set(ylabel="mean |log ρ| at equal weights", yscale="log")
    mismatch.axhline(LEAST_MISMATCH, color=INK, linewidth=0.8, linestyle=":")
    mismatch.set_title("b: mismatch", loc="left")
    clipped.set(ylabel="share of tokens clipped or capped")
    clipped.set_title("c: clipping, mean over steps", loc="left")
    dose.set(xlabel="mean |log ρ| at equal weights", ylabel="pass rate", xscale="log")
    dose.axvline(LEAST_MISMATCH, color=INK, linewidth=0.8, linestyle=":")
    dose.set_title("d: the dose; numbers: mantissa bits of the generator's head", loc="left")
    for axis in (mismatch.yaxis, dose.xaxis):
        name_log_ticks(axis)
    for ax in (rates, dose):
        ax.legend(loc="best")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame["seeds"].astype(int)),
        "bars: 95% intervals over seeds",
        f"dotted: {LEAST_MISMATCH}, below which the claim is not testable",
        f"paper, DAPO: A {FIG5['baseline'].A:.3f} without, {FIG5['fp32_head'].A:.3f} with FP32 on both sides; "
        f"CISPO: {FIG5['cispo'].A:.3f} without",
    )
    return figure


def _draw_sides(ax: Axes, frame: pd.DataFrame, quantity: str, filled: bool = True) -> None:
    for index, (arm, loss) in enumerate(_present(LOSSES, frame)):
        rows = frame[frame["loss"] == arm].set_index("sides").loc[list(SIDES)]
        positions = [place + STAGGER * (2 * index - 1) for place in range(len(SIDES))]
        look = _look(arm, loss, filled) | {"linestyle": "none"}  # sides have no order
        ax.errorbar(positions, rows[quantity], yerr=error_bars(rows, quantity), **look)
    ax.set_xticks(range(len(SIDES)), SIDES)
    ax.set_xlabel("sides with an FP32 head")


def _draw_doses(ax: Axes, frame: pd.DataFrame, quantity: str, filled: bool) -> None:
    for arm, loss in _present(DOSED, frame):
        rows = frame[frame["loss"] == arm].sort_values("mismatch")
        ax.errorbar(rows["mismatch"], rows[quantity], yerr=error_bars(rows, quantity), **_look(arm, loss, filled))
        for row in rows.to_dict("records") if filled else ():
            ax.annotate(
                f"{row['bits']:.0f}",
                (row["mismatch"], row[quantity]),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7,
            )


def _present(losses: dict[str, str], frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Those of which the scale runs an arm."""
    return [(arm, loss) for arm, loss in losses.items() if arm in set(frame["loss"])]


def _look(arm: str, loss: str, filled: bool) -> dict[str, Any]:
    colour, marker = ARM_STYLES[arm]
    look = {"color": colour, "marker": marker, "markersize": 6, "linewidth": 1, "elinewidth": 0.8}
    return look | ({"label": loss} if filled else {"markerfacecolor": "white", "linestyle": "--"})
