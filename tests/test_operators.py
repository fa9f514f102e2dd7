"""Operators and precisions: planted effects are found, and nulls stay quiet."""

import pandas as pd
import pytest
import torch

from rlscape.geometry import operators
from rlscape.geometry.measure import BaseMatrix
from rlscape.geometry.sparsity import isotropic_density, sparsity_bf16
from rlscape.pipeline.measure_operators import measure_operators
from tests.entries import run_entry
from tests.tuned_models import SETTINGS, O, Q, gaussian, model, of_size, save, snapped, tuned


def row_of(table, operator):
    """The row of an operator at the usual rank and density."""
    found = table[(table["operator"] == operator) & (table["rank_fraction"] == 0.25)]
    return found[found["alpha"].isna() | (found["alpha"] == 0.5)].iloc[0]


def enrichment(table, operator):
    row = row_of(table, operator)
    return row["energy"] / row["chance"]


def test_an_isotropic_update_shows_chance_and_nulls_only():
    base = snapped(256, 128)
    table = operators.vary_operators(tuned(base, of_size(0.6, base, gaussian(256, 128, seed=1))))
    coordinates = table[table["operator"].isin(("principal", "low"))]
    assert len(coordinates) == len(operators.DENSITIES) * (1 + len(operators.RANK_FRACTIONS))
    for share in ("overlap", "largest", "energy"):
        assert (coordinates[share] - coordinates[f"{share}_binned"]).abs().max() < 0.015
    assert (coordinates["energy"] / coordinates["chance"]).between(0.9, 1.1).all()
    assert coordinates.query("operator == 'low' and alpha == 0.5")["overlap"].item() > 0.7  # rounding, not preference
    subspaces = table[~table["operator"].isin(("principal", "low"))]
    assert (subspaces["energy"] - subspaces["chance"]).abs().max() < 0.02


def test_masks_and_subspaces_can_disagree():
    """In the principal subspaces and off the principal entries; then the other way round."""
    base = snapped(96, 96)
    start = BaseMatrix(base.double(), SETTINGS)
    principal = start.masks["principal"]
    k = start.rank
    inside = start.svd.U[:, :k] @ gaussian(k, k, seed=3) @ start.svd.Vh[:k]
    off_entries = operators.vary_operators(tuned(base, of_size(1.0, base, inside * ~principal)))
    assert enrichment(off_entries, "principal") == pytest.approx(0, abs=1e-9)
    assert enrichment(off_entries, "both") > 3
    noise = gaussian(96, 96, seed=4)
    left, right = start.svd.U[:, :k], start.svd.Vh[:k]
    outside = noise - left @ (left.T @ noise)
    outside = outside - (outside @ right.T) @ right
    on_entries = operators.vary_operators(tuned(base, of_size(1.0, base, outside * (1 + 3 * principal))))
    assert enrichment(on_entries, "principal") > 1.6
    assert row_of(on_entries, "principal")["largest"] > row_of(on_entries, "principal")["largest_binned"] + 0.1
    assert enrichment(on_entries, "both") < 1


def test_seven_mantissa_bits_are_bf16():
    values = gaussian(20_000) * 10.0 ** (4 * gaussian(20_000, seed=1))
    ties = torch.tensor([1 + 2.0**-8, 1 + 3 * 2.0**-8, -(2 - 2.0**-8)], dtype=torch.float64)
    for each in (values.float().double(), ties):
        assert torch.equal(operators.round_mantissa(each, 7), each.bfloat16().double())
    base, update = snapped(64, 64).double(), 1e-4 * gaussian(64, 64, seed=1)
    read = operators.read_with_bits(base, update, 7)
    assert read["sparsity"] == sparsity_bf16(base, base + update)


@pytest.mark.parametrize("bits", operators.MANTISSA_BITS)
def test_sparsity_of_an_isotropic_update_collapses_over_bits(bits):
    base = snapped(400, 400).double()
    read = operators.read_with_bits(base, of_size(0.5, base, gaussian(400, 400, seed=1)), bits)
    assert read["x"] == pytest.approx(0.5 * 2.0 ** (bits - 7), rel=1e-6)
    assert read["sparsity"] == pytest.approx(read["expected_sparsity"], abs=0.004)
    assert read["sparsity"] == pytest.approx(1 - isotropic_density(read["x"]), abs=0.012)


def test_an_update_of_few_entries_is_sparser_than_rounding_explains():
    base = snapped(64, 64).double()
    few = torch.where(torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) < 0.1, 1.0, 0.0).double()
    read = operators.read_with_bits(base, of_size(2.0, base, few * gaussian(64, 64, seed=1)), 7)
    assert read["sparsity"] > 0.89
    assert read["expected_sparsity"] < 0.4


def test_operator_command(tmp_path, monkeypatch):
    base = model()
    save(base, tmp_path / "base/model.safetensors")
    after = {name: (w + 1e-4 * gaussian(*w.shape, seed=5)).float() for name, w in base.items()}
    save(after, tmp_path / "tuned/model.safetensors")
    values = SETTINGS.model_dump_json()
    options = {"base": tmp_path / "base", "model": tmp_path / "tuned", "settings": values, "output": tmp_path / "out"}
    run_entry(measure_operators, monkeypatch, **options)
    table = pd.read_parquet(tmp_path / "out/operators.parquet")
    assert set(table["tensor"]) == {Q, O}
    assert set(table["k"].dropna()) == {1, 3, 6, 12, 24}
    mantissa = pd.read_parquet(tmp_path / "out/mantissa.parquet")
    assert len(mantissa) == 2 * len(operators.MANTISSA_BITS)
    assert (mantissa.groupby("tensor")["sparsity"].diff().dropna() < 0).all()
