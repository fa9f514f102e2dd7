"""Evaluators of P2's claims on how many weights change: RL beside SFT at equal size, and what rounding explains."""

import pandas as pd

from rlscape.catalogue import first_run, resolve_run
from rlscape.claims.parts import Part, below, conclude
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    Verdict,
    span,
)
from rlscape.results import bias, origin
from rlscape.scaling.arm_comparison import judge
from rlscape.scaling.uncertainty import Interval, paired_differences, t_interval
from rlscape.settings.scale import Config

MATCHED = ("as_run", "rate", "norm", "kl")
UNJUDGED = "norm_snapshot"
"""Norms agree only as far as SFT's snapshots come close."""


def sparser_when_matched(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O1. Arms: the sparser one, the other, and the other at the learning rate of the first."""
    sparse, dense, _ = claim.arms
    negligible = claim.threshold("negligible")
    matched = bias.matching(config)
    parts = []
    for matching in MATCHED:
        difference = _difference(matched, matching)
        parts.append(Part(bias.MATCHINGS[matching], difference, _beyond(difference, negligible)))
    sizes = origin.sizes(config, claim.arms).set_index(["arm", "seed"])
    excess = sizes["sparsity"] - sizes["isotropic_sparsity"]
    beyond_size = t_interval(paired_differences(excess[sparse].to_dict(), excess[dense].to_dict()))
    parts.append(Part("as run, beyond isotropic updates of each size", beyond_size, _beyond(beyond_size, negligible)))
    means = sizes.assign(excess=excess).groupby(level="arm").mean(numeric_only=True)
    note = "difference of sparsity; " + ", ".join(
        f"{arm} {means.loc[arm, 'sparsity']:.3f} at x = {means.loc[arm, 'x']:.2g}, {means.loc[arm, 'excess']:+.3f} "
        "beyond isotropic"
        for arm in claim.arms
    )
    return conclude(parts, f"{note}; not judged: {bias.MATCHINGS[UNJUDGED]} {span(_difference(matched, UNJUDGED))}")


def _difference(matched: pd.DataFrame, matching: str) -> Interval:
    """Sparsity of RL less that of SFT in one matching, paired by seed."""
    by_method = {
        method: rows.set_index("seed")["sparsity"].to_dict()
        for method, rows in matched[matched["matching"] == matching].groupby("method")
    }
    return t_interval(paired_differences(by_method.get("rl", {}), by_method.get("sft", {})))


def rounding_effect(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O2. Arms: one method at several learning rates. Units are the seeds that all of them have."""
    sizes = origin.sizes(config, claim.arms)
    rates = {arm: resolve_run(config, first_run(config, arm)).rl.learning_rate for arm in claim.arms}
    sizes["learning_rate"] = sizes["arm"].map(rates)
    sizes["deviation"] = (sizes["sparsity"] - sizes["isotropic_sparsity"]).abs()
    by_seed = [rows for _, rows in sizes.groupby("seed") if len(rows) == len(claim.arms)]
    correlation = t_interval(rows["learning_rate"].corr(rows["sparsity"], method="spearman") for rows in by_seed)
    deviation = t_interval(rows["deviation"].max() for rows in by_seed)
    zeros = t_interval(rows["exact_zero_share"].max() for rows in by_seed)
    parts = [
        Part("rank correlation with the rate", correlation, below(correlation, -claim.threshold("min_correlation"))),
        Part("largest distance to the isotropic curve", deviation, below(deviation, claim.threshold("curve"))),
        Part("largest share of exact fp32 zeros", zeros, below(zeros, claim.threshold("exact_zeros"))),
    ]
    means = sizes.sort_values("learning_rate").groupby("learning_rate")[["x", "sparsity"]].mean()
    points = [f"{row['sparsity']:.3f} at x = {row['x']:.2g}" for _, row in means.iterrows()]
    return conclude(parts, f"sparsity {', '.join(points)}")


def _beyond(interval: Interval, margin: float) -> Verdict:
    """Replicated above the margin; not replicated below its negative, or neutral."""
    judged = judge(interval, margin)
    if judged == "above":
        return REPLICATED
    return NOT_REPLICATED if judged in ("below", "neutral") else INCONCLUSIVE
