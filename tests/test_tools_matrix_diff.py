"""One matrix against its base: masks, nulls, angles and their errors, where the exact calculation is at hand."""

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from rlscape.geometry import masks, nulls, spectra
from rlscape.geometry.sparsity import UpdateTotals, scale_to_density, update_mask
from rlscape.tools.weights import low_rank
from rlscape.tools.weights.bf16_bins import NOT_FINITE, Grid, bf16_bits, holm, shared_entries
from rlscape.tools.weights.checkpoint_diff import DiffOptions, diff_checkpoints
from rlscape.tools.weights.diff_report import answers
from rlscape.tools.weights.stored_base import Clock, StoredBase, upper_mask
from tests.held_checkpoints import UP, Memory, base_matrix, compared, generator, isotropic, isotropic_pair

KRYLOV = DiffOptions(exact=1, rank=8)


def grid(weights: Tensor) -> Grid:
    return StoredBase(weights, DiffOptions(), Clock()).grid


class TestLowRank:
    def test_angles_are_within_their_bound(self) -> None:
        g = generator(0)
        left = torch.linalg.qr(torch.randn(900, 600, dtype=torch.float64, generator=g)).Q
        right = torch.linalg.qr(torch.randn(600, 600, dtype=torch.float64, generator=g)).Q
        for values in (torch.arange(1, 601) ** -0.5, 1 + torch.rand(600, generator=g).double()):
            weights = ((left * values.sort(descending=True).values) @ right.T).float()
            exact, _ = low_rank.exact_svd(weights, 16)
            top = low_rank.top_svd(weights, 16)
            for truth, found in ((exact.U, top.U), (exact.Vh.T, top.Vh.T)):
                angles = spectra.principal_angles(truth, found).rad2deg()
                assert angles[-1] <= top.angle_error < 5
                assert angles.mean() <= top.mean_angle_error
                assert torch.allclose(found.T @ found, torch.eye(16, dtype=torch.float64), atol=1e-12)
            residual = (weights.double().T @ top.U - top.Vh.T * top.S).norm(dim=0) / top.S
            assert (residual <= top.residuals).all()
            assert ((weights.double() @ top.Vh.T - top.U * top.S).norm(dim=0) / top.S < 1e-5).all()
            assert ((exact.S - top.S).abs() <= top.residuals * top.S).all()

    def test_a_subspace_without_a_gap_is_not_determined(self) -> None:
        basis = torch.linalg.qr(torch.randn(600, 600, generator=generator(1))).Q
        values = torch.ones(600)
        values[:4] = 2
        assert low_rank.top_svd(basis * values, 8).angle_error == 90
        assert low_rank.top_svd(basis * values, 4).angle_error < 0.1

    def test_a_matrix_of_lower_rank_than_its_krylov_space(self) -> None:
        g = generator(2)
        weights = torch.randn(700, 12, generator=g) @ torch.randn(12, 500, generator=g)
        exact, _ = low_rank.exact_svd(weights, 12)
        top = low_rank.top_svd(weights, 12)
        assert torch.allclose(top.S, exact.S, rtol=1e-5)
        assert spectra.principal_angles(exact.U, top.U)[-1].rad2deg() <= top.angle_error < 1

    def test_both_methods_measure_the_same(self) -> None:
        base = base_matrix(700, 450, 3)
        tuned = isotropic(base, 2, 4).bfloat16()
        krylov, exact = compared(base, tuned, KRYLOV), compared(base, tuned, DiffOptions(rank=8))
        assert (krylov["svd"], exact["svd"]) == ("krylov", "exact")
        for side in ("left", "right"):
            error = krylov["angle_error_deg"]
            assert krylov[f"max_angle_{side}"] == pytest.approx(exact[f"max_angle_{side}"], abs=error)
            assert krylov[f"mean_angle_{side}"] == pytest.approx(exact[f"mean_angle_{side}"], abs=error)
        assert krylov["nss_top"] == pytest.approx(exact["nss_top"], abs=krylov["nss_top_error"])
        for column in ("overlap_principal", "overlap_principal_binned", "energy_left", "energy_both_binned"):
            assert krylov[column] == pytest.approx(exact[column], rel=1e-3)


