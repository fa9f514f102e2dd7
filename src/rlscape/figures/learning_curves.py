"""What the figures of learning curves share: their frame and how a panel of it is drawn.

As in P1: stars are fitted points, crosses are later ones, and the dashed line extrapolates a fit that has
seen the first half of the compute only. Here every arm also shows its seeds and their spread. Downstream
curves (AIME-24 and LiveCodeBench there, harder held-out problems here) have no fit.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from rlscape.catalogue import ARMS, base_of
from rlscape.figures.compute_units import draw_units
from rlscape.figures.scalerl.paper_values import Fit
from rlscape.figures.style import (
    ARM_STYLES,
    INK,
    add_note,
    describe_interval,
    describe_seeds,
    draw_seeds_and_band,
    log_compute_axis,
    pass_rate_axis,
)
from rlscape.paths import parse_run_name
from rlscape.results import curves
from rlscape.scaling.forecast import Forecast
from rlscape.scaling.uncertainty import Interval, t_interval
from rlscape.settings.scale import Config
from rlscape.tasks.base import Lengths, TaskSettings, column_prefix

GRID_POINTS = 60
LEGEND_TITLE = "arm: A [95% interval], B of the fit to all of the run"
LEGEND_DISTANCE = 0.5
"""Inches from the axes to the legend below them: room for ticks and label."""
LEGEND_SIZE = 7.5
UNITS = ("tokens_generated", "flops")
"""Columns of ``metrics.parquet`` that stand for compute elsewhere, beside the updates (``step``)."""
NORMAL_LIMIT = 1.96
"""Standard errors to either side of a 95% interval."""


def assemble_curves(config: Config, arms: Iterable[str], task: str = "math") -> pd.DataFrame:
    """The frame of a learning-curve panel, by ``kind``:

    - evaluation: a row per seed and evaluation after step 0, also by step, tokens generated and FLOPs;
    - mean: its mean over seeds, with t limits inside [0, 1]; ``later`` says that no forecast has seen the point;
    - end: a row per seed, its last pass rate, and the ceiling ``forecast_A`` of its forecast (NaN: refused);
    - forecast: the mean first-half fit over seeds, with t limits (one seed: its bootstrap band); refused
      forecasts enter only if all of the arm's were;
    - granted: per arm the number of forecasts that were not refused, of ``seeds``;
    - estimate: A and B of the fits to all of the run, and the forecast's A, with t limits over seeds;
    - base: per arm the pass rate of its base model (``base``) before training, R_0.
    """
    arms = tuple(arms)
    metrics = curves.metrics(config, arms)
    forecasts = curves.forecasts(config, arms, task)
    cutoffs = {run: forecast.cutoff for run, forecast in forecasts.items()}
    metrics = metrics[metrics["compute"] > 0].assign(later=lambda rows: rows["compute"] > rows["run"].map(cutoffs))
    evaluations = metrics[["arm", "seed", "step", "compute", *UNITS, "later"]].assign(
        kind="evaluation", value=metrics[f"{column_prefix(task)}pass_rate"]
    )
    frames = [evaluations, _as_rates(means_over_seeds(evaluations, "mean")), _ends(evaluations, forecasts)]
    fits = curves.fits(config, arms, task)
    for arm in arms:
        of_arm = [forecast for run, forecast in forecasts.items() if parse_run_name(run)[0] == arm]
        ceilings = {
            quantity: [getattr(run.fit, quantity) for run in fits if run.arm == arm] for quantity in ("A", "B")
        } | {"forecast_A": [forecast.fitted.fits["least_squares"].A for forecast in _granted(of_arm)]}
        frames += [
            pd.DataFrame({"kind": "estimate", "quantity": quantity, **_limits(t_interval(values))}, index=[0]).assign(
                arm=arm
            )
            for quantity, values in ceilings.items()
        ]
        granted = {"kind": "granted", "value": len(_granted(of_arm)), "seeds": len(of_arm)}
        frames.append(pd.DataFrame(granted, index=[0]).assign(arm=arm))
        frames.append(_mean_forecast(of_arm, evaluations[evaluations["arm"] == arm]).assign(arm=arm))
    frames.append(rates_of_bases(config, arms, "base", f"{column_prefix(task)}pass_rate"))
    return pd.concat(frames, ignore_index=True).assign(task=task, scale=config.scale)


def assemble_downstream(config: Config, arms: Iterable[str], task: str = "math") -> pd.DataFrame:
    """The frame of a downstream panel, by ``kind``:

    - downstream: a row per seed and evaluation after step 0;
    - downstream_mean: its mean over seeds, with t limits inside [0, 1] (one seed: its sampling error);
    - downstream_base: per arm the pass rate of its base model, and the ``operations`` of the problems;
    - downstream_chance: per arm the pass rate of the best constant answer; NaN where the task has none.
    """
    arms = tuple(arms)
    metrics = curves.metrics(config, arms)
    metrics = metrics[metrics["compute"] > 0]
    column = f"{column_prefix(task)}downstream_pass_rate"
    evaluations = metrics[["arm", "seed", "step", "compute"]].assign(
        kind="downstream", value=metrics[column], standard_error=metrics[f"{column}_se"]
    )
    frames = [
        evaluations,
        _as_rates(means_over_seeds(evaluations, "downstream_mean")),
        rates_of_bases(config, arms, "downstream_base", column).assign(operations=_difficulty(config.tasks[task])),
        rates_of_bases(config, arms, "downstream_chance", f"{column_prefix(task)}chance_rate"),
    ]
    return pd.concat(frames, ignore_index=True).assign(task=task, scale=config.scale)


def _difficulty(settings: TaskSettings) -> str:
    """Of the downstream problems."""
    if not isinstance(settings, Lengths):
        return "harder problems"
    least, most = settings.downstream_operations
    return f"{least}–{most} operations" if least < most else f"{most} operations"


def rates_of_bases(config: Config, arms: Iterable[str], kind: str, key: str) -> pd.DataFrame:
    """kind, arm, base, value: a number of the evaluation of each arm's base model, NaN if it has none."""
    rows = []
    for arm in arms:
        base = base_of(config, arm)
        value = curves.base_evaluation(config, base).get(key, np.nan)
        rows.append({"kind": kind, "arm": arm, "base": base, "value": value})
    return pd.DataFrame(rows)


