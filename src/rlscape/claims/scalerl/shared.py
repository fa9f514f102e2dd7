"""What the evaluators of P1's claims share: the margin, and paired comparisons of arms."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.stats import binomtest

from rlscape.claims.parts import Part, above, beyond_nothing, neutral
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    REPLICATED,
    Claim,
    Conventions,
    Verdict,
)
from rlscape.paths import run_name
from rlscape.results import curves
from rlscape.scaling.arm_comparison import CEILING_REACH, PairedComparison, compare_reached, equivalence_margin
from rlscape.scaling.arms import RunFit, reached_by_seed
from rlscape.scaling.stability import collapsed
from rlscape.scaling.uncertainty import Interval, log_t_interval, paired_differences, t_interval
from rlscape.settings.scale import Config
from rlscape.tasks.base import column_prefix


def by_share(good: int, total: int, seeds: int, claim: Claim) -> Verdict:
    """Whether at least ``min_share`` are good, given ``min_seeds`` seeds or more.

    Also Wilson's interval decides: all of it above one half where the claim holds, as with few runs a share of one half
    gives ``min_share`` by chance; all of it below ``min_share`` where it does not.
    """
    least = claim.threshold("min_share")
    interval = proportion(good, total)
    if seeds < claim.threshold("min_seeds"):
        return INCONCLUSIVE
    if interval.estimate >= least and interval.low > 0.5:
        return REPLICATED
    return NOT_REPLICATED if interval.high < least else INCONCLUSIVE


def within_unit(share: Interval) -> Interval:
    """The interval of a share, as far as it lies in [0, 1]."""
    low, high = (float(np.clip(limit, 0, 1)) for limit in (share.low, share.high))
    return Interval(share.estimate, low, high, share.seeds)


def proportion(count: int, total: int) -> Interval:
    """A share of seeds with its Wilson interval; NaN without seeds."""
    if not total:
        return Interval(np.nan, np.nan, np.nan, 0)
    limits = binomtest(count, total).proportion_ci(method="wilson")
    return Interval(count / total, float(limits.low), float(limits.high), total)


# Quantities of arms


def margin_of(conventions: Conventions, config: Config) -> float:
    """delta; NaN, which decides nothing, if the ceiling of the reference arm is not known."""
    return margin_from(curves.fits(config, [conventions.reference_arm]))


def margin_from(runs: Sequence[RunFit]) -> float:
    """delta of one arm's fits; NaN if its ceiling is not known."""
    if unknown_ceilings(runs, [runs[0].arm]):
        return np.nan
    return equivalence_margin(t_interval(run.fit.A for run in runs).estimate, runs[0].initial.pass_rate)


def stable_fits(config: Config, arms: Sequence[str], margin: float, conventions: Conventions) -> list[RunFit]:
    """The fits of the runs that do not collapse: where a run falls back, its A is no ceiling."""
    unstable = collapsed_runs(config, arms, margin, conventions)
    return [run for run in curves.fits(config, arms) if run_name(run.arm, run.seed) not in unstable]


def ceilings(runs: Iterable[RunFit], arm: str) -> dict[int, float]:
    """A by seed."""
    return {run.seed: run.fit.A for run in runs if run.arm == arm}


def unknown_ceilings(runs: Sequence[RunFit], arms: Iterable[str]) -> list[str]:
    """The arms whose A is not known, of which it can be only a bound.

    It is known if no run's A lies on the limit of its range (a run without a rise included) and the shortest run
    certainly reached ``CEILING_REACH`` midpoints: by the upper limit of C_mid over seeds, as a chance fit that puts the
    midpoint early puts A low, too. An arm without a fit knows nothing.
    """
    return [arm for arm in arms if not _knows_ceiling([run for run in runs if run.arm == arm])]


def _knows_ceiling(runs: Sequence[RunFit]) -> bool:
    if any("A" in run.fit.at_edge for run in runs):
        return False
    fitted = [run for run in runs if np.isfinite(run.fit.C_mid)]
    midpoint = log_t_interval(run.fit.C_mid for run in fitted)
    latest = midpoint.estimate if midpoint.seeds == 1 else midpoint.high
    return bool(fitted) and min(run.total_compute for run in fitted) >= CEILING_REACH * latest


def ceiling_difference(runs: Sequence[RunFit], first: str, second: str) -> Interval:
    """A(first) - A(second), paired by seed."""
    return t_interval(paired_differences(ceilings(runs, first), ceilings(runs, second)))


