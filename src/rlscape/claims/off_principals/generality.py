"""Evaluators of P2's claims on curvature and on other settings; criteria in words are in ``config/claims.yaml``."""

from collections.abc import Callable

import pandas as pd

from rlscape.catalogue import base_of
from rlscape.claims.off_principals.masks import NULLS_TO_BEAT
from rlscape.claims.parts import Part, conclude, in_most, of_units
from rlscape.claims.register import (
    Claim,
    Conventions,
    Outcome,
    Side,
    span,
)
from rlscape.results import loss, weights
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

SIZE_FREE = {"efficiency": "efficiency", "largest angle": "max_angle"}
"""What O7 asks of spectra and subspaces where no SFT started from the same base -> column."""


def principal_is_high_curvature(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O14. Arms: one per base. Units are bases, each with the mean of its batches of tokens."""
    table = loss.curvature(config)
    table = table[table["base"].isin([base_of(config, arm) for arm in claim.arms])]
    negligible, min_share = claim.threshold("negligible"), claim.threshold("min_share")
    by_batch = {
        "log2 quotient, principal over off-principal": loss.block_contrast(table, "singular"),
        "the same of entries of equal magnitude": loss.block_contrast(table, "coordinate"),
        "rank correlation with the singular index": loss.index_correlation(table),
    }
    sides: tuple[tuple[Side, float], ...] = (("above", negligible), ("above", negligible), ("below", 0.0))
    parts: list[Part] = []
    for (measure, values), (side, margin) in zip(by_batch.items(), sides, strict=True):
        of_bases = values.groupby("base").mean()
        parts += [of_units(measure, of_bases, side, margin), in_most(measure, of_bases, side, min_share)]
    batches = int(table.groupby("base")["batch"].nunique().min())
    own = "; ".join(
        f"{base} {span(t_interval(values))}" for base, values in next(iter(by_batch.values())).groupby("base")
    )
    whole = loss.relative_quotients(table[(table["tensor"] == loss.WHOLE) & table["scale"].isna()], ["direction"])
    updates = 2 ** whole.groupby("direction")["value"].mean()
    scaled = table[table["scale"].notna()]
    ratios = (scaled["half_fisher"] / scaled["kl"]).groupby(scaled["scale"]).mean()
    note = (
        f"{table['base'].nunique()} bases, {batches} batches each; the first, by base: {own}; quotient over tr G / N: "
        + ", ".join(f"{name} {value:.3g}" for name, value in updates.items())
        + f"; Fisher over KL {ratios.loc[ratios.index.max()]:.3f} at the whole update, "
        + f"{ratios.loc[ratios.index.min()]:.3f} at {ratios.index.min():g} of it"
    )
    lack = "" if batches >= claim.threshold("min_batches") else f"{batches} batches"
    return conclude(parts, note, lack, seeds=min(config.seeds[arm] for arm in claim.arms))


def overlap_less(mask: str, null: str) -> Callable[[pd.DataFrame], float]:
    """Of a setting's matrices: their overlap where half of the entries change, less a null, mean over seeds."""

    def value(matrices: pd.DataFrame) -> float:
        pooled = weights.pooled_overlaps(matrices, mask, ["seed"], half=True)
        return float((pooled["value"] - pooled[null]).mean())

    return value


def enrichment(mask: str) -> Callable[[pd.DataFrame], float]:
    """fp32 energy over chance in a mask less 1, mean over matrices."""
    return lambda matrices: float((weights.in_blocks(matrices)[f"energy_enrichment_{mask}"] - 1).mean())


def less_rotated(column: str) -> Callable[[pd.DataFrame], float]:
    """Relative difference to the spectrum-matched null, of sums over matrices.

    The null of one matrix is the mean of a few draws; the mean of ratios to it is above 1 for rotated updates too.
    """

    def value(matrices: pd.DataFrame) -> float:
        sums = weights.in_blocks(matrices)[[column, f"{column}_spectrum"]].sum()
        return float(sums[column] / sums[f"{column}_spectrum"] - 1)

    return value


def generic(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O15. Arms: one per setting. Units are settings, of which each counts with the mean of its seeds."""
    matrices = {arm: weights.matrices(config, [arm]) for arm in claim.arms}
    parts: list[Part] = []

    def judge(measure: str, statistic: Callable[[pd.DataFrame], float], side: Side, margin: float = 0.0) -> None:
        values = pd.Series({arm: statistic(table) for arm, table in matrices.items()})
        parts.append(of_units(measure, values, side, margin))
        parts.append(in_most(measure, values, side, claim.threshold("min_share")))

    for mask, side in claim.directions.items():
        for null in NULLS_TO_BEAT[mask]:
            judge(f"{mask} less {null}", overlap_less(mask, null), side, claim.threshold("negligible"))
        judge(f"fp32 energy over chance less 1, {mask}", enrichment(mask), side, claim.threshold("negligible_energy"))
    for measure, column in SIZE_FREE.items():
        judge(f"{measure} over its null less 1", less_rotated(column), "below")
    seeds = sorted({config.seeds[arm] for arm in claim.arms})
    note = f"{len(claim.arms)} settings of {'-'.join(map(str, seeds))} seeds; overlaps where half of the entries change"
    return conclude(parts, note, seeds=seeds[0])
