"""The null that keeps rows, columns and magnitudes says nothing of updates that these make, and sees others."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from rlscape.geometry import margins, masks, spectra
from rlscape.geometry.margins import fit_margins, margins_of
from rlscape.geometry.measure import BaseMatrix, TunedMatrix
from rlscape.pipeline.measure_margins import measure_margins
from rlscape.settings.measurement import GeometrySettings
from tests.entries import run_entry
from tests.test_operators import O, Q, model, save

SETTINGS = GeometrySettings(rank_fraction=0.25, null_draws=2)
ROWS, COLUMNS = 192, 96


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def base() -> BaseMatrix:
    """Of rows whose scales differ, as those of a trained matrix do, with singular values that fall."""
    scales = 0.02 * torch.exp(0.5 * gaussian(ROWS, 1, seed=1))
    return BaseMatrix((scales * gaussian(ROWS, COLUMNS, seed=2)).bfloat16().double(), SETTINGS)


def measured(base: BaseMatrix, update: torch.Tensor) -> dict[str, float]:
    return margins_of(TunedMatrix(base, base.weights + update))


def test_the_fit_has_the_sums_of_rows_columns_and_bins() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 1.0]], dtype=torch.float64)
    bins = torch.tensor([[0, 1, 0], [1, 0, 1]])
    fitted = fit_margins(values, bins)
    assert fitted.sum(1).tolist() == pytest.approx([6, 7], abs=1e-4)
    assert fitted.sum(0).tolist() == pytest.approx([3, 6, 4], abs=1e-4)
    assert [fitted[bins == b].sum().item() for b in (0, 1)] == pytest.approx([8, 5], abs=1e-4)
    assert (fitted > 0).all() and not torch.allclose(fitted, values)


def test_independent_rows_and_columns_are_their_product_where_there_is_one_bin() -> None:
    values = gaussian(5, 4).square()
    fitted = fit_margins(values, torch.zeros(5, 4, dtype=torch.int64))
    torch.testing.assert_close(fitted, values.sum(1)[:, None] * values.sum(0) / values.sum())


def test_scales_of_rows_alone_are_no_preference(base: BaseMatrix) -> None:
    """Larger where the base's rows are smaller: beyond chance, not beyond the margins."""
    update = 1e-4 * gaussian(ROWS, COLUMNS, seed=3) / base.weights.norm(dim=1, keepdim=True)
    found = measured(base, update)
    assert found["energy_left"] < 0.8 * found["energy_left_chance"]
    assert found["energy_left"] == pytest.approx(found["energy_left_margins"], rel=0.06)
    assert found["energy_enrichment_principal"] < 0.75
    assert found["energy_enrichment_principal"] == pytest.approx(found["energy_enrichment_principal_margins"], abs=0.02)
    assert found["overlap_principal"] == pytest.approx(found["overlap_principal_margins"], abs=0.02)


def test_a_preference_for_singular_vectors_or_principal_entries_is_beyond_the_margins(base: BaseMatrix) -> None:
    rank, noise = base.rank, gaussian(ROWS, COLUMNS, seed=4)
    left = base.svd.U[:, :rank]
    avoids = 1e-3 * (noise - 0.7 * left @ left.T @ noise)
    found = measured(base, avoids)
    assert found["energy_left"] < 0.5 * found["energy_left_margins"]
    on_entries = 1e-3 * noise * torch.where(base.masks["principal"], 0.7, 1.0)
    found = measured(base, on_entries)
    assert found["energy_enrichment_principal"] < found["energy_enrichment_principal_margins"] - 0.1
    assert found["energy_left_margins"] == pytest.approx(found["energy_left"], rel=0.1)


def test_equal_rows_and_columns_leave_chance() -> None:
    base = masks.svd(gaussian(24, 16))
    expected = margins.subspace_margins(base, torch.ones(24, 16, dtype=torch.float64), 4, draws=2)
    sides = [expected[f"energy_{side}_margins"] for side in ("left", "right", "both")]
    assert sides == pytest.approx([4 / 24, 4 / 16, 16 / 384])


def test_random_signs_have_the_expectation_and_the_spread_that_are_told(base: BaseMatrix) -> None:
    """Of one direction chance alone puts much energy into U_k, or little; of many, little spread is left."""
    few, many = gaussian(ROWS, 1, seed=6) @ gaussian(1, COLUMNS, seed=7), gaussian(ROWS, COLUMNS, seed=8)
    spread = {}
    for name, update in {"few": few, "many": many}.items():
        expected = margins.subspace_margins(base.svd, update, base.rank, draws=400)
        draw = torch.Generator().manual_seed(1)
        energies = [
            spectra.subspace_energies(
                base.svd,
                torch.where(torch.rand(ROWS, 1, generator=draw) < 0.5, 1.0, -1.0)
                * update
                * torch.where(torch.rand(COLUMNS, generator=draw) < 0.5, 1.0, -1.0),
                base.rank,
            )
            for _ in range(400)
        ]
        for side in ("left", "right", "both"):
            values = pd.Series([each[f"energy_{side}"] for each in energies])
            sd = expected[f"energy_{side}_margins_sd"]
            assert abs(values.mean() - expected[f"energy_{side}_margins"]) < 4 * sd / 400**0.5
            assert sd == pytest.approx(values.std(), rel=0.25)
        spread[name] = expected["energy_left_margins_sd"]
    assert spread["few"] > 5 * spread["many"]


def test_an_update_of_nothing_is_nan(base: BaseMatrix) -> None:
    found = measured(base, torch.zeros(ROWS, COLUMNS, dtype=torch.float64))
    assert all(pd.isna(value) for name, value in found.items() if not name.endswith("_chance"))


def test_margins_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model()
    save(before, tmp_path / "base/model.safetensors")
    after = {name: (w + 1e-3 * gaussian(*w.shape, seed=5)).float() for name, w in before.items()}
    save(after, tmp_path / "tuned/model.safetensors")
    output = tmp_path / "margins.parquet"
    options = {"base": tmp_path / "base", "model": tmp_path / "tuned", "settings": SETTINGS.model_dump_json()}
    run_entry(measure_margins, monkeypatch, **options, output=output)
    table = pd.read_parquet(output).set_index("tensor")
    assert set(table.index) == {Q, O}
    change = after[Q].double() - before[Q].double()
    own = margins_of(TunedMatrix(BaseMatrix(before[Q].double(), SETTINGS), before[Q].double() + change))
    assert table.loc[Q, list(own)].to_dict() == pytest.approx(own)
