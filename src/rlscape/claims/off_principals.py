"""Evaluators of P2's claims (arXiv 2511.08567); criteria in words are in ``config/claims.yaml``."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    Verdict,
    outcome,
    span,
)
from rlscape.config import Config
from rlscape.results import weights
from rlscape.scaling.compare import judge
from rlscape.scaling.uncertainty import Interval, paired_differences, t_interval

NULLS_TO_BEAT = {
    "principal": ("chance", "binned", "spectrum"),
    # M_low is a union of magnitude bins: the binned null reproduces its overlap for any update.
    "low": ("chance", "isotropic", "spectrum"),
}
PART = "linear"
"""Sparsity counts the matrices inside the blocks."""


def sparser(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O1. Arms: the sparser one, then the other."""
    summaries = weights.geometry_summaries(config, claim.arms)
    summaries = summaries[summaries["part"] == PART]
    summaries["excess"] = summaries["sparsity"] - summaries["isotropic_sparsity"]
    as_run, excess = (_paired(summaries, quantity, *claim.arms) for quantity in ("sparsity", "excess"))
    negligible = claim.threshold("negligible")
    beyond_size = judge(excess, negligible)
    if as_run.low > 0 and beyond_size == "above":
        verdict = REPLICATED
    elif as_run.high < 0 or beyond_size in ("below", "neutral"):
        verdict = NOT_REPLICATED
    else:
        verdict = INCONCLUSIVE
    sizes = summaries.groupby("arm")["x"].mean()
    reason = f"beyond isotropic updates of equal size {span(excess)} ({beyond_size}); " + ", ".join(
        f"x({arm}) = {sizes[arm]:.2g}" for arm in claim.arms
    )
    return outcome(verdict, "difference of sparsity", as_run, reason)


def keeps_spectrum(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O7. Arms: the one that keeps spectrum and subspaces, then the other."""
    keeping, changing = claim.arms
    blocks = weights.in_blocks(weights.matrices(config, claim.arms))
    blocks["largest angle"] = blocks[["max_angle_left", "max_angle_right"]].max(axis=1)
    names = {"nss": "NSS", "largest angle": "largest angle", "efficiency": "e", "energy_both": "energy share"}
    means = blocks.groupby(["arm", "seed"])[list(names)].mean().reset_index()
    differences = {name: _paired(means, quantity, changing, keeping) for quantity, name in names.items()}
    reason = f"{changing} minus {keeping}: " + ", ".join(
        f"{name} {span(interval)}" for name, interval in differences.items()
    )
    return outcome(_all_positive(differences.values()), "difference of NSS", differences["NSS"], reason)


def mask_preference(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O8, O9. Arms: the one whose update is compared with the masks in ``directions``."""
    matrices = weights.matrices(config, claim.arms)
    negligible = claim.threshold("negligible")
    agreement: list[Verdict] = []
    notes = []
    for mask, side in claim.directions.items():
        pooled = weights.pooled_overlaps(matrices, mask, ["seed"])
        excesses = {null: t_interval(pooled["value"] - pooled[null]) for null in NULLS_TO_BEAT[mask]}
        judged = {null: judge(excess, negligible) for null, excess in excesses.items()}
        enrichment = weights.in_blocks(matrices).groupby("seed")[f"energy_enrichment_{mask}"].mean()
        excesses["fp32 energy"] = t_interval(enrichment - 1)
        judged["fp32 energy"] = judge(excesses["fp32 energy"])
        agreement += [_agrees(each, side) for each in judged.values()]
        explained = [null for null in judged if judged[null] == "neutral"]
        notes.append(
            f"{mask} less "
            + ", ".join(f"{null} {excess.estimate:+.3f}" for null, excess in excesses.items())
            + (f" (explained by {', '.join(explained)})" if explained else "")
        )
        if mask == next(iter(claim.directions)):
            effect = excesses["binned"]
    if NOT_REPLICATED in agreement:
        verdict = NOT_REPLICATED
    else:
        verdict = REPLICATED if set(agreement) == {REPLICATED} else INCONCLUSIVE
    return outcome(verdict, f"overlap of {next(iter(claim.directions))} minus binned null", effect, "; ".join(notes))


def _agrees(judged: str, side: str) -> Verdict:
    """An interval on the claimed side; one on the other side or within the margin contradicts the claim."""
    if judged == side:
        return REPLICATED
    return INCONCLUSIVE if judged == "inconclusive" else NOT_REPLICATED


def _all_positive(intervals: Iterable[Interval]) -> Verdict:
    intervals = list(intervals)
    if all(interval.low > 0 for interval in intervals):
        return REPLICATED
    return NOT_REPLICATED if any(interval.high < 0 for interval in intervals) else INCONCLUSIVE


def _paired(frame: pd.DataFrame, quantity: str, first: str, second: str) -> Interval:
    """``first - second`` of a quantity, over the seeds that both arms have."""
    by_seed = frame.set_index(["arm", "seed"])[quantity].astype(float).replace([np.inf, -np.inf], np.nan)
    return t_interval(paired_differences(by_seed[first].to_dict(), by_seed[second].to_dict()))
