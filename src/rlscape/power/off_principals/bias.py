"""Worlds of the claims on bias over time and at equal size: O5 and O7."""

import numpy as np
import pandas as pd

from rlscape.catalogue import base_of, seeds_of
from rlscape.power.off_principals.tables import TWICE, Maker, Tables, rows, runs
from rlscape.power.recorded_weights import RELATIVE
from rlscape.power.worlds import Simulation
from rlscape.results.bias import MATCHED_ARMS

# O5

PROFILED = (("q", "row"), ("o", "column"))
"""Either has a line per channel of a head, as long as the model is wide."""
KEEPS: dict[str, float] = {"holds": 1.0, "fails": 0.0}
"""Correlation of the lines' tendencies to change early and later. Paper: the peaks persist, no numbers."""
FIRST, LAST = 1, 2
"""Snapshots."""


def stable(simulation: Simulation, keeps: float) -> Maker:
    """O5: lines of the recorded densities and tendencies, whose entries change at random."""
    config, recorded = simulation.config, simulation.recorded.weights
    early, late = recorded.changed
    spread = recorded.spread["line"]

    def profile(lines: int, entries: int, rng: np.random.Generator) -> pd.DataFrame:
        first, other = rng.normal(0, spread, (2, lines))
        then = keeps * first + np.sqrt(1 - keeps**2) * other
        changed = rng.binomial(entries, np.clip(early + first, 0, 1))
        new = rng.binomial(entries - changed, np.clip(late + then, 0, 1))
        left = np.where(changed < entries, entries - changed, np.nan)
        index = np.arange(lines)
        both = {"index": index, "share_by_magnitude": early, "new_by_magnitude": late}
        return pd.concat(
            [
                rows(**both, step=FIRST, share=changed / entries, new=0.0),
                rows(**both, step=LAST, share=(changed + new) / entries, new=new / left),
            ]
        )

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for run, arm, _ in runs(config, simulation.claim.arms):
            model = config.bases[base_of(config, arm)].model
            frames = [
                profile(model.heads * model.head_dim, model.hidden_size, rng).assign(layer=layer, kind=kind, axis=axis)
                for layer in range(model.layers)
                for kind, axis in PROFILED
            ]
            tables[f"geometry/{run}/profiles.parquet"] = pd.concat(frames, ignore_index=True)
        return tables

    return make


# O7

# Paper: near zero under RL, large under SFT, no numbers.
LARGER: dict[str, float] = {"holds": TWICE, "fails": 0.0}
"""SFT's statistics over RL's, less 1, in margin_share."""


def kept(simulation: Simulation, larger: float) -> Maker:
    """O7: every statistic of RL is 1."""
    config, spread = simulation.config, simulation.recorded.weights.spread
    level = {"rl": 1.0, "sft": 1 + larger * simulation.conventions.margin_share}

    def make(rng: np.random.Generator) -> Tables:
        def row(matching: str, method: str, seed: int) -> dict[str, object]:
            values = {name: level[method] * (1 + rng.normal(0, spread[name])) for name in RELATIVE}
            return {"matching": matching, "method": method, "seed": seed} | values

        return {
            f"geometry/matching-s{seed}.parquet": pd.DataFrame(
                row(matching, method, seed) for matching in ("as_run", "norm", "norm_snapshot") for method in level
            )
            for seed in seeds_of(config, *MATCHED_ARMS)
        }

    return make
