"""Evaluators of P1's claims (arXiv 2510.13786); criteria in words are in ``config/claims.yaml``."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest, chi2, fisher_exact

from rlscape.catalogue import parse_run_name
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    NOT_TESTABLE,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    Verdict,
    outcome,
    span,
)
from rlscape.config import Config
from rlscape.results import curves
from rlscape.scaling.arms import RunFit, reached_by_seed, reference_level
from rlscape.scaling.compare import compare_paired, compare_reached, equivalence_margin
from rlscape.scaling.sigmoid import crossings
from rlscape.scaling.uncertainty import Interval, t_interval


def forecast_holds(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S1. Arms: the one whose runs are forecast."""
    margin = _margin(conventions, config)
    scores = curves.forecast_scores(config, claim.arms)
    forecasts = curves.forecasts(config, claim.arms)
    unstable = _collapsed_seeds(config, claim.arms[0], margin, conventions)
    granted = [
        run
        for run, forecast in forecasts.items()
        if forecast.verdict == "forecast" and parse_run_name(run)[1] not in unstable
    ]
    errors = [scores[run]["mae"]["least_squares"] for run in granted]
    improvement = t_interval(scores[run]["mae"]["last_value"] - scores[run]["mae"]["least_squares"] for run in granted)
    good = sum(
        error <= margin and error < scores[run]["mae"]["last_value"] for run, error in zip(granted, errors, strict=True)
    )
    reason = f"{good} of {len(granted)} forecasts hold; {len(forecasts) - len(granted)} refused or unstable"
    if errors:
        reason += f"; mean error {np.mean(errors):.3f}, delta {margin:.3f}"
    verdict = _by_share(good, len(granted), claim)
    return outcome(verdict, "error of last value minus error of forecast", improvement, reason)