def means_over_seeds(evaluations: pd.DataFrame, kind: str) -> pd.DataFrame:
    """A row of ``kind`` per arm and step: mean and t limits of ``value``, mean compute, and what most say of ``later``;
    if they are columns, the means of :data:`UNITS`.

    One seed has its sampling error as limits if ``standard_error`` is a column, else none.
    """
    rows = []
    for (arm, step), group in evaluations.groupby(["arm", "step"], sort=False):
        row = {"kind": kind, "arm": arm, "step": step, "compute": group["compute"].mean()}
        row |= {unit: group[unit].mean() for unit in UNITS if unit in group}
        row |= _limits(t_interval(group["value"]))
        if "later" in group:
            row["later"] = bool(group["later"].mean() > 0.5)
        if "standard_error" in group and len(group) == 1:
            half = NORMAL_LIMIT * group["standard_error"].iloc[0]
            row |= {"low": row["value"] - half, "high": row["value"] + half}
        rows.append(row)
    return pd.DataFrame(rows)


def _as_rates(means: pd.DataFrame) -> pd.DataFrame:
    return means.assign(low=means["low"].clip(0, 1), high=means["high"].clip(0, 1))


def _limits(interval: Interval) -> dict[str, float]:
    return {"value": interval.estimate, "low": interval.low, "high": interval.high, "seeds": interval.seeds}


def _ends(evaluations: pd.DataFrame, forecasts: Mapping[str, Forecast]) -> pd.DataFrame:
    last = evaluations.loc[evaluations.groupby(["arm", "seed"], sort=False)["compute"].idxmax()]
    ceilings = {
        parse_run_name(run): forecast.fitted.fits["least_squares"].A
        for run, forecast in forecasts.items()
        if _granted([forecast])
    }
    of_runs = [ceilings.get(run, np.nan) for run in zip(last["arm"], last["seed"], strict=True)]
    return last[["arm", "seed", "value"]].assign(kind="end", forecast_A=of_runs)


def _granted(forecasts: list[Forecast]) -> list[Forecast]:
    return [forecast for forecast in forecasts if forecast.verdict == "forecast"]


def _mean_forecast(forecasts: list[Forecast], evaluations: pd.DataFrame) -> pd.DataFrame:
    fitted = [forecast for forecast in forecasts if np.isfinite(forecast.fitted.fits["least_squares"].A)]
    shown = _granted(fitted) or fitted
    if not shown:
        return pd.DataFrame()
    cutoff = float(np.mean([forecast.cutoff for forecast in shown]))
    compute = np.geomspace(evaluations["compute"].min(), evaluations["compute"].max(), GRID_POINTS)
    compute = np.sort(np.append(compute, cutoff))
    predicted = np.array([forecast.fitted.fits["least_squares"].predict(compute) for forecast in shown])
    rows = pd.DataFrame(_limits(t_interval(column)) for column in predicted.T)
    bands = shown[0].fitted.bands
    if len(shown) == 1 and bands.compute:
        for limit in ("low", "high"):
            rows[limit] = np.interp(np.log(compute), np.log(bands.compute), getattr(bands, limit))
    return rows.assign(kind="forecast", compute=compute, later=compute >= cutoff)


