"""The claims on curvature and other settings: planted effects are granted, absent ones are not."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from rlscape.catalogue import runs_of
from rlscape.claims import load_register
from rlscape.claims.off_principals import generality
from rlscape.claims.parts import in_most
from rlscape.claims.register import (
    INCONCLUSIVE,
    NOT_REPLICATED,
    NOT_TESTABLE,
    REPLICATED,
    Claim,
    Outcome,
)
from rlscape.files import write_parquet
from rlscape.paths import results_dir
from rlscape.results.weights import NULLS_AT_HALF
from rlscape.settings.scale import Config
from tests.claim_verdicts import CLAIMS
from tests.loss_results import write_curvature
from tests.synthetic import small_config

CONVENTIONS = load_register(CLAIMS).conventions
CURVED = (
    *("size_1", "size_2", "size_3", "size_4", "rlvr"),
    *("rlvr_second_base", "agent_calculator", "llama_full", "mistral_full"),
)
FIVE = ("llama", "mistral", "agents", "deep_second", "deep")
SETTINGS = ("agent_calculator", "agent_search", "agent_planning", "dpo", "simpo", "llama_full", "mistral_full")


def claim(evaluator: str, arms: tuple[str, ...], **thresholds: float) -> Claim:
    return Claim(
        id="O0",
        paper="off_principals",
        text="",
        figures=(),
        evidence="",
        criterion="",
        evaluator=evaluator,
        arms=arms,
        directions={"principal": "below", "low": "above"},
        thresholds=thresholds,
    )


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Config:
    return small_config(tmp_path, seeds=2)


def curvature(config: Config, **planted: Any) -> Outcome:
    write_curvature(config, **{"batches": 16} | planted)
    return generality.principal_is_high_curvature(
        claim("principal_is_high_curvature", CURVED, negligible=0.1, min_share=0.85, min_batches=16),
        CONVENTIONS,
        config,
    )


def test_high_curvature_in_principal_directions_is_found(config: Config) -> None:
    found = curvature(config, principal=4, equal_magnitude=2, spread=0)
    assert found.verdict == REPLICATED and found.effect == pytest.approx(2, abs=0.05)
    assert (found.units, found.seeds) == (len(CURVED), 2) and "9 bases, 16 batches each" in found.reason
    assert "rl 8" in found.reason and "Fisher over KL 1.250 at the whole update, 1.062 at 0.25" in found.reason


@pytest.mark.parametrize(
    ("planted", "verdict"),
    [
        ({"principal": 1, "equal_magnitude": 1}, NOT_REPLICATED),
        ({"principal": 4, "equal_magnitude": 0.5}, NOT_REPLICATED),  # magnitude alone
        ({"principal": 1.25, "equal_magnitude": 1.25, "spread": 2.0, "between": 1.0}, INCONCLUSIVE),
        ({"principal": 1.03, "equal_magnitude": 1.03}, NOT_REPLICATED),  # of every base, and negligible
        ({"principal": 64, "equal_magnitude": 64, "reversed_bases": ["llama"]}, REPLICATED),  # of all but one
        ({"principal": 64, "equal_magnitude": 64, "reversed_bases": ["llama", "mistral"]}, INCONCLUSIVE),
        ({"principal": 64, "equal_magnitude": 64, "reversed_bases": FIVE}, NOT_REPLICATED),  # of four of nine
        ({"principal": 4, "equal_magnitude": 2, "batches": 8}, NOT_TESTABLE),
    ],
)
def test_other_curvature_is_not_taken_for_it(config: Config, planted: dict[str, Any], verdict: str) -> None:
    found = curvature(config, **planted)
    assert found.verdict == verdict, found.reason


def test_bases_that_have_the_sign_by_chance_seldom_are_as_many_as_asked() -> None:
    register = load_register(CLAIMS)
    each, limit = register.claim("O14"), register.conventions.max_error
    bases = len(each.arms)
    least = math.ceil(each.threshold("min_share") * bases)
    assert binom.sf(least - 1, bases, 0.5) < limit < binom.sf(least - 2, bases, 0.5)


def write_settings(
    config: Config,
    overlap: float = -0.1,
    enrichment: float = -0.2,
    rotation: float = -0.1,
    odd: str | None = None,
    off_null: float = 0.0,
) -> None:
    """Overlaps less every null, energy enrichment less 1 and relative rotation; of M_low with the other sign.

    Args:
        odd: a setting with everything reversed.
        off_null: by how much the rotated null of one matrix comes out too low, and that of the other too high.
    """
    rng = np.random.default_rng(0)
    for arm in SETTINGS:
        sign = -1 if arm == odd else 1
        for run in runs_of(config, [arm]):
            rows = []
            for layer in range(2):
                noise = 1 + 0.1 * rng.standard_normal()
                row = {"tensor": f"t{layer}", "layer": layer, "kind": "q", "m": 8, "n": 8, "density_half": 0.5}
                for mask, side in (("principal", 1), ("low", -1)):
                    row[f"energy_enrichment_{mask}"] = 1 + sign * side * enrichment * noise
                    row[f"overlap_half_{mask}"] = 0.5 + sign * side * overlap * noise
                    row[f"overlap_half_{mask}_chance"] = 0.5
                    for null in NULLS_AT_HALF:
                        row |= {f"overlap_half_{mask}_{null}{end}": 0.5 for end in ("", "_low", "_high")}
                for column in ("efficiency", "max_angle"):
                    null = 1 + off_null * (2 * layer - 1)
                    row |= {column: 1 + sign * rotation * noise, f"{column}_spectrum": null}
                rows.append(row)
            table = pd.DataFrame(rows).astype({"layer": "Int64"})
            write_parquet(results_dir(config) / "geometry" / run / "matrices.parquet", table)


def generic(config: Config) -> Outcome:
    return generality.generic(
        claim("generic", SETTINGS, negligible=0.01, negligible_energy=0.01, min_share=0.75), CONVENTIONS, config
    )


def test_a_bias_of_every_setting_is_generic(config: Config) -> None:
    write_settings(config)
    found = generic(config)
    assert found.verdict == REPLICATED and found.effect == pytest.approx(-0.1, abs=0.02)
    assert (found.units, found.seeds) == (len(SETTINGS), 2) and "7 settings of 2 seeds" in found.reason


@pytest.mark.parametrize(
    ("planted", "verdict"),
    [
        ({"overlap": 0.001}, NOT_REPLICATED),
        ({"overlap": 0.0}, NOT_REPLICATED),  # no more than the nulls have
        ({"overlap": -0.005}, NOT_REPLICATED),  # in every setting, and negligible
        ({"overlap": 0.1}, NOT_REPLICATED),
        ({"rotation": 0.1}, NOT_REPLICATED),
        ({"enrichment": 0.2}, NOT_REPLICATED),
        ({"enrichment": -0.005}, NOT_REPLICATED),
    ],
)
def test_what_is_not_in_every_setting_is_not_generic(config: Config, planted: dict, verdict: str) -> None:
    write_settings(config, **planted)
    assert generic(config).verdict == verdict


def test_scatter_of_a_null_is_no_rotation(config: Config) -> None:
    write_settings(config, rotation=0.0, off_null=0.3)
    parts = [part for part in generic(config).parts if "over its null" in part.measure]
    assert len(parts) == 4 and all(part.interval.estimate == pytest.approx(0) for part in parts[::2])


def test_shares_of_units_decide() -> None:
    def verdict(*values: float) -> str:
        units = pd.Series(values, index=[f"arm{number}" for number in range(len(values))])
        return in_most("effect", units, "above", min_share=0.75).verdict

    assert verdict(1, 1, 1, 1, 1, 1, 1, -1) == REPLICATED
    assert verdict(1, 1, 1, 1, 1, -1, -1, -1) == INCONCLUSIVE
    assert verdict(1, 1, 1, 1, -1, -1, -1, -1) == NOT_REPLICATED
    assert verdict(1, 1, 1, 1, np.nan, np.nan, np.nan, np.nan) == NOT_REPLICATED  # no value, no side
    assert verdict(1, 1, 1, 1) == verdict(-1, -1, -1, -1) == INCONCLUSIVE


def test_a_setting_with_the_other_sign_is_named(config: Config) -> None:
    write_settings(config, odd="dpo")
    assert "against: dpo" in generic(config).reason