def ceilings_above(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S4. Arms: the higher one, then those below it."""
    margin = _margin(conventions, config)
    higher, *others = claim.arms
    runs = curves.fits(config, claim.arms)
    differences = {other: _difference(runs, higher, other, margin) for other in others}
    smallest = min(differences.values(), key=lambda interval: interval.low)
    reason = f"delta {margin:.3f}; " + ", ".join(f"{other} {span(interval)}" for other, interval in differences.items())
    return outcome(_all_above(list(differences.values()), margin), "smallest difference of A", smallest, reason)


def same_ceiling_less_compute(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S5. Arms: the faster one (the reference of C_tau), then the slower one."""
    margin = _margin(conventions, config)
    fast, slow = claim.arms
    runs = curves.fits(config, claim.arms)
    ceilings = compare_paired(_ceilings(runs, fast), _ceilings(runs, slow), margin)
    level = reference_level(runs, fast)
    ratio = compare_reached(reached_by_seed(runs, slow, level), reached_by_seed(runs, fast, level))
    if ceilings.verdict == "neutral" and ratio.verdict == "above":
        verdict = REPLICATED
    elif ceilings.verdict in ("above", "below") or ratio.verdict == "below":
        verdict = NOT_REPLICATED
    else:
        verdict = INCONCLUSIVE
    reason = f"difference of A {span(ceilings.interval)}: {ceilings.verdict} at delta {margin:.3f}"
    return outcome(verdict, "ratio of C_tau", ratio.interval, reason)


def collapses_more(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S6. Arms: the unstable one, then the stable one."""
    margin = _margin(conventions, config)
    counts, totals = zip(
        *((len(_collapsed_seeds(config, arm, margin, conventions)), config.seeds[arm]) for arm in claim.arms),
        strict=True,
    )
    table = [[count, total - count] for count, total in zip(counts, totals, strict=True)]
    p = float(fisher_exact(table, alternative="greater").pvalue)
    if p < claim.threshold("alpha"):
        verdict = REPLICATED
    elif counts[0] / totals[0] <= counts[1] / totals[1] and min(totals) >= claim.threshold("min_seeds"):
        verdict = NOT_REPLICATED
    else:
        verdict = INCONCLUSIVE
    reason = f"{counts[0]} of {totals[0]} against {counts[1]} of {totals[1]} seeds collapse, Fisher p = {p:.2g}"
    return outcome(verdict, f"share of collapsed {claim.arms[0]} seeds", _proportion(counts[0], totals[0]), reason)


def two_ceilings_above_and_equal(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S9. Arms: the lower one, then the two higher ones."""
    margin = _margin(conventions, config)
    low, *high = claim.arms
    runs = curves.fits(config, claim.arms)
    differences = [_difference(runs, arm, low, margin) for arm in high]
    pair = compare_paired(_ceilings(runs, high[0]), _ceilings(runs, high[1]), margin)
    verdict = _all_above(differences, margin)
    if pair.verdict in ("above", "below"):
        verdict = NOT_REPLICATED
    elif pair.verdict != "neutral" and verdict == REPLICATED:
        verdict = INCONCLUSIVE
    parts = [f"{arm} {span(interval)}" for arm, interval in zip(high, differences, strict=True)]
    reason = f"delta {margin:.3f}; {', '.join(parts)}; the two differ by {span(pair.interval)}: {pair.verdict}"
    return outcome(verdict, "smaller difference of A", min(differences, key=lambda interval: interval.low), reason)


def head_precision(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S10. Arms: the one with the FP32 head, then the one without, whose mismatch is the condition."""
    margin = _margin(conventions, config)
    with_fp32, without = claim.arms
    difference = _difference(curves.fits(config, claim.arms), with_fp32, without, margin)
    lack = _no_mismatch(claim, config)
    verdict = NOT_TESTABLE if lack else _all_above([difference], margin)
    return outcome(verdict, "difference of A", difference, lack or f"delta {margin:.3f}")


def early_leader_loses(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S27. Arms: the later leader, then the early one, whose mismatch is the condition."""
    margin = _margin(conventions, config)
    fits = {(run.arm, run.seed): run for run in curves.fits(config, claim.arms)}
    forecasts = {parse_run_name(run): forecast for run, forecast in curves.forecasts(config, claim.arms).items()}
    late, early = claim.arms
    seeds = [seed for arm, seed in fits if arm == late and (early, seed) in fits]
    good = 0
    for seed in seeds:
        first, second = fits[late, seed], fits[early, seed]
        end = min(first.total_compute, second.total_compute)
        gap = float(first.fit.predict(end) - second.fit.predict(end))
        foreseen = (
            forecasts[late, seed].fitted.fits["least_squares"].A - forecasts[early, seed].fitted.fits["least_squares"].A
        )
        crossed = len(crossings(first.fit.predict, second.fit.predict, end / 100, end)) > 0
        good += crossed and abs(gap) >= margin and foreseen * gap > 0
    share = _proportion(good, len(seeds))
    lack = _no_mismatch(claim, config)
    verdict = NOT_TESTABLE if lack else _by_share(good, len(seeds), claim)
    reason = lack or f"{good} of {len(seeds)} seeds cross, end apart by delta {margin:.3f} and are ranked right"
    return outcome(verdict, "share of seeds", share, reason)


def small_seed_spread(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S28. Arms: the one whose seeds are compared."""
    margin = _margin(conventions, config)
    fits = [run.fit for run in curves.fits(config, claim.arms) if np.isfinite(run.fit.B)]
    spread = _deviation([fit.A for fit in fits])
    if spread.high < margin:
        verdict = REPLICATED
    else:
        verdict = NOT_REPLICATED if spread.low > margin else INCONCLUSIVE
    others = [_deviation(values).estimate for values in ([fit.B for fit in fits], np.log([fit.C_mid for fit in fits]))]
    reason = f"delta {margin:.3f}; sd of B {others[0]:.2g}, of log C_mid {others[1]:.2g}"
    return outcome(verdict, "sd of A", spread, reason)


def collapsed(pass_rates: Sequence[float] | pd.Series, margin: float, evaluations: int) -> bool:
    """Whether a curve stays at least ``margin`` below its running best for some evaluations in a row.

    False without a positive margin: then there is no rise from which to fall.
    """
    rates = np.asarray(pass_rates)
    below = (rates <= np.maximum.accumulate(rates) - margin) & (margin > 0)
    return any(below[start : start + evaluations].all() for start in range(len(below) - evaluations + 1))


def _collapsed_seeds(config: Config, arm: str, margin: float, conventions: Conventions) -> set[int]:
    metrics = curves.metrics(config, [arm]).sort_values("compute")
    return {
        int(seed)
        for seed, rows in metrics.groupby("seed")
        if collapsed(rows["pass_rate"], margin, conventions.collapse_evaluations)
    }


def _margin(conventions: Conventions, config: Config) -> float:
    """delta; NaN, which decides nothing, if no run of the reference arm could be fitted."""
    runs = curves.fits(config, [conventions.reference_arm])
    return equivalence_margin(t_interval(run.fit.A for run in runs).estimate, runs[0].initial.pass_rate)


def _ceilings(runs: Sequence[RunFit], arm: str) -> dict[int, float]:
    return {run.seed: run.fit.A for run in runs if run.arm == arm}


def _difference(runs: Sequence[RunFit], first: str, second: str, margin: float) -> Interval:
    return compare_paired(_ceilings(runs, first), _ceilings(runs, second), margin).interval


def _all_above(intervals: Sequence[Interval], margin: float) -> Verdict:
    """Of a conjunction: all intervals above the margin, or one at or below it."""
    if all(interval.low > margin for interval in intervals):
        return REPLICATED
    return NOT_REPLICATED if any(interval.high <= margin for interval in intervals) else INCONCLUSIVE


def _by_share(good: int, total: int, claim: Claim) -> Verdict:
    if total < claim.threshold("min_seeds"):
        return INCONCLUSIVE
    return REPLICATED if good / total >= claim.threshold("min_share") else NOT_REPLICATED


def _no_mismatch(claim: Claim, config: Config) -> str:
    """Why head precision cannot matter in the last arm's runs; empty if it can."""
    records = curves.run_records(config, [claim.arms[-1]])
    mismatch = float(np.mean([record["mismatch"] for record in records.values()]))
    least = claim.threshold("min_mismatch")
    return f"mean |log rho| at equal weights {mismatch:.2g}, below {least:g}" if mismatch < least else ""


def _proportion(count: int, total: int) -> Interval:
    """A share of seeds with its Wilson interval; NaN without seeds."""
    if not total:
        return Interval(np.nan, np.nan, np.nan, 0)
    limits = binomtest(count, total).proportion_ci(method="wilson")
    return Interval(count / total, float(limits.low), float(limits.high), total)


def _deviation(values: Sequence[float] | np.ndarray) -> Interval:
    """Standard deviation over seeds with its chi-squared interval; NaN for fewer than two."""
    count = len(values)
    if count < 2:
        return Interval(np.nan, np.nan, np.nan, count)
    deviation = float(np.std(values, ddof=1))
    low, high = (deviation * np.sqrt((count - 1) / chi2.ppf(q, count - 1)) for q in (0.975, 0.025))
    return Interval(deviation, float(low), float(high), count)
