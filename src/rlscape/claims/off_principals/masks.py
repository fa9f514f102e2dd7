"""O8 and O9: on which side of its nulls an update meets the masks, at one rank and density and on a grid.

Overlaps are those of the update moved along itself until half of the entries of a matrix change. As it is, an overlap
cannot exceed that of any other update where nearly all of them change, nor fall short of it: both have every entry of
the mask. So it is for M_low where few change, all of which are small then.
"""

import pandas as pd

from rlscape.claims.parts import Part, conclude, on_side
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    Side,
    Verdict,
    span,
)
from rlscape.results import bias, weights
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

NULLS_TO_BEAT = {
    # Not chance, off which rounding alone takes any update.
    "principal": ("binned", "spectrum"),
    # M_low is a union of magnitude bins: the binned null reproduces its overlap for any update.
    "low": ("shuffled", "spectrum"),
}


def mask_preference_on_grid(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O8, O9. Arms: the one whose update is compared with the masks in ``directions``."""
    matrices, table = weights.matrices(config, claim.arms), bias.operators(config, claim.arms)
    negligible, of_energy = claim.threshold("negligible"), claim.threshold("negligible_energy")
    parts, off_chance = [], []
    for mask, side in claim.directions.items():
        pooled = weights.pooled_overlaps(matrices, mask, ["seed"], half=True)
        for null in NULLS_TO_BEAT[mask]:
            excess = t_interval(pooled["value"] - pooled[null])
            parts.append(Part(f"{mask} less {null}", excess, on_side(excess, side, negligible)))
        off_chance.append(f"{mask} {span(t_interval(pooled['value'] - pooled['chance']))}")
        energy = t_interval(weights.in_blocks(matrices).groupby("seed")[f"energy_enrichment_{mask}"].mean() - 1)
        parts.append(Part(f"fp32 energy over chance less 1, {mask}", energy, on_side(energy, side, of_energy)))
        parts.append(_grid(table, mask, side, of_energy, claim.threshold("min_share")))
    both = t_interval(_over_chance(table[table["operator"] == "both"]).groupby(table["seed"]).mean())
    note = f"overlaps where half of the entries change, less chance: {', '.join(off_chance)}"
    return conclude(parts, f"{note}; fp32 energy in the subspaces {span(both)} of chance")


def _grid(table: pd.DataFrame, mask: str, side: Side, negligible: float, least: float) -> Part:
    """In how many cells of ranks and densities a mask's energy lies beyond negligible; its interval is of all cells.

    At ``least`` of them for the claim or against it they decide, unless as many are on either side.
    """
    excess = bias.energy_by_cell(table, mask)
    cells = excess.groupby(level=["rank_fraction", "alpha"], dropna=False)
    judged = [on_side(t_interval(cell), side, negligible) for _, cell in cells]
    counts: dict[Verdict, int] = {verdict: judged.count(verdict) for verdict in (REPLICATED, NOT_REPLICATED)}
    verdict = max(counts, key=lambda each: counts[each])
    if counts[verdict] < least * len(judged) or len(set(counts.values())) == 1:
        verdict = INCONCLUSIVE
    words = f"{counts[REPLICATED]} cells of {len(judged)} {side}, {counts[NOT_REPLICATED]} not"
    return Part(f"the same over the grid ({words})", t_interval(excess.groupby(level="seed").mean()), verdict)


def _over_chance(rows: pd.DataFrame) -> pd.Series:
    return rows["energy"] / rows["chance"]
