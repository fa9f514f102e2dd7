"""Worlds of the claims on principal and small weights: O8, O9 and O15.

An update that moves the entries of a mask further, or less far, shows it in its overlap and in its fp32 energy: of
Gaussian updates that do, the energy over chance exceeds 1 by :data:`ENERGY_PER_OVERLAP` times what the overlap exceeds
its nulls by (tests/test_mask_claims.py). In ``holds`` the overlaps lie twice their margin beyond the nulls, in
``fails`` nothing does; in each ``edge`` one statistic lies exactly on its margin, or is there in too few cells of the
grid or too few settings: in one half of the cells, and in every setting with a probability of one half.

Overlaps are those where half of the entries of a matrix change, as the evaluators read them: what is planted lies
within reach there.
Paper: overlaps of updates as they are, no numbers for spectra and angles. Here: scatter over seeds of an overlap is
recorded at the updates' own densities and taken for that at half. Spectral efficiency and largest angle, which have no
margin, are assumed to be 20% (twice margin_share) below their null, and their scatter is that of recorded settings.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from rlscape.claims.register import Side
from rlscape.power.off_principals.tables import TWICE, Maker, Tables, rows, runs
from rlscape.power.recorded_weights import NULLS, Cells
from rlscape.power.worlds import Simulation
from rlscape.results import weights

SIGN: dict[Side, float] = {"above": 1.0, "below": -1.0}
SIZE_FREE = {"efficiency": "efficiency", "angle": "largest_angle"}
"""Statistic over its null -> what it scatters by over seeds."""
HALF = 0.5
"""Density of the masks, share of the entries that change, and of the settings with the claimed sign at an edge."""
ENERGY_PER_OVERLAP = 7.0
"""fp32 energy over chance, less 1, over the overlap less a null, of entries of a mask that move further or less far."""


class Preference(NamedTuple):
    """What is true in a world."""

    beyond: float = TWICE
    """Overlap beyond every null, in negligible ones."""
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


def scatter(cells: Cells, rng: np.random.Generator) -> np.ndarray:
    """Of a run, in every cell."""
    own = rng.normal(size=len(cells.deviation))
    return np.array(cells.deviation) * (np.sqrt(cells.common) * rng.normal() + np.sqrt(1 - cells.common) * own)


def preferring(simulation: Simulation, truth: Preference) -> Maker:
    """O8, O9: overlaps lie as far from every null as the preference takes them, and so does the energy in every cell.

    Cells of the grid scatter by as much as each was recorded to, and together by their mean correlation. Where too few
    have the preference, it is those that scatter least, which are found most surely.
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
    means, energies, on_grid = dict[str, float](), dict[str, float](), []
    for mask, side in claim.directions.items():
        preference = SIGN[side] * truth.beyond * negligible
        for null in NULLS[mask]:
            means[f"{mask} {null}"] = SIGN[side] * negligible if truth.edge == f"{mask} {null}" else preference
        of_cells = np.full(len(recorded.cells[mask].deviation), preference * ENERGY_PER_OVERLAP)
        if truth.edge == f"{mask} grid":
            by_scatter = np.argsort(recorded.cells[mask].deviation)
            of_cells[by_scatter[len(of_cells) // 2 :]] = SIGN[side] * of_energy
        on_grid.append(of_cells)
        at_margin = truth.edge == f"{mask} energy"
        energies[mask] = SIGN[side] * of_energy if at_margin else preference * ENERGY_PER_OVERLAP

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for run, _, _ in runs(config, claim.arms):
            of_mask = {
                mask: {null: means[f"{mask} {null}"] + rng.normal(0, spread[f"{mask}_{null}"]) for null in NULLS[mask]}
                for mask in energies
            }
            at_one = {mask: 1 + mean + rng.normal(0, spread[f"energy_{mask}"]) for mask, mean in energies.items()}
            tables[f"geometry/{run}/matrices.parquet"] = geometry(of_mask, at_one, {})
            over_chance = 1 + np.concatenate(on_grid)
            over_chance += np.concatenate([scatter(recorded.cells[mask], rng) for mask in energies])
            grid = cells.assign(energy=cells["chance"] * over_chance, energy_binned=cells["chance"])
            both = rows(operator="both", energy=1.0, chance=1.0)
            tables[f"geometry/{run}/operators.parquet"] = pd.concat([grid, both], ignore_index=True)
        return tables

    return make


# O15


SHARED = ("principal", "low", *SIZE_FREE)
"""What settings have of their own; a mask's overlap and energy have one sign."""
GENERIC = _worlds([*_statistics("principal", "low"), *SIZE_FREE, *(f"share {name}" for name in SHARED)])


def generic(simulation: Simulation, truth: Preference) -> Maker:
    """O15: settings whose overlaps, energies and size-free statistics differ by as much as recorded ones.

    Where a share is the edge, half of the settings on average have twice the effect, and the others the other sign.
    """
    config, recorded, claim = simulation.config, simulation.recorded.weights, simulation.claim
    spread = recorded.spread
    negligible, of_energy = claim.threshold("negligible"), claim.threshold("negligible_energy")
    signs = {name: SIGN[claim.directions.get(name, "below")] for name in SHARED}
    effects = {name: truth.beyond * simulation.conventions.margin_share for name in SIZE_FREE}
    for mask in claim.directions:
        at_margin = truth.edge == f"{mask} energy"
        effects[mask] = truth.beyond * negligible
        effects[f"energy_{mask}"] = of_energy if at_margin else effects[mask] * ENERGY_PER_OVERLAP
    effects |= {name: 0.0 for name in SIZE_FREE if truth.edge == name}

    def of_setting(rng: np.random.Generator) -> dict[str, float]:
        """Of every statistic."""
        found = {}
        there = rng.random() < HALF
        for statistic, effect in effects.items():
            name = statistic.removeprefix("energy_")
            drawn = rng.normal(0, spread[f"setting_{statistic}"])
            if truth.edge == f"share {name}":
                found[statistic] = signs[name] * (2 * effect + drawn if there else -abs(drawn))
            else:
                found[statistic] = signs[name] * effect + drawn
        return found

    def overlap(mask: str, null: str, own: float, rng: np.random.Generator) -> float:
        if truth.edge == f"{mask} {null}":
            own += signs[mask] * (1 - truth.beyond) * negligible
        return own + rng.normal(0, spread[f"{mask}_{null}"])

    def make(rng: np.random.Generator) -> Tables:
        tables: Tables = {}
        for arm in claim.arms:
            own = of_setting(rng)
            for run, _, _ in runs(config, [arm]):
                of_mask = {
                    mask: {null: overlap(mask, null, own[mask], rng) for null in NULLS[mask]}
                    for mask in claim.directions
                }
                energies = {
                    mask: 1 + own[f"energy_{mask}"] + rng.normal(0, spread[f"energy_{mask}"])
                    for mask in claim.directions
                }
                found = {name: (1 + own[name]) * (1 + rng.normal(0, spread[of])) for name, of in SIZE_FREE.items()}
                statistics = {"efficiency": found["efficiency"], "max_angle": found["angle"]}
                tables[f"geometry/{run}/matrices.parquet"] = geometry(of_mask, energies, statistics)
        return tables

    return make
