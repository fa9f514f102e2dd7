"""What a fit to part of a run says about the rest, and how much it varies."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import chi2

from rlscape.claims.parts import Part, above, below, conclude
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    NOT_TESTABLE,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    outcome,
    span,
)
from rlscape.claims.scalerl.shared import (
    by_share,
    ceiling_difference,
    collapsed_runs,
    margin_from,
    margin_of,
    no_mismatch,
    proportion,
    stable_fits,
)
from rlscape.paths import parse_run_name
from rlscape.results import curves
from rlscape.scaling.arm_comparison import CEILING_REACH
from rlscape.scaling.sigmoid import crossings
from rlscape.scaling.uncertainty import Interval, t_interval
from rlscape.scaling.windows import SIGMOID_WINDOWS
from rlscape.settings.scale import Config


def forecast_holds(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S1. Arms: those whose runs are forecast, each on its own."""
    margin = margin_of(conventions, config)
    judged = [_forecasts_of(arm, "math", margin, conventions, config) for arm in claim.arms]
    parts = [part for parts, _ in judged for part in parts]
    return conclude(parts, f"delta {margin:.3f}; " + "; ".join(note for _, note in judged))


def both_tasks_forecast(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S24. Arms: the one on both tasks, then the one on math alone."""
    joint, alone = claim.arms
    code = curves.fits(config, [joint], "code")
    A, R_0 = (t_interval(getattr(run.fit, name) for run in code).estimate for name in ("A", "R_0"))
    margins: dict[str, float] = {"math": margin_of(conventions, config), "code": margin_from(code)}
    judged = [_forecasts_of(joint, task, margin, conventions, config) for task, margin in margins.items()]
    difference = ceiling_difference(curves.fits(config, claim.arms), joint, alone)
    notes = [
        *(note for _, note in judged),
        *(f"delta on {task} {margin:.3f}" for task, margin in margins.items()),
        f"A on math less that of math alone {span(difference)}",
    ]
    least = claim.threshold("min_rise")
    lack = "" if A - R_0 >= least else f"A on code {A:.3f}, less than {least:g} above R_0 {R_0:.3f}"
    return conclude([part for parts, _ in judged for part in parts], "; ".join(notes), lack)


def _forecasts_of(
    arm: str, task: str, margin: float, conventions: Conventions, config: Config
) -> tuple[list[Part], str]:
    """Whether an arm's forecasts of a task hold, and what was counted."""
    scores = curves.forecast_scores(config, [arm], task)
    forecasts = curves.forecasts(config, [arm], task)
    unstable = collapsed_runs(config, [arm], margin, conventions, task)
    granted = [run for run, forecast in forecasts.items() if forecast.verdict == "forecast" and run not in unstable]
    errors = [scores[run]["mae"]["least_squares"] for run in granted]
    last_values = [scores[run]["mae"]["last_value"] for run in granted]
    error = t_interval(errors)
    improvement = t_interval(last_value - own for own, last_value in zip(errors, last_values, strict=True))
    parts = [
        Part(f"error of the forecast ({arm}, {task})", error, below(error, margin)),
        Part(f"error of last value minus error of forecast ({arm}, {task})", improvement, above(improvement)),
    ]
    refused = len(forecasts) - len(granted)
    return parts, f"{arm} on {task}: {len(granted)} granted, {refused} refused or unstable"


def sigmoid_more_robust(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S2. Arms: those whose stable runs are fitted, where half a run is enough."""
    margin = margin_of(conventions, config)
    arms = _settled(claim, margin, conventions, config)
    if not arms:
        return _too_short()
    windows = curves.windows(config, arms)
    windows = _without_bounds(windows[windows["high"] == claim.threshold("window_end")])
    metrics = curves.metrics(config, claim.arms).sort_values("compute").groupby("run")
    ends = metrics["pass_rate"].last()
    windows["error"] = (windows["end"] - windows["run"].map(ends)).abs()
    by_form = windows.fillna({"error": np.inf}).groupby(["run", "form"])
    errors = by_form["error"].mean().unstack()
    ranges = by_form["A"].agg(_range).unstack()
    better = (errors["sigmoid"] < errors["power_law"]) & (ranges["sigmoid"] < ranges["power_law"])
    note = ", ".join(
        f"median {name} {table['sigmoid'].median():.3f}, power law {table['power_law'].median():.3f}"
        for name, table in {"error at the end": errors, "range of A": ranges}.items()
    )
    return _share_of_curves(better, claim, margin, conventions, config, note)


def _settled(claim: Claim, margin: float, conventions: Conventions, config: Config) -> list[str]:
    """The arms whose half runs reach as far as the paper's: 50k GPU-hours at a C_mid of 10,909.

    By the geometric mean of C_mid over seeds, from the fits to all of a run.
    """
    runs = stable_fits(config, claim.arms, margin, conventions)
    table = pd.DataFrame([(run.arm, run.total_compute, np.log(run.fit.C_mid)) for run in runs])
    by_arm = table.groupby(0)
    reach = claim.threshold("window_end") * by_arm[1].min() / np.exp(by_arm[2].mean())
    return [arm for arm in claim.arms if reach.get(arm, 0.0) >= CEILING_REACH]


def _too_short() -> Outcome:
    reason = f"no arm's half run reaches {CEILING_REACH:g} midpoints"
    return outcome(NOT_TESTABLE, "share of runs", proportion(0, 0), reason)


def _without_bounds(windows: pd.DataFrame) -> pd.DataFrame:
    """With NaN in place of an A that lies on its bound: a fit that puts it there has not found one."""
    return windows.assign(A=windows["A"].where(["A" not in edge for edge in windows["at_edge"]]))


def window_hardly_matters(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S3. Arms: those whose stable runs are fitted, where half a run is enough."""
    margin = margin_of(conventions, config)
    arms = _settled(claim, margin, conventions, config)
    if not arms:
        return _too_short()
    if np.isnan(margin):
        return outcome(INCONCLUSIVE, "share of runs", proportion(0, 0), "delta is not known")
    windows = curves.windows(config, arms)
    wanted = pd.MultiIndex.from_frame(windows[["low", "high"]]).isin(SIGMOID_WINDOWS)
    windows = _without_bounds(windows[wanted & (windows["form"] == "sigmoid")])
    ranges = windows.groupby("run")[["A", "B"]].agg(_range)
    note = f"delta {margin:.3f}; median range of A {ranges['A'].median():.3f}, of B {ranges['B'].median():.2g}"
    return _share_of_curves(ranges["A"] <= margin, claim, margin, conventions, config, note)


def _range(values: pd.Series) -> float:
    """Largest less smallest; infinite if a value is missing."""
    return float(values.max() - values.min()) if values.notna().all() else np.inf


def _share_of_curves(
    good: "pd.Series[bool]", claim: Claim, margin: float, conventions: Conventions, config: Config, note: str
) -> Outcome:
    """Judges the share of runs that are good, without collapsed ones; the interval is Wilson's."""
    unstable = collapsed_runs(config, claim.arms, margin, conventions)
    good = good[~good.index.isin(unstable)]
    seeds = len({parse_run_name(run)[1] for run in good.index})
    share = replace(proportion(int(good.sum()), len(good)), seeds=seeds)
    verdict = by_share(int(good.sum()), len(good), seeds, claim)
    arms = ", ".join(dict.fromkeys(parse_run_name(run)[0] for run in good.index))
    return outcome(verdict, "share of runs", share, f"{good.sum()} of {len(good)} stable runs of {arms}; {note}")


def early_leader_loses(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S27. Arms: the later leader, then the early ones, whose mismatch is the condition."""
    margin = margin_of(conventions, config)
    late, *leaders = claim.arms
    parts = []
    for early in leaders:
        overtaken = _overtaken_as_foreseen(config, late, early, margin)
        share = proportion(sum(overtaken), len(overtaken))
        parts.append(
            Part(f"share of seeds ({early})", share, by_share(sum(overtaken), len(overtaken), len(overtaken), claim))
        )
    note = f"seeds that cross, end apart by delta {margin:.3f} and are ranked right"
    return conclude(parts, note, no_mismatch(claim, config, leaders))


def _overtaken_as_foreseen(config: Config, late: str, early: str, margin: float) -> list[bool]:
    """Per seed, whether the fitted curves cross, end apart, and are ranked so by the fits to their first halves."""
    fits = {(run.arm, run.seed): run for run in curves.fits(config, (late, early))}
    halves = {
        parse_run_name(run): forecast.fitted.fits["least_squares"]
        for run, forecast in curves.forecasts(config, (late, early)).items()
    }
    overtaken = []
    for seed in (seed for arm, seed in fits if arm == late and (early, seed) in fits):
        first, second = fits[late, seed], fits[early, seed]
        end = min(first.total_compute, second.total_compute)
        gap = float(first.fit.predict(end) - second.fit.predict(end))
        foreseen = halves[late, seed].A - halves[early, seed].A
        crossed = len(crossings(first.fit.predict, second.fit.predict, end / 100, end)) > 0
        overtaken.append(crossed and abs(gap) >= margin and foreseen * gap > 0)
    return overtaken


def small_seed_spread(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S28. Arms: the one whose seeds are compared."""
    margin = margin_of(conventions, config)
    fits = [run.fit for run in curves.fits(config, claim.arms) if np.isfinite(run.fit.B)]
    spread = _deviation([fit.A for fit in fits])
    if np.isnan(margin):
        verdict = INCONCLUSIVE
    elif spread.high < margin:
        verdict = REPLICATED
    else:
        verdict = NOT_REPLICATED if spread.low > margin else INCONCLUSIVE
    others = [_deviation(values).estimate for values in ([fit.B for fit in fits], np.log([fit.C_mid for fit in fits]))]
    reason = f"delta {margin:.3f}; sd of B {others[0]:.2g}, of log C_mid {others[1]:.2g}"
    return outcome(verdict, "sd of A", spread, reason)


def _deviation(values: Sequence[float] | np.ndarray) -> Interval:
    """Standard deviation over seeds with its chi-squared interval; NaN for fewer than two."""
    count = len(values)
    if count < 2:
        return Interval(np.nan, np.nan, np.nan, count)
    deviation = float(np.std(values, ddof=1))
    low, high = (deviation * np.sqrt((count - 1) / chi2.ppf(q, count - 1)) for q in (0.975, 0.025))
    return Interval(deviation, float(low), float(high), count)
