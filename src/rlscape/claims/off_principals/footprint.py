"""Evaluators of P2's claims on which weights change: the shared footprint, its stripes, and the changed base.

Pairs of runs are not independent: every run is in many. The footprint's pairs are of equal seed, so their mean at each
seed is independent of the others. Elsewhere intervals are by the jackknife, which leaves out one seed at a time with
all of its pairs; the means over each run's pairs alone would vary too little.
"""

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from rlscape.catalogue import seeds_of
from rlscape.claims.parts import Part, above, conclude, on_side, within
from rlscape.claims.register import NOT_TESTABLE, Claim, Conventions, Outcome, Side, outcome, span
from rlscape.results import pairs
from rlscape.scaling.arm_comparison import judge_by_share
from rlscape.scaling.uncertainty import Interval, t_interval
from rlscape.settings.scale import Config

AXES: dict[Side, tuple[str, str]] = {"above": ("row", "column"), "below": ("column", "row")}
"""Claimed side of rows less columns -> the axis of the stripes, and the other one."""


def jackknife(statistic: Callable[[Collection[int]], float], units: Collection[int]) -> Interval:
    """A statistic of pairs of units, with t limits on its pseudo-values; without limits for fewer than three units."""
    whole, count = statistic(units), len(units)
    if count < 3:
        return Interval(whole, np.nan, np.nan, count)
    left_out = (statistic([other for other in units if other != unit]) for unit in units)
    return t_interval(count * whole - (count - 1) * part for part in left_out)


