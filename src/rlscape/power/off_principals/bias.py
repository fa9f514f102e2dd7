"""Worlds of the claims on bias over time and at equal size: O5 and O7."""

from math import isnan
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from rlscape.catalogue import base_of, scratch_base, seeds_of
from rlscape.claims.off_principals.bias import AS_RUN, AT_EQUAL_NORM
from rlscape.power.off_principals.tables import LIMIT, TWICE, Maker, Tables, rows, runs
from rlscape.power.recorded_weights import RELATIVE
from rlscape.power.worlds import Simulation
from rlscape.results.bias import MATCHED_ARMS, rank_stability

# O5

PROFILED = (("q", "row"), ("o", "column"))
"""Either has a line per channel of a head, as long as the model is wide."""


class Keeps(NamedTuple):
    """What stays of the first snapshot."""

    tendencies: float = 1.0
    """Correlation of the lines' tendencies to change early and later. Paper: the peaks persist, no numbers."""
    entries: float = 1.0
    """Share of the changed entries that do not return to their first value. Paper: all, as masks grow."""


KEEPS: dict[str, Keeps] = {
    "holds": Keeps(),
    "fails": Keeps(tendencies=0.0),
    "edge first to last": Keeps(entries=LIMIT),
    "edge new": Keeps(tendencies=LIMIT),
}
FIRST, LAST = 1, 2
"""Snapshots."""
OF_KEPT = {"entries": ("share", "min_correlation"), "tendencies": ("new", "negligible")}
"""What is kept -> the rank correlation that it makes, and the claim's limit for that."""
MANY = 100_000
"""Lines whose rank correlation is known to 0.003."""


def stable(simulation: Simulation, truth: Keeps) -> Maker:
    """O5: lines of the recorded densities and tendencies, whose entries change at random."""
    config, claim, recorded = simulation.config, simulation.claim, simulation.recorded.weights
    early, late = recorded.changed
    spread = recorded.spread["line"]

    def profile(lines: int, entries: int, keeps: Keeps, rng: np.random.Generator) -> pd.DataFrame:
        first, other = rng.normal(0, spread, (2, lines))
        then = keeps.tendencies * first + np.sqrt(1 - keeps.tendencies**2) * other
        changed = rng.binomial(entries, np.clip(early + first, 0, 1))
        new = rng.binomial(entries - changed, np.clip(late + then, 0, 1))
        left = np.where(changed < entries, entries - changed, np.nan)
        still = rng.binomial(changed, keeps.entries)
        both = {"index": np.arange(lines), "share_by_magnitude": early, "new_by_magnitude": late}
        return pd.concat(
            [
                rows(**both, step=FIRST, share=changed / entries, new=0.0),
                rows(**both, step=LAST, share=(still + new) / entries, new=new / left),
            ]
        )

    def at_limit(entries: int) -> Keeps:
        """The truth, with numbers in place of limits: those at which many lines correlate as the claim just allows."""

        def beyond(value: float, name: str) -> float:
            correlation, threshold = OF_KEPT[name]
            table = profile(MANY, entries, truth._replace(**{name: value}), np.random.default_rng(0))
            found = rank_stability(table.assign(run="", arm="", seed=0, layer=0, kind="q", axis="row"), {"q": "row"})
            return found[correlation].item() - claim.threshold(threshold)

        def largest(name: str) -> float:
            """All, if that does not correlate as the claim asks either, as where lines do not differ."""
            return 1.0 if beyond(1.0, name) <= 0 else brentq(beyond, 0, 1, args=(name,), xtol=1e-3)

        return truth._replace(**{name: largest(name) for name, value in truth._asdict().items() if isnan(value)})

    models = {arm: scratch_base(config, base_of(config, arm)).model for arm in claim.arms}
    keeps = {entries: at_limit(entries) for entries in {model.hidden_size for model in models.values()}}

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for run, arm, _ in runs(config, claim.arms):
            model = models[arm]
            lines, entries = model.heads * model.head_dim, model.hidden_size
            frames = [
                profile(lines, entries, keeps[entries], rng).assign(layer=layer, kind=kind, axis=axis)
                for layer in range(model.layers)
                for kind, axis in PROFILED
            ]
            tables[f"geometry/{run}/profiles.parquet"] = pd.concat(frames, ignore_index=True)
        return tables

    return make


# O7

JUDGED = {"as_run": AS_RUN, "norm": AT_EQUAL_NORM}
Larger = dict[str, dict[str, float]]
"""Matching -> statistic -> SFT's over RL's, less 1, in margin_share."""


def _larger(by: float) -> Larger:
    return {matching: dict.fromkeys(statistics, by) for matching, statistics in JUDGED.items()}


# Paper: near zero under RL, large under SFT, no numbers.
LARGER: dict[str, Larger] = {"holds": _larger(TWICE), "fails": _larger(0.0)} | {
    f"edge {statistic} {matching}": _larger(TWICE) | {matching: dict.fromkeys(statistics, TWICE) | {statistic: 1.0}}
    for matching, statistics in JUDGED.items()
    for statistic in statistics
}


def kept(simulation: Simulation, larger: Larger) -> Maker:
    """O7: every statistic of RL is 1."""
    config, spread = simulation.config, simulation.recorded.weights.spread
    share = simulation.conventions.margin_share

    def make(rng: np.random.Generator) -> Tables:
        def row(matching: str, method: str, seed: int) -> dict[str, object]:
            more = larger.get(matching, {}) if method == "sft" else {}
            values = {name: (1 + more.get(name, 0.0) * share) * (1 + rng.normal(0, spread[name])) for name in RELATIVE}
            return {"matching": matching, "method": method, "seed": seed} | values

        return {
            f"geometry/matching-s{seed}.parquet": pd.DataFrame(
                row(matching, method, seed) for matching in (*JUDGED, "norm_snapshot") for method in ("rl", "sft")
            )
            for seed in seeds_of(config, *MATCHED_ARMS)
        }

    return make
