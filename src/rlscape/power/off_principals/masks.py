"""Worlds of the claims on principal and small weights: O8, O9 and O15."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from rlscape.claims.register import Side
from rlscape.power.off_principals.tables import TWICE, Maker, Tables, of_unit, rows, runs
from rlscape.power.recorded_weights import NULLS
from rlscape.power.worlds import Simulation

# Paper: no numbers (Figure 5). Here: what O15's margins were made from, in both worlds, as isotropic updates are off
# chance too; .28 is the chance of M_princ outside M_low, and not how far M_low lies above its own (see claims.yaml).
CHANCE = {"principal": -0.06, "low": 0.28}
"""Overlap less chance under RL in both worlds."""
BEYOND: dict[str, float] = {"holds": TWICE, "fails": 0.0}
"""What lies beyond every null, in the claim's margin."""
SIGN: dict[Side, float] = {"above": 1.0, "below": -1.0}
ENERGY = 0.01
"""Relative difference of an fp32 energy that stands for a negligible one; criteria name none."""
SIZE_FREE = {"efficiency": "efficiency", "angle": "largest_angle"}
"""Statistic over its null -> what it scatters by over seeds."""
HALF = 0.5
"""Density of the masks."""


def geometry(
    of_mask: Mapping[str, Mapping[str, float]], energies: Mapping[str, float], ratios: Mapping[str, float]
) -> pd.DataFrame:
    """Weight geometry of a run with one matrix.

    Args:
        of_mask: mask -> null -> overlap less it.
        energies: mask -> fp32 energy over chance.
        ratios: statistic -> its value over that of the spectrum-matched null.
    """
    columns: dict[str, float] = {"layer": 0, "m": 1, "n": 1, "density": HALF}
    for mask, excesses in of_mask.items():
        overlap = f"overlap_{mask}"
        columns |= {overlap: HALF, f"energy_enrichment_{mask}": energies[mask]}
        for null in ("chance", "binned", "isotropic", "spectrum"):
            value = HALF - excesses.get(null, 0.0)
            columns |= {f"{overlap}_{null}": value, f"{overlap}_{null}_low": value, f"{overlap}_{null}_high": value}
    for statistic, ratio in ratios.items():
        columns |= {statistic: ratio, f"{statistic}_spectrum": 1.0}
    return rows(**columns)


def _preferring(chance: Mapping[str, float]) -> Callable[[Simulation, float], Maker]:
    """By what separates overlaps from chance in both worlds; of other masks it is as much as from the nulls."""

    def prepare(simulation: Simulation, beyond: float) -> Maker:
        from rlscape.geometry.operators import DENSITIES, RANK_FRACTIONS  # imports torch

        config, spread = simulation.config, simulation.recorded.weights.spread
        sides = {mask: SIGN[side] * beyond for mask, side in simulation.claim.directions.items()}
        negligible = simulation.claim.threshold("negligible")
        ranks = {"principal": RANK_FRACTIONS, "low": (np.nan,)}
        cells = pd.DataFrame(
            {"operator": mask, "rank_fraction": rank, "alpha": alpha, "chance": alpha}
            for mask in sides
            for rank in ranks[mask]
            for alpha in DENSITIES
        )

        def overlaps(mask: str, rng: np.random.Generator) -> dict[str, float]:
            means = {null: sides[mask] * negligible for null in NULLS[mask]} | {
                "chance": chance.get(mask, sides[mask] * negligible)
            }
            return {null: mean + rng.normal(0, spread[f"{mask}_{null}"]) for null, mean in means.items()}

        def make(rng: np.random.Generator) -> Tables:
            tables: Tables = {}
            for run, _, _ in runs(config, simulation.claim.arms):
                energies = {mask: 1 + side * ENERGY for mask, side in sides.items()}
                at_one = {mask: mean + rng.normal(0, spread[f"energy_{mask}"]) for mask, mean in energies.items()}
                of_mask = {mask: overlaps(mask, rng) for mask in sides}
                tables[f"geometry/{run}/matrices.parquet"] = geometry(of_mask, at_one, {})
                over = {mask: mean + rng.normal(0, spread[f"cell_{mask}"]) for mask, mean in energies.items()}
                grid = cells.assign(energy=cells["chance"] * cells["operator"].map(over), energy_binned=cells["chance"])
                both = rows(operator="both", energy=1.0, chance=1.0)
                tables[f"geometry/{run}/operators.parquet"] = pd.concat([grid, both], ignore_index=True)
            return tables

        return make

    return prepare


avoiding = _preferring(CHANCE)
"""O8."""
targeting = _preferring({})
"""O9."""


def generic(simulation: Simulation, beyond: float) -> Maker:
    """O15: settings whose overlaps, energies and size-free statistics differ by as much as recorded ones."""
    config, spread = simulation.config, simulation.recorded.weights.spread
    claim = simulation.claim
    sides = {mask: SIGN[side] * beyond for mask, side in claim.directions.items()}
    margins = {mask: claim.threshold(f"margin_{mask}") for mask in sides}
    lower = -beyond * simulation.conventions.margin_share

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for arm in claim.arms:
            own = {mask: of_unit(side * margins[mask], spread[f"setting_{mask}"], rng) for mask, side in sides.items()}
            energies = {
                mask: 1 + of_unit(side * ENERGY, spread[f"setting_energy_{mask}"], rng) for mask, side in sides.items()
            }
            ratios = {name: 1 + of_unit(lower, spread[f"setting_{name}"], rng) for name in SIZE_FREE}
            for run, _, _ in runs(config, [arm]):
                of_mask = {
                    mask: {
                        null: (CHANCE[mask] if null == "chance" else mean) + rng.normal(0, spread[f"{mask}_{null}"])
                        for null in NULLS[mask]
                    }
                    for mask, mean in own.items()
                }
                of_run = {mask: mean + rng.normal(0, spread[f"energy_{mask}"]) for mask, mean in energies.items()}
                found = {
                    name: ratios[name] * (1 + rng.normal(0, spread[of_seeds])) for name, of_seeds in SIZE_FREE.items()
                }
                statistics = {"efficiency": found["efficiency"]}
                statistics |= {f"max_angle_{side}": found["angle"] for side in ("left", "right")}
                tables[f"geometry/{run}/matrices.parquet"] = geometry(of_mask, of_run, statistics)
        return tables

    return make