def ceiling_part(runs: Sequence[RunFit], first: str, second: str, verdict_of: Callable[[Interval], Verdict]) -> Part:
    """A(first) - A(second) and its verdict.

    Where one of the two is not known, the difference of the fitted curves at the compute that both spent is reported
    and decides nothing: a slower arm is lower there though its ceiling may be as high.
    """
    unknown = unknown_ceilings(runs, (first, second))
    if not unknown:
        difference = ceiling_difference(runs, first, second)
        return Part(f"A({first}) - A({second})", difference, verdict_of(difference))
    fits = [run for run in runs if run.arm in (first, second) and np.isfinite(run.fit.A)]
    spent = min((run.total_compute for run in fits), default=np.nan)
    values = {
        arm: {run.seed: float(run.fit.predict(spent)) for run in fits if run.arm == arm} for arm in (first, second)
    }
    difference = t_interval(paired_differences(values[first], values[second]))
    note = f"R({first}) - R({second}) at equal compute, as A({', '.join(unknown)}) is a bound"
    return Part(note, difference, INCONCLUSIVE)


def ceiling_above(runs: Sequence[RunFit], first: str, second: str, margin: float) -> Part:
    """A(first) - A(second) above the margin."""
    return ceiling_part(runs, first, second, lambda difference: above(difference, margin))


def ceiling_raised(runs: Sequence[RunFit], first: str, second: str, margin: float) -> Part:
    """A(first) - A(second) above zero."""
    return ceiling_part(runs, first, second, lambda difference: beyond_nothing(difference, margin))


def ceilings_equal(runs: Sequence[RunFit], pairs: Iterable[tuple[str, str]], margin: float) -> list[Part]:
    """A neutral within every pair."""
    return [ceiling_part(runs, *pair, lambda difference: neutral(difference, margin)) for pair in pairs]


def compute_ratio(runs: Sequence[RunFit], slow: str, fast: str, level: float) -> PairedComparison:
    """C_tau(slow) / C_tau(fast), paired by seed."""
    return compare_reached(reached_by_seed(runs, slow, level), reached_by_seed(runs, fast, level))


def compute_saved(runs: Sequence[RunFit], slow: str, fast: str, level: float) -> Part:
    """C_tau(slow) / C_tau(fast) above one; refuted if it lies below."""
    comparison = compute_ratio(runs, slow, fast, level)
    verdicts: Mapping[str, Verdict] = {"above": REPLICATED, "below": NOT_REPLICATED}
    verdict = verdicts.get(comparison.verdict, INCONCLUSIVE)
    return Part(f"C_tau({slow}) / C_tau({fast})", comparison.interval, verdict)


UNITS = {"step": "updates", "tokens_generated": "generated tokens", "flops": "FLOPs"}
"""Column of the metrics -> what it counts: the clock's share of a ratio of compute is what these do not have."""


def without_clock(config: Config, runs: Sequence[RunFit], slow: str, fast: str, level: float) -> str:
    """The ratio of compute in units that no virtual clock enters, as words.

    P1's pools of 64 generators and 16 trainers idle in alternating phases: this factor is in every ratio of compute
    between schedules, whatever is learned.
    """
    ratios = (
        f"{curves.reached_ratio(unit, config, runs, slow, fast, level).interval.estimate:.3g} in {name}"
        for unit, name in UNITS.items()
    )
    return "the ratio is " + ", ".join(ratios)


def no_mismatch(claim: Claim, config: Config, arms: Iterable[str]) -> str:
    """Why head precision cannot matter in the runs of some arms, the first such arm; empty if it can in all."""
    least = claim.threshold("min_mismatch")
    for arm in arms:
        records = curves.run_records(config, [arm])
        mismatch = float(np.mean([record["mismatch"] for record in records.values()]))
        if mismatch < least:
            return f"mean |log rho| of {arm} at equal weights {mismatch:.2g}, below {least:g}"
    return ""


def collapsed_runs(
    config: Config, arms: Iterable[str], margin: float, conventions: Conventions, task: str = "math"
) -> set[str]:
    """The runs whose curve collapses."""
    metrics = curves.metrics(config, arms).sort_values("compute")
    column = f"{column_prefix(task)}pass_rate"
    return {
        str(run)
        for run, rows in metrics.groupby("run")
        if collapsed(rows[column], margin, conventions.collapse_evaluations)
    }


def downstream_at_rest(claim: Claim, config: Config, arm: str) -> str:
    """Why an arm's downstream pass rate shows nothing; empty if it rises, and above chance, beyond sampling error."""
    metrics = curves.metrics(config, [arm]).sort_values("compute").groupby("run")
    rates, errors = metrics["downstream_pass_rate"], metrics["downstream_pass_rate_se"]
    start, end = rates.first().mean(), rates.last().mean()
    runs = metrics.ngroups
    start_error, end_error = (float(np.sqrt((e**2).sum()) / runs) for e in (errors.first(), errors.last()))
    least, chance = claim.threshold("min_errors"), claim.threshold("chance")
    if end - start > least * np.hypot(start_error, end_error) and end - chance > least * end_error:
        return ""
    return f"downstream pass rate of {arm} from {start:.3f} to {end:.3f} +- {end_error:.3f}, chance {chance:g}"
