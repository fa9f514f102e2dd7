"""What grows: batch, generation budget and model; and what the validation pass rate says beyond itself."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rlscape.catalogue import seeds_of
from rlscape.claims.parts import Part, above, below, conclude, neutral
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    Verdict,
)
from rlscape.claims.scalerl.shared import (
    by_share,
    ceiling_above,
    ceiling_raised,
    downstream_at_rest,
    margin_of,
    proportion,
    stable_fits,
    unknown_ceilings,
)
from rlscape.results import curves
from rlscape.scaling.arm_comparison import Reached, compare_reached, judge, reach_level
from rlscape.scaling.arms import RunFit, reached_in
from rlscape.scaling.sigmoid import crossings
from rlscape.scaling.uncertainty import Interval, log_t_interval, paired_differences, t_interval
from rlscape.settings.scale import Config


def slower_and_higher(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S20. Arms: the slower one, then the other."""
    margin = margin_of(conventions, config)
    return conclude(_slower_and_higher(claim, conventions, config, margin), f"delta {margin:.3f}")


def _slower_and_higher(claim: Claim, conventions: Conventions, config: Config, margin: float) -> list[Part]:
    """The parts that S20 and S21 share, on the first two arms."""
    slow, fast = claim.arms[:2]
    runs = stable_fits(config, [slow, fast], margin, conventions)
    midpoints = [{run.seed: float(np.log(run.fit.C_mid)) for run in runs if run.arm == arm} for arm in (slow, fast)]
    ratio = log_t_interval(np.exp(paired_differences(*midpoints)))
    # Where A is a bound, so is the midpoint that belongs to it.
    later = INCONCLUSIVE if unknown_ceilings(runs, [slow, fast]) else above(ratio, 1.0)
    crossed = _overtakes(runs, slow, fast)
    # A crossing that is not seen may lie beyond the runs.
    seen = REPLICATED if by_share(sum(crossed), len(crossed), len(crossed), claim) == REPLICATED else INCONCLUSIVE
    return [
        ceiling_raised(runs, slow, fast, margin),
        Part(f"C_mid({slow}) / C_mid({fast})", ratio, later),
        Part("share of seeds that cross", proportion(sum(crossed), len(crossed)), seen),
    ]


def _overtakes(runs: Sequence[RunFit], slow: str, fast: str) -> list[bool]:
    """Per seed, whether the fitted curves cross within the shorter run and the slow one leads at its end."""
    by_seed = {(run.arm, run.seed): run for run in runs}
    overtakes = []
    for arm, seed in by_seed:
        if arm == slow and (fast, seed) in by_seed:
            first, second = by_seed[slow, seed], by_seed[fast, seed]
            end = min(first.total_compute, second.total_compute)
            leads = bool(first.fit.predict(end) > second.fit.predict(end))
            overtakes.append(leads and len(crossings(first.fit.predict, second.fit.predict, end / 100, end)) > 0)
    return overtakes


