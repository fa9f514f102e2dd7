"""O8 and O9 at one rank and density: on which side of chance and nulls an update meets the masks."""

from rlscape.claims.parts import on_side
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    REPLICATED,
    Claim,
    Conventions,
    Outcome,
    Verdict,
    outcome,
)
from rlscape.results import weights
from rlscape.scaling.arm_comparison import judge
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

NULLS_TO_BEAT = {
    "principal": ("chance", "binned", "spectrum"),
    # M_low is a union of magnitude bins: the binned null reproduces its overlap for any update.
    "low": ("chance", "isotropic", "spectrum"),
}


def mask_preference(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O8, O9. Arms: the one whose update is compared with the masks in ``directions``."""
    matrices = weights.matrices(config, claim.arms)
    negligible = claim.threshold("negligible")
    agreement: list[Verdict] = []
    notes = []
    for mask, side in claim.directions.items():
        pooled = weights.pooled_overlaps(matrices, mask, ["seed"])
        excesses = {null: t_interval(pooled["value"] - pooled[null]) for null in NULLS_TO_BEAT[mask]}
        margins = dict.fromkeys(excesses, negligible) | {"fp32 energy": 0.0}
        enrichment = weights.in_blocks(matrices).groupby("seed")[f"energy_enrichment_{mask}"].mean()
        excesses["fp32 energy"] = t_interval(enrichment - 1)
        agreement += [on_side(excess, side, margins[null]) for null, excess in excesses.items()]
        explained = [null for null, excess in excesses.items() if judge(excess, margins[null]) == "neutral"]
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