class TestMatrix:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16, torch.float8_e4m3fn])
    def test_sums_are_those_of_the_geometry(self, dtype: torch.dtype) -> None:
        base = base_matrix(60, 50, 5)
        base[0, :4] = torch.tensor([0.0, -0.0, 0.0, 1e-3])
        tuned = isotropic(base, 1, 6).to(dtype)
        tuned[0, :4] = torch.tensor([-0.0, 0.0, 1e-3, 0.0], dtype=dtype)
        row, expected = compared(base, tuned), UpdateTotals.of(base, tuned)
        for name, value in vars(expected).items():
            assert row[name] == pytest.approx(value, rel=1e-5), name
        assert row["sparsity_bitwise"] < row["sparsity"]

    def test_masks_angles_and_energies_are_those_of_the_geometry(self) -> None:
        base = base_matrix(60, 50, 7)
        tuned = isotropic(base, 3, 8).bfloat16()
        row, k = compared(base, tuned), 12
        before, after = masks.svd(base), masks.svd(tuned)
        changed, principal = update_mask(base, tuned), masks.principal_mask(before, k, 0.5)
        assert row["k"] == k
        assert row["overlap_principal"] == pytest.approx(masks.overlap(principal, changed))
        assert row["overlap_low"] == pytest.approx(masks.overlap(masks.low_mask(base, 0.5), changed), abs=0.01)
        assert row["nss"] == pytest.approx(spectra.nss(before.S, after.S))
        angles = spectra.principal_angles(before.Vh[:k].T, after.Vh[:k].T).rad2deg()
        assert row["max_angle_right"] == pytest.approx(angles[-1].item())
        update = tuned.double() - base.double()
        for name, value in spectra.subspace_energies(before, update, k).items():
            assert row[name] == pytest.approx(value, rel=1e-4), name

    def test_angles_of_an_isotropic_update(self) -> None:
        base = base_matrix(120, 90, 24)
        for dtype in (torch.bfloat16, torch.float32):
            row = compared(base, isotropic(base, 0.5, 25).to(dtype), DiffOptions(rank=4, angle_null=True))
            real = max(row["max_angle_left"], row["max_angle_right"])
            assert row["max_angle_isotropic"] == pytest.approx(real, rel=0.3)
            twice = compared(base, isotropic(base, 1.5, 25).to(dtype), DiffOptions(rank=4, angle_null=True))
            assert twice["max_angle_isotropic"] > 2 * row["max_angle_isotropic"]

    def test_upper_mask_is_the_top_mask(self) -> None:
        scores = torch.randn(300, 70, generator=generator(9)).abs()
        for density in (0.01, 0.5, 0.93):
            assert torch.equal(upper_mask(scores, density), masks.top_mask(scores, density))
        assert upper_mask(torch.zeros(10, 10), 0.5).all()