def draw_curves(ax: Axes, frame: pd.DataFrame, arms: Collection[str], notes: Mapping[str, str] | None = None) -> None:
    """Draw some arms of an assembled frame; ``notes`` are added to the arms' legend entries."""
    frame = frame[frame["arm"].isin(arms)]
    for arm in arms:
        _draw_arm(ax, frame[frame["arm"] == arm], arm, (notes or {}).get(arm, ""))
    finish_axes(ax, frame)


def draw_panel(
    ax: Axes,
    frame: pd.DataFrame,
    title: str,
    arms: Collection[str],
    paper: Mapping[str, Fit],
    settings: Mapping[str, str] | None = None,
) -> None:
    """A panel of learning curves with its title, and below it our A and B of every arm beside the paper's.

    Args:
        paper: arm -> what the paper states; arms without an entry show our numbers alone.
        settings: arm -> what the arm stands for in this panel, where its name does not say it.
    """
    notes = {arm: f"{_setting(arm, settings)}: {describe_fit(frame, arm, paper.get(arm))}" for arm in arms}
    draw_curves(ax, frame, arms, notes)
    add_title_and_legend(ax, title, LEGEND_TITLE + (" (paper: A, B)" if any(arm in paper for arm in arms) else ""))


def draw_downstream(
    ax: Axes, frame: pd.DataFrame, arms: Collection[str], settings: Mapping[str, str] | None = None
) -> None:
    """Downstream curves of some arms: seeds, mean and interval; no fit. ``settings`` as in :func:`draw_panel`."""
    frame = frame[frame["arm"].isin(arms)]
    for arm in arms:
        colour, marker = ARM_STYLES[arm]
        of_arm = frame[frame["arm"] == arm]
        mean = of_arm[of_arm["kind"] == "downstream_mean"]
        draw_seeds_and_band(ax, of_arm[of_arm["kind"] == "downstream"], mean, "compute", colour)
        ax.plot(
            mean["compute"],
            mean["value"],
            color=colour,
            linewidth=1.2,
            marker=marker,
            markersize=6,
            markeredgecolor="white",
            markevery=[-1],
            label=ARMS[arm].label + _setting(arm, settings),
        )
    _draw_levels(ax, frame[frame["kind"] == "downstream_base"], "base model")
    _draw_levels(ax, frame[frame["kind"] == "downstream_chance"], "best constant answer", right=True)
    log_compute_axis(ax)
    ax.set_ylabel(f"downstream pass rate ({frame['operations'].dropna().iloc[0]})")


def assemble_with_downstream(config: Config, arms: Collection[str]) -> pd.DataFrame:
    """:func:`assemble_curves` and :func:`assemble_downstream`, one below the other."""
    return pd.concat([assemble_curves(config, arms), assemble_downstream(config, arms)], ignore_index=True)


def draw_with_downstream(
    figure: Figure,
    frame: pd.DataFrame,
    paper: Mapping[str, Fit],
    settings: Mapping[str, str],
    names: tuple[str, str] = ("a", "b"),
) -> None:
    """Two panels, the validation set (:func:`draw_panel`) and downstream, and below the first in other units.

    The arms are those of ``paper``.
    """
    grid = figure.add_gridspec(2, 2, height_ratios=(2.6, 1))
    validation, downstream = (figure.add_subplot(grid[0, column]) for column in (0, 1))
    draw_units(figure, grid[1, :], frame, paper, names[0])
    draw_panel(validation, frame, f"{names[0]}: validation set", paper, paper, settings)
    draw_downstream(downstream, frame, paper, settings)
    add_title_and_legend(downstream, f"{names[1]}: downstream")


def _setting(arm: str, settings: Mapping[str, str] | None) -> str:
    return f", {settings[arm]}" if settings and arm in settings else ""


def add_title_and_legend(ax: Axes, title: str, legend_title: str | None = None) -> None:
    """The title on the left, and the legend below the axes, where no curve is."""
    ax.set_title(title, loc="left")
    below = ax.transAxes + ScaledTranslation(0, -LEGEND_DISTANCE, ax.figure.dpi_scale_trans)
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=below,
        borderaxespad=0,
        fontsize=LEGEND_SIZE,
        handlelength=1.5,
        title=legend_title,
        title_fontsize=LEGEND_SIZE,
        alignment="left",
    )


