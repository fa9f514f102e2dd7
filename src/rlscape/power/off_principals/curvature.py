"""Worlds of O14: bases whose principal directions are curved more strongly than others, or not."""

import numpy as np
import pandas as pd

from rlscape.catalogue import curved_bases
from rlscape.power.off_principals.tables import Maker, Tables, of_unit
from rlscape.power.worlds import Simulation
from rlscape.results.loss import WHOLE

OCTAVES: dict[str, float] = {"holds": 1.0, "fails": 0.0}
"""log2 of the curvature of principal directions over that of others. Paper: assumed, no number. Here: twice as much."""
TENSOR = "model.layers.0.self_attn.q_proj.weight"


def curved(simulation: Simulation, octaves: float) -> Maker:
    """O14: one matrix per base, which stands for the mean over matrices."""
    config, spread = simulation.config, simulation.recorded.weights.spread
    assert config.geometry is not None, "a scale of P2"
    batches, groups = config.geometry.curvature.batches, config.geometry.curvature.groups
    indices = range(2 * groups)
    singular = pd.DataFrame(
        {"i": i, "j": j, "block": ("off", "mixed", "principal")[(i < groups) + (j < groups)]}
        for i in indices
        for j in indices
    ).assign(tensor=TENSOR, direction="singular")
    coordinate = pd.DataFrame({"block": ["off", "principal"], "bin": 0}).assign(tensor=TENSOR, direction="coordinate")
    plain = pd.DataFrame({"tensor": [TENSOR, WHOLE, WHOLE], "direction": ["isotropic", "isotropic", "rl"]})
    scaled = pd.DataFrame({"tensor": WHOLE, "direction": "rl", "scale": [1.0, 0.5], "half_fisher": 1.0, "kl": 1.0})
    directions = pd.concat([singular, coordinate, plain, scaled], ignore_index=True)
    share = directions["block"].map({"off": 0.0, "mixed": 0.5, "principal": 1.0}).fillna(0.0).to_numpy()
    is_singular, is_coordinate = ((directions["direction"] == name).to_numpy() for name in ("singular", "coordinate"))

    kind = directions["direction"] + " " + directions["block"].fillna("")

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for base in curved_bases(config):
            along, within = (of_unit(octaves, spread["curvature_base"], rng) for _ in range(2))
            own = share * np.where(is_coordinate, within, along)
            of_direction = pd.Series(is_singular * rng.normal(0, spread["curvature_direction"], len(directions)))
            own += (of_direction - of_direction.groupby(kind).transform("mean")).to_numpy()
            noise = rng.normal(0, spread["curvature_batch"], (batches, len(directions)))
            table = pd.concat([directions] * batches, ignore_index=True)
            table["batch"] = np.repeat(np.arange(batches), len(directions))
            tables[f"geometry/curvature-{base}.parquet"] = table.assign(quotient=2 ** (own + noise).ravel())
        return tables

    return make
