"""What the figures of learning curves share: their frame and how a panel of it is drawn.

As in P1: stars are fitted points, crosses are later ones, and the dashed line extrapolates a fit that has
seen the first half of the compute only. Here every arm also shows its seeds and their spread.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rlscape.catalogue import ARMS, parse_run_name
from rlscape.config import Config
from rlscape.figures.style import ARM_STYLES, INK, log_compute_axis, pass_rate_axis
from rlscape.results import curves
from rlscape.scaling.forecast import Forecast
from rlscape.scaling.uncertainty import Interval, t_interval

GRID_POINTS = 60


def assemble_curves(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """The frame of a learning-curve panel, by ``kind``:

    - evaluation: a row per seed and evaluation after step 0;
    - mean: its mean over seeds, with t limits inside [0, 1]; ``later`` says that no forecast has seen the point;
    - forecast: the mean first-half fit over seeds, with t limits (one seed: its bootstrap band); refused
      forecasts enter only if all of the arm's were;
    - granted: per arm the number of forecasts that were not refused, of ``seeds``;
    - estimate: A and B of the fits to all of the run, and the forecast's A, with t limits over seeds;
    - base: the pass rate before training, R_0.
    """
    arms = tuple(arms)
    metrics = curves.metrics(config, arms)
    forecasts = curves.forecasts(config, arms)
    cutoffs = {run: forecast.cutoff for run, forecast in forecasts.items()}
    metrics = metrics[metrics["compute"] > 0].assign(later=lambda rows: rows["compute"] > rows["run"].map(cutoffs))
    evaluations = metrics[["arm", "seed", "step", "compute", "later"]].assign(
        kind="evaluation", value=metrics["pass_rate"]
    )
    frames = [evaluations, _means(evaluations)]
    fits = curves.fits(config, arms)
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
    base = curves.base_evaluation(config, config.scalerl.base)
    frames.append(pd.DataFrame({"kind": ["base"], "value": [base["pass_rate"]]}))
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def _means(evaluations: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (arm, step), group in evaluations.groupby(["arm", "step"], sort=False):
        rows.append(
            {
                "kind": "mean",
                "arm": arm,
                "step": step,
                "compute": group["compute"].mean(),
                "later": bool(group["later"].mean() > 0.5),
            }
            | _limits(t_interval(group["value"]))
        )
    means = pd.DataFrame(rows)
    return means.assign(low=means["low"].clip(0, 1), high=means["high"].clip(0, 1))


def _limits(interval: Interval) -> dict[str, float]:
    return {"value": interval.estimate, "low": interval.low, "high": interval.high, "seeds": interval.seeds}


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


def draw_curves(ax: Axes, frame: pd.DataFrame, arms: Iterable[str], notes: dict[str, str] | None = None) -> None:
    """Draw some arms of an assembled frame; ``notes`` are added to the arms' legend entries."""
    for arm in arms:
        _draw_arm(ax, frame[frame["arm"] == arm], arm, (notes or {}).get(arm, ""))
    finish_axes(ax, frame)


def finish_axes(ax: Axes, frame: pd.DataFrame) -> None:
    """Axes of compute and pass rate, with the base model's pass rate as a line."""
    base = frame.loc[frame["kind"] == "base", "value"].iloc[0]
    ax.axhline(base, color=INK, linewidth=0.8, linestyle=":")
    ax.annotate(
        "base model",
        (0, base),
        xycoords=("axes fraction", "data"),
        xytext=(3, -2),
        textcoords="offset points",
        va="top",
        fontsize=7,
        color=INK,
    )
    log_compute_axis(ax)
    pass_rate_axis(ax)


def _draw_arm(ax: Axes, frame: pd.DataFrame, arm: str, note: str) -> None:
    colour, marker = ARM_STYLES[arm]
    for _, seed in frame[frame["kind"] == "evaluation"].groupby("seed"):
        ax.plot(seed["compute"], seed["value"], color=colour, linewidth=0.5, alpha=0.3)
    mean = frame[frame["kind"] == "mean"]
    later = mean["later"].astype(bool)
    ax.fill_between(mean["compute"], mean["low"], mean["high"], color=colour, alpha=0.15, linewidth=0)
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
    """How many forecasts were refused, for the figure's note."""
    arms = frame[frame["kind"] == "granted"]
    refused = int((arms["seeds"] - arms["value"]).sum())
    note = f"forecasts refused: {refused} of {int(arms['seeds'].sum())}"
    return note + (", dotted where all of an arm's" if (arms["value"] == 0).any() else "")


def estimate(frame: pd.DataFrame, arm: str, quantity: str) -> pd.Series:
    """``value, low, high`` of an arm's fitted parameter; NaN if there is none."""
    rows = frame[(frame["kind"] == "estimate") & (frame["arm"] == arm) & (frame["quantity"] == quantity)]
    return rows[["value", "low", "high"]].iloc[0] if len(rows) else pd.Series(np.nan, ["value", "low", "high"])


def seed_counts(frame: pd.DataFrame) -> list[int]:
    """Seeds per arm."""
    return frame[frame["kind"] == "evaluation"].groupby("arm")["seed"].nunique().tolist()
