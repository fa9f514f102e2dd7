"""The claims on masks: planted preferences are replicated, their absence is not, and one seed decides nothing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import runs_of
from rlscape.claims import load_register
from rlscape.claims.off_principals.masks import NULLS_TO_BEAT, mask_preference_on_grid
from rlscape.claims.register import Claim
from rlscape.files import write_parquet
from rlscape.geometry.operators import DENSITIES, RANK_FRACTIONS
from rlscape.paths import results_dir
from rlscape.results.weights import NULLS
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
        row: dict[str, float] = {"m": 8, "n": 8, "density": 0.3}
        for mask in NULLS_TO_BEAT:
            row |= {f"overlap_{mask}": 0.5 + excess[mask] + rng.normal(0, 1e-3), f"overlap_{mask}_chance": 0.5}
            row[f"energy_enrichment_{mask}"] = 1 + energy[mask] + rng.normal(0, 1e-3)
            for null in NULLS:
                row |= {f"overlap_{mask}_{null}{end}": 0.5 for end in ("", "_low", "_high")}
        matrices = pd.DataFrame([row | {"tensor": "q", "layer": 0, "kind": "q"}])
        cells = [{"operator": "both", "rank_fraction": 0.25, "alpha": None, "chance": 0.1, "energy": 0.3}]
        for mask in NULLS_TO_BEAT:
            for fraction in RANK_FRACTIONS if mask == "principal" else (None,):
                for alpha in DENSITIES:
                    inside = alpha * (1 + on_grid[mask] + rng.normal(0, 1e-3))
                    cell = {"operator": mask, "rank_fraction": fraction, "alpha": alpha, "chance": alpha}
                    cells.append(cell | {"energy": inside, "energy_binned": inside if mask == "low" else alpha})
        write_parquet(results_dir(config) / "geometry" / run / "matrices.parquet", matrices)
        write_parquet(results_dir(config) / "geometry" / run / "operators.parquet", pd.DataFrame(cells))


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