def larger_batch_better(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S21. Arms: the large batch, the standard one, the small one."""
    margin = margin_of(conventions, config)
    _, standard, small = claim.arms
    upper = _slower_and_higher(claim, conventions, config, margin)
    gains = _gains(curves.metrics(config, [standard]))
    transfer = float(gains["downstream_pass_rate"].mean() / gains["pass_rate"].mean())
    slopes = _late_slopes(curves.metrics(config, [small]))
    carried = claim.threshold("stall_share") * transfer * slopes["pass_rate"]
    validation, excess = t_interval(slopes["pass_rate"]), t_interval(slopes["downstream_pass_rate"] - carried)
    parts = [
        *upper,
        Part(f"validation slope of {small} per doubling", validation, above(validation)),
        Part(f"downstream slope of {small} less what its validation slope would carry", excess, below(excess)),
    ]
    refuted = any(part.verdict == NOT_REPLICATED for part in upper)
    lack = "" if refuted else downstream_at_rest(claim, config, standard)
    return conclude(parts, f"delta {margin:.3f}, k {transfer:.2f}", lack)


def _gains(metrics: pd.DataFrame) -> pd.DataFrame:
    """Last less first evaluation of both pass rates, a row per seed."""
    rates = metrics.sort_values("compute").groupby("seed")[["pass_rate", "downstream_pass_rate"]]
    return rates.last() - rates.first()


def _late_slopes(metrics: pd.DataFrame) -> pd.DataFrame:
    """Slopes of both pass rates per doubling of compute in the second half of it, a row per seed."""
    slopes = {}
    for seed, rows in metrics.groupby("seed"):
        late = rows[rows["compute"] >= rows["compute"].max() / 2]
        doublings = np.log2(late["compute"])
        slopes[seed] = {
            rate: float(np.polyfit(doublings, late[rate], 1)[0]) for rate in ("pass_rate", "downstream_pass_rate")
        }
    return pd.DataFrame.from_dict(slopes, orient="index")


def gains_transfer(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S22. Arms: the reference, whose downstream pass rate must move, then those pooled with it."""
    metrics = curves.metrics(config, claim.arms)
    metrics = metrics[metrics["seed"].isin(seeds_of(config, *claim.arms))]
    rates = ["pass_rate", "downstream_pass_rate"]
    correlation = t_interval(rows[rates].corr(method="spearman").iloc[0, 1] for _, rows in metrics.groupby("seed"))
    attainable = float(np.sqrt(np.prod([_reliability(metrics, rate) for rate in rates])))
    least = claim.threshold("min_attainable")
    lack = downstream_at_rest(claim, config, claim.arms[0])
    if not lack and attainable < least:
        lack = f"sampling error keeps the correlation below {attainable:.2f}, less than {least:g}"
    part = Part("rank correlation", correlation, above(correlation, claim.threshold("min_correlation")))
    return conclude([part], f"attainable {attainable:.2f}", lack)


def _reliability(metrics: pd.DataFrame, rate: str) -> float:
    """Share of the variance over evaluations that is not sampling error; at least 0."""
    return max(0.0, 1 - float((metrics[f"{rate}_se"] ** 2).mean() / metrics[rate].var(ddof=1)))


def larger_model_better(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S25. Arms: the larger model, the long run of the smaller one, its standard run."""
    margin = margin_of(conventions, config)
    large, long_run, standard = claim.arms
    runs = stable_fits(config, claim.arms, margin, conventions)
    parts = [ceiling_above(runs, large, other, margin) for other in (long_run, standard)]
    ends = {run.seed: run for run in runs if run.arm == long_run}
    larger = {run.seed: run for run in runs if run.arm == large and run.seed in ends}
    levels = {seed: float(ends[seed].fit.predict(ends[seed].total_compute)) for seed in larger}
    if any(run.initial.pass_rate >= levels[seed] for seed, run in larger.items()):
        return conclude(parts, f"delta {margin:.3f}", f"{large} starts above the end of {long_run}")
    reached = {seed: reach_level(run.fit, levels[seed], run.total_compute) for seed, run in larger.items()}
    reached = {seed: run for seed, run in reached.items() if not np.isnan(run.compute)}
    totals = {seed: Reached(ends[seed].total_compute, False) for seed in larger}
    metrics = {arm: curves.metrics(config, [arm]) for arm in (large, long_run)}
    for unit in ("compute", "flops"):
        ratio = compare_reached(reached_in(unit, reached, metrics[large]), reached_in(unit, totals, metrics[long_run]))
        verdict = _at_most(ratio.interval, claim.threshold("max_ratio"))
        parts.append(Part(f"{unit} to the end of {long_run} over its own", ratio.interval, verdict))
    return conclude(parts, f"delta {margin:.3f}")


def _at_most(interval: Interval, limit: float) -> Verdict:
    if interval.high <= limit:
        return REPLICATED
    return NOT_REPLICATED if interval.low > limit else INCONCLUSIVE


def entropy_tells_nothing(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S26. Arms: ScaleRL, then the larger batch."""
    margin = margin_of(conventions, config)
    metrics = curves.metrics(config, claim.arms)
    standard, large = claim.arms
    last = metrics.groupby("run")["step"].max().min()
    steps = np.unique(metrics.loc[metrics["arm"] == standard, "step"])
    common = steps[steps <= last]
    entropy = {arm: _by_step(metrics, arm, "entropy", common) for arm in claim.arms}
    downstream = {arm: _by_step(metrics, arm, "downstream_pass_rate", common) for arm in claim.arms}
    fall = t_interval(entropy[standard].iloc[0] - entropy[standard].iloc[-1])
    seeds = entropy[standard].columns.intersection(entropy[large].columns)
    late = common >= last / 2
    gap, apart = (
        t_interval((table[large][seeds] - table[standard][seeds])[late].mean()) for table in (downstream, entropy)
    )
    alike = claim.threshold("gap_share") * fall.estimate
    parts = [
        Part("difference of entropy", apart, neutral(apart, alike)),
        Part("fall of entropy", fall, above(fall)),
        Part("difference downstream", gap, _differs(gap, margin)),
    ]
    note = f"alike: within {alike:.3g} nats"
    return conclude(parts, note, downstream_at_rest(claim, config, standard))


def _differs(interval: Interval, margin: float) -> Verdict:
    if interval.low > 0 or interval.high < 0:
        return REPLICATED
    return NOT_REPLICATED if judge(interval, margin) == "neutral" else INCONCLUSIVE


def _by_step(metrics: pd.DataFrame, arm: str, column: str, steps: np.ndarray) -> pd.DataFrame:
    """A quantity at given steps (rows) of every seed (columns) of an arm, interpolated between its evaluations."""
    of_arm = metrics[metrics["arm"] == arm].sort_values("step")
    return pd.DataFrame(
        {seed: np.interp(steps, rows["step"], rows[column]) for seed, rows in of_arm.groupby("seed")}, index=steps
    )
