"""Evaluators of P2's claims on curvature and on other settings; criteria in words are in ``config/claims.yaml``."""

import operator
from collections.abc import Callable, Mapping

import pandas as pd

from rlscape.claims.off_principals.masks import NULLS_TO_BEAT
from rlscape.claims.parts import Part, above, below, conclude
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    Side,
    Verdict,
)
from rlscape.results import loss, weights
from rlscape.scaling.arm_comparison import judge
from rlscape.scaling.uncertainty import Interval, t_interval
from rlscape.settings.scale import Config

BEYOND: dict[Side, Callable] = {"above": operator.gt, "below": operator.lt}
SIZE_FREE = {
    "efficiency": ("efficiency",),
    "largest angle": ("max_angle_left", "max_angle_right"),
}
"""What O7 asks of spectra and subspaces where no SFT started from the same base -> columns, of which the largest."""


def principal_is_high_curvature(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O14. Arms: those whose updates are directions. Units are batches of tokens: the base model has no seeds."""
    table = loss.curvature(config)
    singular, coordinate = (t_interval(loss.block_contrast(table, kind)) for kind in ("singular", "coordinate"))
    correlation = t_interval(loss.index_correlation(table))
    negligible = claim.threshold("negligible")
    parts = [
        Part("log2 quotient, principal over off-principal", singular, above(singular, negligible)),
        Part("the same of entries of equal magnitude", coordinate, above(coordinate, negligible)),
        Part("rank correlation with the singular index", correlation, below(correlation)),
    ]
    whole = loss.relative_quotients(table[(table["tensor"] == loss.WHOLE) & table["scale"].isna()], ["direction"])
    updates = 2 ** whole.groupby("direction")["value"].mean()
    scaled = table[table["scale"].notna()]
    ratios = (scaled["half_fisher"] / scaled["kl"]).groupby(scaled["scale"]).mean()
    note = (
        f"{singular.seeds} batches; quotient over tr G / N: "
        + ", ".join(f"{name} {value:.3g}" for name, value in updates.items())
        + f"; Fisher over KL {ratios.loc[ratios.index.max()]:.3f} at the whole update, "
        + f"{ratios.loc[ratios.index.min()]:.3f} at {ratios.index.min():g} of it"
    )
    lack = "" if singular.seeds >= claim.threshold("min_batches") else f"{singular.seeds} batches"
    return conclude(parts, note, lack)


def _overlap_less(mask: str, null: str) -> Callable[[pd.DataFrame], float]:
    def value(matrices: pd.DataFrame) -> float:
        pooled = weights.pooled_overlaps(matrices, mask, ["seed"])
        return float((pooled["value"] - pooled[null]).mean())

    return value


def _enrichment(mask: str) -> Callable[[pd.DataFrame], float]:
    return lambda matrices: float((weights.in_blocks(matrices)[f"energy_enrichment_{mask}"] - 1).mean())


def _less_rotated(columns: tuple[str, ...]) -> Callable[[pd.DataFrame], float]:
    """Relative difference to the spectrum-matched null, mean over matrices."""

    def value(matrices: pd.DataFrame) -> float:
        blocks = weights.in_blocks(matrices)
        found = blocks[list(columns)].max(axis=1)
        null = blocks[[f"{column}_spectrum" for column in columns]].max(axis=1)
        return float((found / null - 1).mean())

    return value


def generic(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O15. Arms: one per setting. Units are settings, of which each counts with the mean of its seeds."""
    matrices = {arm: weights.matrices(config, [arm]) for arm in claim.arms}
    negligible = claim.threshold("negligible")
    parts = []
    for mask, side in claim.directions.items():
        measures = {f"{mask} less {null}": (_overlap_less(mask, null), negligible) for null in NULLS_TO_BEAT[mask]}
        measures[f"fp32 energy, {mask}"] = (_enrichment(mask), 0.0)
        for measure, (statistic, margin) in measures.items():
            parts.append(_over_settings(measure, statistic, matrices, side, margin))
    for measure, columns in SIZE_FREE.items():
        parts.append(_over_settings(f"{measure} over its null less 1", _less_rotated(columns), matrices, "below", 0.0))
    seeds = sorted({config.seeds[arm] for arm in claim.arms})
    return conclude(parts, f"{len(claim.arms)} settings of {'-'.join(map(str, seeds))} seeds")


def _over_settings(
    measure: str,
    statistic: Callable[[pd.DataFrame], float],
    matrices: Mapping[str, pd.DataFrame],
    side: Side,
    margin: float,
) -> Part:
    """A part that holds if the interval over settings lies beyond the margin, and every setting on that side of 0.

    A setting without a value (no weight changed) has no side.
    """
    values = pd.Series({arm: statistic(table) for arm, table in matrices.items()})
    interval = t_interval(values)
    against = values[~BEYOND[side](values, 0)]
    verdict = _side(interval, side, margin)
    if verdict == REPLICATED and len(against):
        verdict = INCONCLUSIVE
    return Part(measure + (f" (against: {', '.join(against.index)})" if len(against) else ""), interval, verdict)


def _side(interval: Interval, side: Side, margin: float) -> Verdict:
    judged = judge(interval, margin)
    if judged == side:
        return REPLICATED
    return INCONCLUSIVE if judged == "inconclusive" else NOT_REPLICATED
