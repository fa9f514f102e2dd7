"""Worlds of the claims on principal and small weights: O8, O9 and O15.

In ``holds`` everything that a criterion asks for is twice its margin, in ``fails`` nothing; in each ``edge`` one of its
statistics lies exactly on the margin, or its share does not suffice: of the grid's cells one fewer than asked lie
beyond the margin, while each setting has the claimed sign with a probability of one half, the true share.

Overlaps are those where half of the entries of a matrix change, as the evaluators read them: what is planted lies
within reach there.
Paper: overlaps of updates as they are. Here: the scatter over seeds and settings is recorded at the updates' own
densities and taken for that at half.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlscape.claims.register import Side
from rlscape.power.off_principals.tables import TWICE, Maker, Tables, rows, runs
from rlscape.power.recorded_weights import NULLS
from rlscape.power.worlds import Simulation
from rlscape.results import weights

SIGN: dict[Side, float] = {"above": 1.0, "below": -1.0}
SIZE_FREE = {"efficiency": "efficiency", "angle": "largest_angle"}
"""Statistic over its null -> what it scatters by over seeds."""
HALF = 0.5
"""Density of the masks, share of the entries that change, and of the settings with the claimed sign at an edge."""


class Preference(NamedTuple):
    """What is true in a world."""

    beyond: float = TWICE
    """What lies beyond every null, in the claim's margins."""
    edge: str = ""
    """The statistic that lies exactly on its margin, or whose share does not suffice."""


def geometry(
    of_mask: Mapping[str, Mapping[str, float]], energies: Mapping[str, float], ratios: Mapping[str, float]
) -> pd.DataFrame:
    """Weight geometry of a run with one matrix.

    Args:
        of_mask: mask -> null -> overlap less it.
        energies: mask -> fp32 energy over chance.
        ratios: statistic -> its value over that of the spectrum-matched null.
    """
    columns: dict[str, float] = {"layer": 0, "m": 1, "n": 1, "density_half": HALF}
    for mask, excesses in of_mask.items():
        overlap = f"overlap_half_{mask}"
        columns |= {overlap: HALF, f"energy_enrichment_{mask}": energies[mask]}
        for null in ("chance", *weights.NULLS_AT_HALF):
            value = HALF - excesses.get(null, 0.0)
            columns |= {f"{overlap}_{null}": value, f"{overlap}_{null}_low": value, f"{overlap}_{null}_high": value}
    for statistic, ratio in ratios.items():
        columns |= {statistic: ratio, f"{statistic}_spectrum": 1.0}
    return rows(**columns)


def _worlds(edges: Iterable[str]) -> dict[str, Preference]:
    at_margin = {f"edge {name}": Preference(edge=name) for name in edges}
    return {"holds": Preference(), "fails": Preference(beyond=0.0)} | at_margin


def _statistics(*masks: str) -> list[str]:
    """Of masks, by name: ``<mask> <null>`` and ``<mask> energy``."""
    return [f"{mask} {name}" for mask in masks for name in (*NULLS[mask], "energy")]


# O8, O9


AVOIDING = _worlds([*_statistics("principal", "low"), "principal grid", "low grid"])
TARGETING = _worlds([*_statistics("principal"), "principal grid"])


