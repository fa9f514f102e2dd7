"""What the evaluators of P1's claims share: the margin, and paired comparisons of arms."""

from collections.abc import Iterable, Mapping, Sequence

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
from rlscape.results import curves
from rlscape.scaling.arm_comparison import PairedComparison, compare_reached, equivalence_margin
from rlscape.scaling.arms import RunFit, reached_by_seed
from rlscape.scaling.stability import collapsed
from rlscape.scaling.uncertainty import Interval, paired_differences, t_interval
from rlscape.settings.scale import Config
from rlscape.tasks.base import column_prefix


def by_share(good: int, total: int, seeds: int, claim: Claim) -> Verdict:
    """Whether at least ``min_share`` are good, given ``min_seeds`` seeds or more."""
    if seeds < claim.threshold("min_seeds"):
        return INCONCLUSIVE
    return REPLICATED if good / total >= claim.threshold("min_share") else NOT_REPLICATED


def proportion(count: int, total: int) -> Interval:
    """A share of seeds with its Wilson interval; NaN without seeds."""
    if not total:
        return Interval(np.nan, np.nan, np.nan, 0)
    limits = binomtest(count, total).proportion_ci(method="wilson")
    return Interval(count / total, float(limits.low), float(limits.high), total)


# Quantities of arms


def margin_of(conventions: Conventions, config: Config) -> float:
    """delta; NaN, which decides nothing, if no run of the reference arm could be fitted."""
    runs = curves.fits(config, [conventions.reference_arm])
    return equivalence_margin(t_interval(run.fit.A for run in runs).estimate, runs[0].initial.pass_rate)


def ceilings(runs: Iterable[RunFit], arm: str) -> dict[int, float]:
    """A by seed."""
    return {run.seed: run.fit.A for run in runs if run.arm == arm}


def ceiling_difference(runs: Sequence[RunFit], first: str, second: str) -> Interval:
    """A(first) - A(second), paired by seed."""
    return t_interval(paired_differences(ceilings(runs, first), ceilings(runs, second)))


def ceiling_above(runs: Sequence[RunFit], first: str, second: str, margin: float) -> Part:
    """A(first) - A(second) above the margin."""
    difference = ceiling_difference(runs, first, second)
    return Part(f"A({first}) - A({second})", difference, above(difference, margin))


def ceiling_raised(runs: Sequence[RunFit], first: str, second: str, margin: float) -> Part:
    """A(first) - A(second) above zero."""
    difference = ceiling_difference(runs, first, second)
    return Part(f"A({first}) - A({second})", difference, beyond_nothing(difference, margin))


def ceilings_equal(runs: Sequence[RunFit], pairs: Iterable[tuple[str, str]], margin: float) -> list[Part]:
    """A neutral within every pair."""
    parts = []
    for first, second in pairs:
        difference = ceiling_difference(runs, first, second)
        parts.append(Part(f"A({first}) - A({second})", difference, neutral(difference, margin)))
    return parts


def compute_ratio(runs: Sequence[RunFit], slow: str, fast: str, level: float) -> PairedComparison:
    """C_tau(slow) / C_tau(fast), paired by seed."""
    return compare_reached(reached_by_seed(runs, slow, level), reached_by_seed(runs, fast, level))


def compute_saved(runs: Sequence[RunFit], slow: str, fast: str, level: float) -> Part:
    """C_tau(slow) / C_tau(fast) above one; refuted if it lies below."""
    comparison = compute_ratio(runs, slow, fast, level)
    verdicts: Mapping[str, Verdict] = {"above": REPLICATED, "below": NOT_REPLICATED}
    verdict = verdicts.get(comparison.verdict, INCONCLUSIVE)
    return Part(f"C_tau({slow}) / C_tau({fast})", comparison.interval, verdict)


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
