"""Which runs collapse, and how many completions are truncated before and otherwise."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact, mannwhitneyu

from rlscape.catalogue import arms_of, figure_of
from rlscape.claims.parts import Part, above, conclude
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
from rlscape.claims.scalerl.shared import collapsed_runs, margin_of, proportion, within_unit
from rlscape.paths import parse_run_name
from rlscape.results import curves
from rlscape.scaling.stability import collapsed
from rlscape.scaling.uncertainty import Interval, t_interval
from rlscape.settings.scale import Config


def collapses_more(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S6. Arms: the unstable one, then the stable one."""
    margin = margin_of(conventions, config)
    unstable, stable = claim.arms
    part, note = more_collapses([unstable], [stable], margin, claim, conventions, config)
    return conclude([part], f"delta {margin:.3f}; {note}")


def more_collapses(
    first: Sequence[str],
    second: Sequence[str],
    margin: float,
    claim: Claim,
    conventions: Conventions,
    config: Config,
) -> tuple[Part, str]:
    """Whether a larger share of the runs of some arms collapses than of others (Fisher's exact test), and the counts.

    Refuted if the share is no larger over ``min_seeds`` seeds or more of every arm.
    """
    counts = [len(collapsed_runs(config, arms, margin, conventions)) for arms in (first, second)]
    totals = [sum(config.seeds[arm] for arm in arms) for arms in (first, second)]
    table = [[count, total - count] for count, total in zip(counts, totals, strict=True)]
    p = float(fisher_exact(table, alternative="greater").pvalue)
    seeds = min(config.seeds[arm] for arm in (*first, *second))
    verdict: Verdict
    if p < claim.threshold("alpha"):
        verdict = REPLICATED
    elif counts[0] / totals[0] <= counts[1] / totals[1] and seeds >= claim.threshold("min_seeds"):
        verdict = NOT_REPLICATED
    else:
        verdict = INCONCLUSIVE
    share = proportion(counts[0], totals[0])
    note = f"{counts[0]} of {totals[0]} against {counts[1]} of {totals[1]} runs collapse, Fisher p = {p:.2g}"
    return Part("share of collapsed runs", Interval(share.estimate, share.low, share.high, seeds), verdict), note


def truncation_precedes_collapse(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S17. Arms: none named, those of its figure that the scale runs."""
    margin = margin_of(conventions, config)
    figure = figure_of(claim.figures[0])
    arms = [arm for arm in arms_of(config, figure) if arm in config.seeds]
    metrics = curves.metrics(config, arms).sort_values("compute").groupby("run")
    onsets = {run: _collapse_onset(rows, margin, conventions.collapse_evaluations) for run, rows in metrics}
    updates = curves.updates(config, arms).groupby("run")
    highest = pd.Series(
        {run: rows.loc[rows["step"] <= onsets[run], "truncation_rate"].max() for run, rows in updates}
    ).fillna(0.0)
    falls = pd.Series(onsets) < np.inf
    before, stable = highest[falls], highest[~falls]
    preceded = int((before >= claim.threshold("min_truncation")).sum())
    share = proportion(preceded, len(before))
    pairs = len(before) * len(stable)
    area = float(mannwhitneyu(before, stable).statistic) / pairs if pairs else np.nan
    verdict: Verdict
    if before.empty:
        verdict = NOT_TESTABLE
    elif len(before) < claim.threshold("min_collapsed") or stable.empty:
        verdict = INCONCLUSIVE
    elif share.estimate >= claim.threshold("min_share") and area >= claim.threshold("min_auc"):
        verdict = REPLICATED
    else:
        verdict = NOT_REPLICATED
    reason = (
        f"{len(before)} of {len(highest)} runs collapse, {preceded} after a batch with "
        f"{claim.threshold('min_truncation'):.0%} truncated; area under the ROC curve {area:.2f}"
        if len(before)
        else f"none of {len(highest)} runs collapses"
    )
    seeds = len({parse_run_name(str(run))[1] for run in highest.index})
    interval = Interval(share.estimate, share.low, share.high, seeds)
    return outcome(verdict, "share of collapsed runs with truncation before", interval, reason)


def _collapse_onset(metrics: pd.DataFrame, margin: float, evaluations: int) -> float:
    """The step of the first evaluation of a collapse; infinite for a stable run."""
    rates, steps = metrics["pass_rate"].to_numpy(), metrics["step"].to_numpy()
    ends = (end for end in range(evaluations, len(rates) + 1) if collapsed(rates[:end], margin, evaluations))
    end = next(ends, None)
    return np.inf if end is None else float(steps[end - evaluations])


def truncation_stays_low(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """S18. Arms: ScaleRL, then it with the longer budget."""
    scalerl, longer = claim.arms
    updates = curves.updates(config, claim.arms)
    updates["low"] = updates["truncation_rate"] < claim.threshold("max_truncation")
    shares = {arm: within_unit(t_interval(rows.groupby("seed")["low"].mean())) for arm, rows in updates.groupby("arm")}
    reference = updates[updates["arm"] == scalerl]
    growth = t_interval(
        rows[["mean_length", "truncation_rate"]].corr(method="spearman").iloc[0, 1]
        for _, rows in reference.groupby("seed")
    )
    parts = [
        Part("share of steps", shares[scalerl], _at_least(shares[scalerl], claim.threshold("min_share"))),
        Part("rank correlation with length", growth, above(growth)),
    ]
    mean, least = float(reference["truncation_rate"].mean()), claim.threshold("min_mean_truncation")
    lack = f"mean truncation rate {mean:.2g}, below {least:g}" if mean < least else ""
    note = f"below {claim.threshold('max_truncation'):.0%}; mean {mean:.3f}; {longer}: share {span(shares[longer])}"
    return conclude(parts, note, lack)


def _at_least(interval: Interval, limit: float) -> Verdict:
    if interval.low >= limit:
        return REPLICATED
    return NOT_REPLICATED if interval.high < limit else INCONCLUSIVE