def describe_fit(frame: pd.DataFrame, arm: str, paper: Fit | None = None) -> str:
    """:data:`LEGEND_TITLE` filled in: ``0.612 [0.600, 0.624], 1.92 (0.610, 1.97)``, without what is not stated."""
    ours = describe_interval(estimate(frame, arm, "A"))
    if np.isfinite(B := estimate(frame, arm, "B")["value"]):
        ours += f", {B:.2f}"
    if paper is None:
        return ours
    return ours + f" ({paper.A:.3f}" + (f", {paper.B:.2f})" if np.isfinite(paper.B) else ")")


def finish_axes(ax: Axes, frame: pd.DataFrame) -> None:
    """Axes of compute and pass rate, with the base model's pass rate as a line."""
    _draw_levels(ax, frame[frame["kind"] == "base"], "base model")
    log_compute_axis(ax)
    pass_rate_axis(ax)


def _draw_levels(ax: Axes, levels: pd.DataFrame, name: str, right: bool = False) -> None:
    """A horizontal line per value of base models, named on one side; several are told apart by the base's name."""
    levels = levels.dropna(subset="value").drop_duplicates("value")
    for row in levels.to_dict("records"):
        ax.axhline(row["value"], color=INK, linewidth=0.8, linestyle="--" if right else ":")
        ax.annotate(
            f"{name}, {row['base']}" if len(levels) > 1 else name,
            (float(right), row["value"]),
            xycoords=("axes fraction", "data"),
            xytext=(-3 if right else 3, -2),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            fontsize=7,
            color=INK,
        )


def _draw_arm(ax: Axes, frame: pd.DataFrame, arm: str, note: str) -> None:
    colour, marker = ARM_STYLES[arm]
    mean = frame[frame["kind"] == "mean"]
    later = mean["later"].astype(bool)
    draw_seeds_and_band(ax, frame[frame["kind"] == "evaluation"], mean, "compute", colour)
    ax.scatter(mean["compute"][~later], mean["value"][~later], color=colour, marker="*", s=36, linewidth=0)
    ax.scatter(mean["compute"][later], mean["value"][later], color=colour, marker="x", s=20, linewidth=1)
    ax.plot(
        mean["compute"].iloc[-1:],
        mean["value"].iloc[-1:],
        color=colour,
        marker=marker,
        markersize=7,
        markeredgecolor="white",
        label=ARMS[arm].label + note,
    )
    refused = (frame.loc[frame["kind"] == "granted", "value"] == 0).any()
    forecast = frame[frame["kind"] == "forecast"]
    seen, beyond = forecast[~forecast["later"].astype(bool)], forecast[forecast["later"].astype(bool)]
    ax.plot(
        [*seen["compute"], *beyond["compute"][:1]],
        [*seen["value"], *beyond["value"][:1]],
        color=colour,
        linewidth=1.2,
    )
    ax.plot(beyond["compute"], beyond["value"], color=colour, linewidth=1.2, linestyle=":" if refused else "--")
    if not refused:
        ax.fill_between(
            beyond["compute"],
            beyond["low"],
            beyond["high"],
            facecolor="none",
            edgecolor=colour,
            hatch="////",
            alpha=0.35,
            linewidth=0,
        )


def forecast_note(frame: pd.DataFrame) -> str:
    """For the figure's note: how many forecasts were refused, and how many of the others the run's end exceeds."""
    arms = frame[frame["kind"] == "granted"]
    refused = int((arms["seeds"] - arms["value"]).sum())
    note = f"forecasts refused: {refused} of {int(arms['seeds'].sum())}"
    note += ", dotted where all of an arm's" if (arms["value"] == 0).any() else ""
    ends = frame[frame["kind"] == "end"].dropna(subset="forecast_A")
    below = int((ends["forecast_A"] < ends["value"]).sum())
    return note + (f"; A below the observed end: {below} of {len(ends)} granted" if len(ends) else "")


def estimate(frame: pd.DataFrame, arm: str, quantity: str) -> pd.Series:
    """``value, low, high`` of an arm's fitted parameter; NaN if there is none."""
    rows = frame[(frame["kind"] == "estimate") & (frame["arm"] == arm) & (frame["quantity"] == quantity)]
    return rows[["value", "low", "high"]].iloc[0] if len(rows) else pd.Series(np.nan, ["value", "low", "high"])


def seed_counts(frame: pd.DataFrame) -> list[int]:
    """Seeds per arm."""
    return frame[frame["kind"].isin(("evaluation", "downstream"))].groupby("arm")["seed"].nunique().tolist()


def add_curve_note(figure: Figure, frame: pd.DataFrame, *parts: str) -> None:
    """The note of a figure of learning curves: scale, seeds, refused forecasts, and ``parts``."""
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(seed_counts(frame)),
        forecast_note(frame),
        *parts,
        "paper: 8B, one seed",
    )
