"""The claims on masks: planted preferences are replicated, their absence is not, and one seed decides nothing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rlscape.catalogue import runs_of
from rlscape.claims import load_register
from rlscape.claims.off_principals.masks import NULLS_TO_BEAT, mask_preference_on_grid
from rlscape.claims.parts import Part
from rlscape.claims.register import Claim
from rlscape.files import write_parquet
from rlscape.geometry.measure import BaseMatrix, measure_matrix
from rlscape.geometry.operators import DENSITIES, RANK_FRACTIONS
from rlscape.geometry.sparsity import scale_to_density
from rlscape.paths import results_dir
from rlscape.power.off_principals.masks import ENERGY_PER_OVERLAP
from rlscape.results.weights import NULLS_AT_HALF, matrices, pooled_overlaps
from rlscape.settings.measurement import GeometrySettings
from rlscape.settings.scale import Config
from tests.claim_verdicts import CLAIMS
from tests.synthetic import small_config

YES, NO, OPEN = "replicated", "not replicated", "inconclusive"
REGISTER = load_register(CLAIMS)
AVOIDS, SEEKS = REGISTER.claim("O8"), REGISTER.claim("O9")


def write_masks(
    config: Config, excess: Mapping[str, float], on_grid: Mapping[str, float], energy: Mapping[str, float]
) -> None:
    """Overlap beyond every null by ``excess``, energy over chance by ``energy``, and on the grid by ``on_grid``."""
    for index, run in enumerate(runs_of(config, config.seeds)):
        rng = np.random.default_rng(index)
        row: dict[str, float] = {"m": 8, "n": 8, "density_half": 0.5}
        for mask in NULLS_TO_BEAT:
            overlap = f"overlap_half_{mask}"
            row |= {overlap: 0.5 + excess[mask] + rng.normal(0, 1e-3), f"{overlap}_chance": 0.5}
            row[f"energy_enrichment_{mask}"] = 1 + energy[mask] + rng.normal(0, 1e-3)
            for null in NULLS_AT_HALF:
                row |= {f"{overlap}_{null}{end}": 0.5 for end in ("", "_low", "_high")}
        table = pd.DataFrame([row | {"tensor": "q", "layer": 0, "kind": "q"}])
        cells = [{"operator": "both", "rank_fraction": 0.25, "alpha": None, "chance": 0.1, "energy": 0.3}]
        for mask in NULLS_TO_BEAT:
            for fraction in RANK_FRACTIONS if mask == "principal" else (None,):
                for alpha in DENSITIES:
                    inside = alpha * (1 + on_grid[mask] + rng.normal(0, 1e-3))
                    cell = {"operator": mask, "rank_fraction": fraction, "alpha": alpha, "chance": alpha}
                    cells.append(cell | {"energy": inside, "energy_binned": inside if mask == "low" else alpha})
        write_parquet(results_dir(config) / "geometry" / run / "matrices.parquet", table)
        write_parquet(results_dir(config) / "geometry" / run / "operators.parquet", pd.DataFrame(cells))


def is_bf16(part: Part) -> bool:
    """Whether it is of an overlap, not of fp32 energy."""
    return " less " in part.measure and "energy" not in part.measure


OFF = {"principal": -0.2, "low": 0.2}
ON = {"principal": 0.2, "low": -0.2}
QUIET = {"principal": 0.0, "low": 0.0}
SLIGHT = {"principal": -0.005, "low": 0.005}


@pytest.mark.parametrize(
    ("each", "seeds", "excess", "on_grid", "expected"),
    [
        (AVOIDS, 5, OFF, OFF, YES),
        (AVOIDS, 5, OFF, ON, NO),  # true of one rank and density only
        (AVOIDS, 5, OFF, QUIET, NO),
        (AVOIDS, 5, OFF, SLIGHT, NO),  # on the claimed side in every cell, and negligible
        (AVOIDS, 3, OFF, QUIET, OPEN),
        (AVOIDS, 5, OFF, OFF | {"low": -0.2}, NO),  # however many cells the other mask has
        (AVOIDS, 5, OFF, OFF | {"low": 0.0}, NO),
        (AVOIDS, 5, QUIET, OFF, NO),
        (AVOIDS, 5, SLIGHT, OFF, NO),
        (AVOIDS, 1, OFF, OFF, OPEN),
        (SEEKS, 5, ON, ON, YES),
        (SEEKS, 5, OFF, ON, NO),
        (SEEKS, 5, ON, OFF, NO),
    ],
)
def test_mask_preference(
    tmp_path: Path,
    each: Claim,
    seeds: int,
    excess: Mapping[str, float],
    on_grid: Mapping[str, float],
    expected: str,
) -> None:
    config = small_config(tmp_path, seeds=dict.fromkeys(each.arms, seeds))
    write_masks(config, excess, on_grid, OFF if each is AVOIDS else ON)
    found = mask_preference_on_grid(each, REGISTER.conventions, config)
    assert found.verdict == expected, found.reason
    assert "in the subspaces 3" in found.reason


@pytest.mark.parametrize(("energy", "expected"), [(OFF, YES), (SLIGHT, NO), (QUIET, NO), (ON, NO)])
def test_energy_of_masks_has_a_margin(tmp_path: Path, energy: Mapping[str, float], expected: str) -> None:
    config = small_config(tmp_path, seeds={"rlvr": 5})
    write_masks(config, OFF, OFF, energy)
    found = mask_preference_on_grid(AVOIDS, REGISTER.conventions, config)
    assert found.verdict == expected, found.reason


MEASURED = GeometrySettings(rank_fraction=0.25, null_draws=5)


def measure_planted(config: Config, factors: Mapping[str, float], density: float) -> None:
    """Weight geometry of Gaussian updates, entries of masks multiplied by ``factors``, that change such a share."""
    for index, run in enumerate(runs_of(config, config.seeds)):
        generator = torch.Generator().manual_seed(index)
        rows = []
        for layer in range(4):
            base, update = torch.randn(2, 64, 64, dtype=torch.float64, generator=generator)
            base = (0.05 * base).bfloat16().double()
            for mask, factor in factors.items():
                update = torch.where(BaseMatrix(base, MEASURED).masks[mask], factor * update, update)
            tuned = (base + scale_to_density(base, update, density) * update).float()
            rows.append({"layer": layer} | measure_matrix(base, tuned, MEASURED, generator))
        write_parquet(results_dir(config) / "geometry" / run / "matrices.parquet", pd.DataFrame(rows))


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_energy_and_overlap_of_one_preference_are_in_the_ratio_that_is_simulated(tmp_path: Path, factor: float) -> None:
    """Whether entries of a mask move further or less far; margins of both are not those of one preference."""
    config = small_config(tmp_path, seeds={"rlvr": 6})
    for mask, (binned, _) in NULLS_TO_BEAT.items():
        measure_planted(config, {mask: factor}, 0.6)
        table = matrices(config, ["rlvr"])
        pooled = pooled_overlaps(table, mask, ["seed"], half=True)
        energy = table[f"energy_enrichment_{mask}"].mean() - 1
        assert energy / (pooled["value"] - pooled[binned]).mean() == pytest.approx(ENERGY_PER_OVERLAP, rel=0.25)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.64, 0.9, 0.98])
def test_preferences_are_found_however_many_entries_change(tmp_path: Path, density: float) -> None:
    for each, factors in ((AVOIDS, {"principal": 0.5, "low": 2.0}), (SEEKS, {"principal": 2.0})):
        config = small_config(tmp_path, seeds=dict.fromkeys(each.arms, 5))
        write_masks(config, QUIET, QUIET, QUIET)
        measure_planted(config, factors, density)
        overlaps = [part for part in mask_preference_on_grid(each, REGISTER.conventions, config).parts if is_bf16(part)]
        assert len(overlaps) == 2 * len(each.directions)
        assert all(part.verdict == YES for part in overlaps), overlaps
    pooled = pooled_overlaps(matrices(config, SEEKS.arms), "principal", ["seed"])
    # As it is, an update cannot be further from chance.
    assert (pooled["value"] - pooled["chance"]).max() <= 0.5 / max(density, 0.5) - 0.5 + 1e-3


@pytest.mark.parametrize("density", [0.05, 0.64, 0.98])
def test_no_preference_is_refuted_however_many_entries_change(tmp_path: Path, density: float) -> None:
    config = small_config(tmp_path, seeds={"rlvr": 5})
    write_masks(config, QUIET, OFF, OFF)
    measure_planted(config, {}, density)
    found = mask_preference_on_grid(AVOIDS, REGISTER.conventions, config)
    overlaps = [part for part in found.parts if is_bf16(part)]
    assert all(abs(part.interval.estimate) < AVOIDS.threshold("negligible") for part in overlaps), overlaps
    assert "less chance: principal -0.1" in found.reason, "what rounding alone does"
    verdicts = {part.verdict for part in overlaps}
    assert found.verdict == NO and NO in verdicts and YES not in verdicts, overlaps