def preferring(simulation: Simulation, truth: Preference) -> Maker:
    """O8, O9: overlaps lie as far from every null as the preference takes them.

    All cells of the grid scatter together: of each the tables have the range over seeds alone.
    """
    from rlscape.geometry.operators import DENSITIES, RANK_FRACTIONS  # imports torch

    config, recorded, claim = simulation.config, simulation.recorded.weights, simulation.claim
    spread = recorded.spread
    negligible, of_energy = claim.threshold("negligible"), claim.threshold("negligible_energy")
    ranks = {"principal": RANK_FRACTIONS, "low": (np.nan,)}
    cells = pd.DataFrame(
        {"operator": mask, "rank_fraction": rank, "alpha": alpha, "chance": alpha}
        for mask in claim.directions
        for rank in ranks[mask]
        for alpha in DENSITIES
    )

    def planted(name: str, side: Side, margin: float) -> float:
        """A statistic's distance to its null."""
        return SIGN[side] * (1.0 if truth.edge == name else truth.beyond) * margin

    means = {
        f"{mask} {null}": planted(f"{mask} {null}", side, negligible)
        for mask, side in claim.directions.items()
        for null in NULLS[mask]
    }
    energies = {mask: planted(f"{mask} energy", side, of_energy) for mask, side in claim.directions.items()}
    on_grid = pd.Series(SIGN[claim.directions[mask]] * truth.beyond * of_energy for mask in cells["operator"])
    for mask, side in claim.directions.items():
        if truth.edge == f"{mask} grid":
            of_mask = cells.index[cells["operator"] == mask]
            enough = int(np.ceil(claim.threshold("min_share") * len(of_mask)))
            on_grid[of_mask[enough - 1 :]] = SIGN[side] * of_energy

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for run, _, _ in runs(config, claim.arms):
            of_mask = {
                mask: {null: means[f"{mask} {null}"] + rng.normal(0, spread[f"{mask}_{null}"]) for null in NULLS[mask]}
                for mask in energies
            }
            at_one = {mask: 1 + mean + rng.normal(0, spread[f"energy_{mask}"]) for mask, mean in energies.items()}
            tables[f"geometry/{run}/matrices.parquet"] = geometry(of_mask, at_one, {})
            own = {mask: rng.normal(0, spread[f"cell_{mask}"]) for mask in energies}
            over_chance = 1 + on_grid + cells["operator"].map(own)
            grid = cells.assign(energy=cells["chance"] * over_chance, energy_binned=cells["chance"])
            both = rows(operator="both", energy=1.0, chance=1.0)
            tables[f"geometry/{run}/operators.parquet"] = pd.concat([grid, both], ignore_index=True)
        return tables

    return make


# O15


SHARED = ("principal", "low", "principal energy", "low energy", *SIZE_FREE)
"""What settings have of their own."""
GENERIC = _worlds([*_statistics("principal", "low"), *SIZE_FREE, *(f"share {name}" for name in SHARED)])


def generic(simulation: Simulation, truth: Preference) -> Maker:
    """O15: settings whose overlaps, energies and size-free statistics differ by as much as recorded ones.

    Where a share is the edge, half of the settings on average have twice the effect, and the others the other sign.
    """
    config, recorded, claim = simulation.config, simulation.recorded.weights, simulation.claim
    spread = recorded.spread
    negligible, of_energy = claim.threshold("negligible"), claim.threshold("negligible_energy")
    signs = {name: SIGN[claim.directions.get(name.split()[0], "below")] for name in SHARED}
    effects = dict.fromkeys(claim.directions, negligible)
    effects |= {f"{mask} energy": of_energy for mask in claim.directions}
    effects |= dict.fromkeys(SIZE_FREE, simulation.conventions.margin_share)
    at_margin = dict.fromkeys(SIZE_FREE, 0.0) | {f"{mask} energy": of_energy for mask in claim.directions}

    def of_setting(name: str, rng: np.random.Generator) -> float:
        deviation = spread["setting_" + "_".join(reversed(name.split()))]
        drawn = rng.normal(0, deviation)
        if truth.edge == f"share {name}":
            there = rng.random() < HALF
            return signs[name] * (2 * truth.beyond * effects[name] + drawn if there else -abs(drawn))
        return signs[name] * (at_margin[name] if truth.edge == name else truth.beyond * effects[name]) + drawn

    def overlap(mask: str, null: str, own: float, rng: np.random.Generator) -> float:
        if truth.edge == f"{mask} {null}":
            own += signs[mask] * (1 - truth.beyond) * negligible
        return own + rng.normal(0, spread[f"{mask}_{null}"])

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for arm in claim.arms:
            own = {name: of_setting(name, rng) for name in SHARED}
            for run, _, _ in runs(config, [arm]):
                of_mask = {
                    mask: {null: overlap(mask, null, own[mask], rng) for null in NULLS[mask]}
                    for mask in claim.directions
                }
                energies = {
                    mask: 1 + own[f"{mask} energy"] + rng.normal(0, spread[f"energy_{mask}"])
                    for mask in claim.directions
                }
                found = {name: (1 + own[name]) * (1 + rng.normal(0, spread[of])) for name, of in SIZE_FREE.items()}
                statistics = {"efficiency": found["efficiency"], "max_angle": found["angle"]}
                tables[f"geometry/{run}/matrices.parquet"] = geometry(of_mask, energies, statistics)
        return tables

    return make