class TestNulls:
    def test_binned_is_the_permutation_of_the_geometry(self) -> None:
        base = base_matrix(60, 50, 10)
        tuned = isotropic(base, 0.5, 11).bfloat16()
        changed = update_mask(base, tuned)
        principal = masks.principal_mask(masks.svd(base), 12, 0.5)
        bins = (bf16_bits(base) & 0x7FFF).long()
        expected = nulls.binned_permutation(changed.double() / changed.sum(), principal, bins)
        row = compared(base, tuned)
        found = [row[f"overlap_principal_binned{suffix}"] for suffix in ("", "_low", "_high")]
        assert found == pytest.approx(list(expected), rel=1e-9)

    @pytest.mark.parametrize("x", [0.1, 1.0, 20.0])
    @pytest.mark.parametrize("lattice", [True, False])
    def test_rounding_of_an_isotropic_update(self, x: float, lattice: bool) -> None:
        base = (0.02 * torch.randn(1000, 400, generator=generator(12))).to(torch.bfloat16 if lattice else torch.float32)
        tuned = isotropic(base, x, 13)
        of_base = grid(base)
        scale = (tuned - base.float()).square().mean().sqrt().item()
        assert of_base.on_lattice == lattice
        sparsity = UpdateTotals.of(base, tuned).summary()["sparsity"]
        assert of_base.expected_sparsity(scale) == pytest.approx(sparsity, abs=0.003)
        assert of_base.scale_of_density(int(update_mask(base, tuned).sum())) == pytest.approx(scale, rel=0.02)
        if lattice:
            energy = (tuned.bfloat16().double() - base.double()).square().sum().item()
            assert of_base.scale_of_rounded(energy) == pytest.approx(scale, rel=0.02)
            assert compared(base, tuned.bfloat16(), KRYLOV)["x"] == pytest.approx(x, rel=0.02)

    def test_isotropic_null_is_that_of_draws_of_equal_density(self) -> None:
        base = base_matrix(60, 50, 14)
        tuned = isotropic(base, 1, 15).bfloat16()
        row = compared(base, tuned)
        update = (tuned.double() - base.double()).double()
        low, principal = masks.low_mask(base, 0.5), masks.principal_mask(masks.svd(base), 12, 0.5)
        drawn: dict[str, list[float]] = {"low": [], "principal": []}
        for seed in range(60):
            noise = nulls.isotropic_update(update, generator(1000 + seed))
            scale = scale_to_density(base.double(), noise, masks.density(update_mask(base, tuned)))
            changed = update_mask(base, base.double() + scale * noise)
            drawn["low"].append(masks.overlap(low, changed))
            drawn["principal"].append(masks.overlap(principal, changed))
        for name, draws in drawn.items():
            margin = (row[f"overlap_{name}_isotropic_high"] - row[f"overlap_{name}_isotropic"]) / 1.96
            assert row[f"overlap_{name}_isotropic"] == pytest.approx(np.mean(draws), abs=0.006)
            assert margin == pytest.approx(np.std(draws), rel=0.35)

    def test_shared_entries_of_one_bin_are_hypergeometric(self) -> None:
        mean, variance = shared_entries(*(np.array([count, 0]) for count in (10, 4, 5)))
        assert mean == 2
        assert variance == pytest.approx(4 * 0.6 * 5 * 0.5 / 9)

    def test_holm(self) -> None:
        adjusted = holm(np.array([0.03, np.nan, 0.001, 0.02, 0.5]))
        assert adjusted == pytest.approx([0.06, np.nan, 0.004, 0.06, 0.5], nan_ok=True)

    @pytest.mark.more
    def test_family_wise_error_of_isotropic_updates(self) -> None:
        families, size = 200, 3
        base, tuned = isotropic_pair(0, tensors=families * size)
        result = diff_checkpoints(base, [tuned])
        low, high = binom.interval(0.999, families, 0.05)
        for statistic in ("overlap", "energy"):
            p = result.tensors.filter(regex=f"^{statistic}_.*_p$").to_numpy()
            assert p.shape == (families * size, 3)
            rejected = sum((holm(family.ravel()) < 0.05).any() for family in np.split(p, families))
            assert low <= rejected <= high, statistic

    def test_an_update_that_avoids_principal_weights_at_fixed_magnitude_is_found(self) -> None:
        base = base_matrix(200, 150, 16)
        tuned = isotropic(base, 0.5, 17)
        principal = masks.principal_mask(masks.svd(base), 38, 0.5)
        spared = principal & (torch.rand(base.shape, generator=generator(18)) < 0.1)
        tuned = torch.where(spared, base.float(), tuned).bfloat16()
        result = diff_checkpoints(Memory("base", {UP.format(0): base}), [Memory("tuned", {UP.format(0): tuned})])
        row = result.tensors.iloc[0]
        assert row["overlap_principal"] < row["overlap_principal_binned_low"]
        assert row["overlap_principal_p_holm"] < 0.01
        assert "avoids principal weights beyond magnitude and rounding" in answers(result)["tuned"][0]


def test_the_last_bin_is_the_largest_finite_number() -> None:
    largest = torch.tensor([torch.finfo(torch.bfloat16).max]).bfloat16()
    assert int(bf16_bits(largest)) == NOT_FINITE - 1
