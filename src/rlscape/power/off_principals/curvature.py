"""Worlds of O14: bases whose principal directions are curved more strongly than others, or not.

At the edges of shares one half of the bases have the claimed sign, not just fewer than min_share of them.
"""

from math import isnan
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlscape.catalogue import curved_bases
from rlscape.power.off_principals.tables import LIMIT, Maker, Tables
from rlscape.power.worlds import Simulation
from rlscape.results.loss import WHOLE


class Curved(NamedTuple):
    """Octaves of curvature, means over bases."""

    along: float = 1.0
    """Of principal directions over others."""
    within: float = 1.0
    """Of principal entries over others of equal magnitude."""
    order: float = 1.0
    """Between blocks whose difference alone would have the quotients' covariance with i + j."""
    split: str = ""
    """Which of these half of the bases lack, so that the rest have twice as much."""


# Paper: assumed, no number. Here: twice as much.
CURVED: dict[str, Curved] = {
    "holds": Curved(),
    "fails": Curved(0.0, 0.0, 0.0),
    "edge directions": Curved(along=LIMIT),
    "edge entries": Curved(within=LIMIT),
    "edge order": Curved(order=0.0),
    "edge share of directions": Curved(split="along"),
    "edge share of entries": Curved(split="within"),
    "edge share of order": Curved(split="order"),
}
TENSOR = "model.layers.0.self_attn.q_proj.weight"


def curved(simulation: Simulation, truth: Curved) -> Maker:
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
    # Within a block, falling with i + j; scaled to the covariance with i + j that blocks an octave apart have.
    falling = (groups - 1 - directions["i"] % groups - directions["j"] % groups).fillna(0.0).to_numpy()
    falling = falling * 1.5 * groups / max(groups**2 - 1, 1)

    kind = directions["direction"] + " " + directions["block"].fillna("")
    limit = simulation.claim.threshold("negligible")
    means = {
        name: limit if isnan(mean) else mean
        for name, mean in (("along", truth.along), ("within", truth.within), ("order", truth.order))
    }

    def octaves(name: str, deviation: float) -> float:
        """Of a base."""
        return deviation + means[name] * (2 * (deviation > 0) if name == truth.split else 1)

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for base in curved_bases(config):
            of_directions, of_entries = rng.normal(0, spread["curvature_base"], 2)
            along, order = (octaves(name, of_directions) for name in ("along", "order"))
            own = share * np.where(is_coordinate, octaves("within", of_entries), along) + falling * (order - along)
            of_direction = pd.Series(is_singular * rng.normal(0, spread["curvature_direction"], len(directions)))
            own += (of_direction - of_direction.groupby(kind).transform("mean")).to_numpy()
            noise = rng.normal(0, spread["curvature_batch"], (batches, len(directions)))
            table = pd.concat([directions] * batches, ignore_index=True)
            table["batch"] = np.repeat(np.arange(batches), len(directions))
            tables[f"geometry/curvature-{base}.parquet"] = table.assign(quotient=2 ** (own + noise).ravel())
        return tables

    return make