def shared_footprint(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O3. Arms: runs of reinforcement learning, and last the supervised one. Units are seeds: one run of every arm."""
    *learned, supervised = claim.arms
    measured = pairs.among(pairs.pairs(config, "footprint"), claim.arms)
    within = pairs.among(measured, learned)
    across = measured.drop(within.index)

    def by_seed(values: pd.Series) -> pd.Series:
        return values.groupby(measured["seed_a"]).mean()

    def beyond_sft(quantity: str) -> Interval:
        return t_interval(by_seed(within[quantity]) - by_seed(across[quantity]))

    less_binned = within["phi"] - within["phi_binned"]
    found = {
        "phi less binned": t_interval(by_seed(less_binned)),
        "phi less spectrum-matched": t_interval(by_seed(within["phi"] - within["phi_spectrum"])),
        "J less J_0": t_interval(by_seed(within["jaccard"] - within["jaccard_chance"])),
        f"fp32 phi within RL less with {supervised}": beyond_sft("phi_top"),
    }
    negligible = claim.threshold("negligible")
    parts = [Part(measure, interval, on_side(interval, margin=negligible)) for measure, interval in found.items()]
    by_pair = less_binned.groupby([within["arm_a"], within["arm_b"]]).mean()
    note = f"phi within RL {within['phi'].mean():.3f}, in bf16 beyond that with {supervised} {span(beyond_sft('phi'))}"
    return conclude(parts, f"{len(by_pair)} pairs of recipes, phi less binned from {by_pair.min():.3f} on; {note}")


def _mean(values: pd.Series, first: Collection[object], second: Collection[object]) -> float:
    """Over the pairs of one group of runs with another; NaN without any."""
    a, b = (values.index.get_level_values(level) for level in (0, 1))
    return float(values[a.isin(first) & b.isin(second)].mean())


def striped(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O4. Arms: the one whose runs are looked at. Directions: kind of matrix -> stripe share of rows less columns."""
    measured = pairs.stripes(config, "intervened")
    measured = measured[measured["arm"].isin(claim.arms) & (measured["view"] == "stored")]
    negligible = claim.threshold("negligible")
    parts, fp32 = [], []
    for kind, side in claim.directions.items():
        matrices = measured[measured["kind"] == kind]
        along, across = AXES[side]
        share, null = matrices[f"{along}_stripes"], matrices[f"{along}_stripes_binned"]
        # Rounding follows the sizes of the weights, whose rows and columns differ; what that makes is each axis's null.
        of_other_axis = matrices[f"{across}_stripes"] - matrices[f"{across}_stripes_binned"]
        for name, difference in {
            across: share - null - of_other_axis,
            "binned": share - null,
            "spectrum-matched": share - matrices[f"{along}_stripes_spectrum"],
        }.items():
            excess = _by_seed(matrices, difference)
            parts.append(Part(f"{kind}: {along} less {name}", excess, on_side(excess, margin=negligible)))
        in_fp32 = _by_seed(matrices, matrices[f"{along}_stripes_top"] - matrices[f"{across}_stripes_top"])
        fp32.append(f"{kind} {span(in_fp32)}")
    note = f"shares of the entries' variance; in fp32, claimed less other axis: {', '.join(fp32)}"
    return conclude(parts, note)


def _by_seed(matrices: pd.DataFrame, values: pd.Series) -> Interval:
    """Of a value per matrix: its mean over matrices, over seeds."""
    return t_interval(values.groupby(matrices["seed"]).mean())


def overlap_follows_edits(claim: Claim, conventions: Conventions, config: Config) -> Outcome:
    """O10. Arms: from the base, and from the changed base. Units are the seeds that both have."""
    reference, changed = claim.arms
    measured = pairs.pairs(config, "intervened")
    stored, undone = (measured[measured["view"] == view] for view in ("stored", "undone"))
    tables = {
        "repeat": _excess(pairs.against(stored, reference, reference)),
        "changed": _excess(pairs.against(stored, reference, changed)),
        "undone": _excess(pairs.against(undone, reference, changed)),
    }
    edits = pairs.against(stored, reference, changed).drop_duplicates("tensor").set_index("tensor")["edit"]
    edited, others = edits.index[edits != "none"], edits.index[edits == "none"]
    seeds = seeds_of(config, *claim.arms)
    if edited.empty:
        nothing = Interval(np.nan, np.nan, np.nan, 0)
        return outcome(NOT_TESTABLE, "", nothing, "no changed block is among the measured ones (geometry.block_stride)")

    def excess(name: str, tensors: pd.Index, units: Collection[int]) -> float:
        return _mean(tables[name].reindex(columns=tensors).mean(axis=1), units, units)

    def fall(name: str, tensors: pd.Index) -> Interval:
        return jackknife(lambda units: excess("repeat", tensors, units) - excess(name, tensors, units), seeds)

    def less(statistic: Callable[[Collection[int]], float]) -> Callable[[float], Interval]:
        """A statistic of some seeds, less so many times the repeat's overlap in changed matrices."""
        return lambda times: jackknife(lambda units: statistic(units) - times * excess("repeat", edited, units), seeds)

    inside, outside = fall("changed", edited), fall("changed", others)
    left = less(lambda units: excess("changed", edited, units))
    elsewhere = less(lambda units: excess("repeat", others, units) - excess("changed", others, units))
    share = conventions.margin_share
    repeat = excess("repeat", edited, seeds)
    parts = [
        Part("fall of overlap in changed matrices", inside, above(inside)),
        Part("overlap there less random", left(0), within(judge_by_share(left, share))),
        Part("fall elsewhere", outside, within(judge_by_share(elsewhere, share))),
    ]
    remaining = [
        f"{edit} {span(fall('undone', edits.index[edits == edit]))}" for edit in sorted(edits[edited].unique())
    ]
    note = (
        f"repeat less random {repeat:.3f}, margin {share * repeat:.3f}; fall that remains when the change is undone: "
    )
    return conclude(parts, note + ", ".join(remaining))


def _excess(chosen: pd.DataFrame) -> pd.DataFrame:
    """Overlap less random: a row per pair of seeds, a column per tensor."""
    excess = chosen.assign(excess=chosen["overlap"] - chosen["overlap_chance"])
    return excess.pivot_table(index=["seed_a", "seed_b"], columns="tensor", values="excess")
