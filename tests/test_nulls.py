"""The nulls have their analytic expectation, and reject what they should."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, stats

from rlscape.claims import load_register
from rlscape.geometry import masks, nulls, spectra
from rlscape.geometry.measure import BaseMatrix, measure_matrix
from rlscape.geometry.one_density import half_mask
from rlscape.geometry.sparsity import HALF_ULP, isotropic_density, scale_to_density, update_mask
from rlscape.random_matrices import haar_orthogonal
from rlscape.settings.measurement import GeometrySettings
from tests.claim_verdicts import CLAIMS

SETTINGS = GeometrySettings(rank_fraction=0.25, null_draws=5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("draw", [nulls.isotropic_update, nulls.spectrum_matched_update])
def test_random_updates_put_chance_energy_in_the_principal_subspaces(draw):
    base = masks.svd(gaussian(24, 16))
    update = base.U[:, :2] @ base.Vh[:2]  # as principal as can be
    random = generator(1)
    draws = [spectra.subspace_energies(base, draw(update, random), rank=4) for _ in range(400)]
    for name in ("energy_left", "energy_right", "energy_both"):
        values = np.array([energies[name] for energies in draws])
        chance = draws[0][f"{name}_chance"]
        assert abs(values.mean() - chance) < 4 * values.std() / math.sqrt(len(values))
    energies = spectra.subspace_energies(base, update, rank=4)
    assert energies["energy_both"] == pytest.approx(1)
    assert [energies[f"energy_{side}_chance"] for side in ("left", "right", "both")] == [
        4 / 24,
        4 / 16,
        16 / 384,
    ]


def test_nulls_keep_what_they_promise():
    update = gaussian(24, 16) ** 3
    isotropic = nulls.isotropic_update(update, generator(1))
    rotated = nulls.spectrum_matched_update(update, generator(1))
    assert isotropic.norm() == pytest.approx(update.norm().item())
    torch.testing.assert_close(torch.linalg.svdvals(rotated), torch.linalg.svdvals(update))
    assert not torch.allclose(rotated, update)


def test_haar_matrices_are_orthogonal_and_unbiased():
    random = generator()
    draws = torch.stack([haar_orthogonal(3, random) for _ in range(4000)])
    torch.testing.assert_close(draws @ draws.mT, torch.eye(3, dtype=torch.float64).expand(4000, 3, 3))
    error = 4 / math.sqrt(3 * 4000)  # an entry has variance 1/3
    assert draws.mean(0).abs().max() < error  # a bare QR has diagonal mean far from 0


def test_prediction_interval_covers_one_more_draw():
    values = gaussian(2000, 6, seed=3).numpy()
    inside = 0
    for row in values:
        null = nulls.from_draws(row[:5])
        inside += null.low <= row[5] <= null.high
    assert inside / 2000 == pytest.approx(0.95, abs=0.02)
    assert math.isnan(nulls.from_draws(values[0, :1]).low)


def test_strata_share_exponent_and_leading_bits():
    base = (0.05 * gaussian(64, 64)).bfloat16().double()
    base[0, :3] = torch.tensor([0.0, 0.25, -0.25])
    finest, binades = nulls.magnitude_strata(base, 7), nulls.magnitude_strata(base, 0)
    assert torch.equal(finest, base.abs().unique(return_inverse=True)[1])
    exponents = torch.frexp(base)[1].where(base != 0, -200)
    assert torch.equal(binades, exponents.unique(return_inverse=True)[1])
    for bits in range(7):
        coarse, fine = nulls.magnitude_strata(base, bits), nulls.magnitude_strata(base, bits + 1)
        assert (coarse.flatten()[fine.flatten().argsort()].diff() >= 0).all()  # nested
        ranges = pd.Series(base.abs().flatten()).groupby(coarse.flatten().numpy()).agg(["min", "max"])
        assert (ranges["max"] <= (1 + 2.0**-bits) * ranges["min"]).all()


def changing(base: torch.Tensor, shape: str, density: float) -> torch.Tensor:
    """Probability that an entry changes, a function of its magnitude alone whose mean is ``density``."""
    magnitude = base.abs().clamp(min=1e-12)
    half_ulp = 2.0 ** (magnitude.log2().floor() - 8)
    functions = {
        "rounding": lambda scale: torch.special.erfc(half_ulp / scale),  # of Gaussian entries
        "smooth": lambda scale: torch.special.erfc(magnitude / scale),
        "exponential": lambda scale: torch.exp(-magnitude / scale),
        "logistic": lambda scale: torch.sigmoid(4 * (scale / magnitude).log()),
    }
    of_scale = functions[shape]
    log_scale = optimize.brentq(lambda value: of_scale(math.exp(value)).mean().item() - density, -20, 20)
    return of_scale(math.exp(log_scale))


def unexplained(p: torch.Tensor, bins: torch.Tensor) -> float:
    """Expected phi of two masks drawn with probabilities p, less the mean under their binned null."""
    p, bins = p.flatten(), bins.flatten()
    within = (bins.bincount(p) / bins.bincount().clamp(min=1))[bins]
    density = p.mean()
    return ((p * (p - within)).mean() / (density * (1 - density))).item()


DENSITIES = (0.01, 0.03, 0.08, 0.3, 0.6, 0.9)
SHAPES = ("rounding", "smooth", "exponential", "logistic")


def test_strata_are_as_coarse_as_an_update_that_follows_magnitude_alone_allows():
    """Its similarity to another one exceeds the binned null by less than negligible, and with one bit less by more."""
    base = (0.05 * gaussian(64, 128)).bfloat16().double()
    negligible = next(
        claim.threshold("negligible") for claim in load_register(CLAIMS).claims if claim.evaluator == "shared_footprint"
    )
    worst = {
        bits: max(
            unexplained(changing(base, shape, density), nulls.magnitude_strata(base, bits))
            for shape in SHAPES
            for density in DENSITIES
        )
        for bits in (SETTINGS.stratum_bits - 1, SETTINGS.stratum_bits)
    }
    assert worst[SETTINGS.stratum_bits] < negligible < worst[SETTINGS.stratum_bits - 1]
    quantiles = nulls.magnitude_bins(base, 50)
    assert unexplained(changing(base, "rounding", 0.01), quantiles) > 10 * negligible


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_overlap_of_an_update_that_follows_magnitude_alone_is_that_of_its_binned_null(shape: str, density: float):
    base = low_rank_base()
    principal = masks.principal_mask(masks.svd(base), rank=16, density=0.5)
    p = changing(base, shape, density)
    null = nulls.binned_permutation(p / p.sum(), principal, nulls.magnitude_strata(base, SETTINGS.stratum_bits))
    assert p[principal].sum().item() / p.sum().item() == pytest.approx(null.mean, abs=0.01)


def test_magnitude_bins_are_quantiles_and_keep_ties_together():
    base = gaussian(64, 64)
    bins = nulls.magnitude_bins(base, 50)
    sizes = torch.bincount(bins.flatten())
    assert len(sizes) == 50 and sizes.min() >= 80 and sizes.max() <= 83
    order = base.abs().flatten().argsort()
    assert (bins.flatten()[order].diff() >= 0).all()
    tied = nulls.magnitude_bins(torch.tensor([0.0, 0.0, 0.0, -1.0, 1.0, 2.0]), 4)
    assert tied[0] == tied[1] == tied[2] < tied[3] == tied[4] <= tied[5]


@pytest.mark.parametrize("weighted", [False, True])
def test_binned_expectation_is_the_mean_over_simulated_permutations(weighted):
    base = gaussian(20, 20)
    bins = nulls.magnitude_bins(base, 20)
    mask = masks.principal_mask(masks.svd(base), rank=5, density=0.5)
    changed = base.abs() < torch.rand(20, 20, generator=generator(1))
    values = gaussian(20, 20, seed=2).square() if weighted else changed.double() / changed.sum()
    null = nulls.binned_permutation(values, mask, bins)

    random = generator(3)
    sums = []
    for _ in range(2000):
        shuffled = values.clone()
        for b in bins.unique():
            where = bins == b
            inside = values[where]
            shuffled[where] = inside[torch.randperm(len(inside), generator=random)]
        sums.append(shuffled[mask].sum().item())
    spread = np.std(sums)
    assert abs(np.mean(sums) - null.mean) < 4 * spread / math.sqrt(2000)
    assert null.high - null.mean == pytest.approx(stats.norm.ppf(0.975) * spread, rel=0.07)
    if not weighted:
        by_hand = sum(
            ((changed & (bins == b)).sum() / changed.sum() * mask[bins == b].double().mean()).item()
            for b in bins.unique()
        )
        assert null.mean == pytest.approx(by_hand)


def low_rank_base(seed: int = 0) -> torch.Tensor:
    """[96, 64] on the bf16 lattice, with a principal part and a bulk."""
    principal = gaussian(96, 16, seed=seed) @ gaussian(16, 64, seed=seed + 1) / 4
    return (0.05 * (principal + 0.7 * gaussian(96, 64, seed=seed + 2))).bfloat16().double()


def test_the_spectrum_matched_null_is_a_rotation_of_either_side():
    """Of tall, wide and square updates: their singular values, and frames that are uniform, as those of a square."""
    for shape in ((7, 3), (3, 7), (4, 4)):
        update = gaussian(*shape, seed=2)
        draws = torch.stack([nulls.spectrum_matched_update(update, generator(seed)) for seed in range(2000)])
        assert torch.allclose(torch.linalg.svdvals(draws[0]), torch.linalg.svdvals(update))
        assert draws.mean(0).abs().max() < 0.1 * update.norm()
        assert draws.square().mean(0).allclose(update.square().mean().expand(shape), rtol=0.15)


def test_isotropic_noise_alone_avoids_the_principal_mask_and_its_nulls_say_so():
    """All of Figure 5's pattern from rounding: below, above, further below chance; and no null is beaten."""
    base = low_rank_base()
    x = 0.5
    noise = gaussian(96, 64, seed=7)
    settings = SETTINGS.changed(null_draws=20)  # six ranges, each of which is to hold
    row = measure_matrix(base, base + x * HALF_ULP * base.norm() / noise.norm() * noise, settings, generator())
    assert row["density"] == pytest.approx(isotropic_density(x), abs=0.03)
    assert row["overlap_principal"] < 0.9 * row["overlap_principal_chance"]
    assert row["overlap_low"] > 1.3 * row["overlap_low_chance"]
    assert row["overlap_principal_not_low"] < 0.5 * row["overlap_principal_not_low_chance"]
    for null in ("isotropic", "spectrum"):
        for statistic in ("overlap_principal", "overlap_low", "overlap_principal_not_low"):
            assert row[f"{statistic}_{null}_low"] < row[statistic] < row[f"{statistic}_{null}_high"]
    for statistic in ("overlap_principal", "energy_enrichment_principal"):
        assert row[f"{statistic}_binned_low"] < row[statistic] < row[f"{statistic}_binned_high"]
    assert row["energy_enrichment_principal"] == pytest.approx(1, abs=0.05)
    assert row["overlap_low_binned"] == pytest.approx(row["overlap_low"], abs=2e-3)  # whole bins: says nothing


def test_overlap_nulls_are_as_dense_as_the_update():
    """Entries with flatter tails than Gaussian ones, as Adam's: no preference, yet denser than noise of equal norm."""
    base = low_rank_base()
    update = torch.rand(96, 64, generator=generator(7), dtype=torch.float64) - 0.5
    row = measure_matrix(base, base + 1.6 * HALF_ULP * base.norm() / update.norm() * update, SETTINGS, generator())
    assert row["density"] > isotropic_density(1.6) + 0.03
    for mask in ("principal", "low"):
        for null in ("isotropic", "spectrum"):
            assert row[f"overlap_{mask}"] == pytest.approx(row[f"overlap_{mask}_{null}"], abs=0.015)


def entries(shape: str, seed: int) -> torch.Tensor:
    """Independent entries [96, 64] without any structure."""
    normal = gaussian(96, 64, seed=seed)
    if shape == "constant":
        return normal.sign() * (1 + 1e-3 * normal)
    if shape == "laplace":
        return normal.sign() * -torch.log(1 - torch.special.erf(normal.abs() / math.sqrt(2)))
    if shape == "t3":
        return normal / gaussian(3, 96, 64, seed=seed + 1000).square().mean(0).sqrt()
    return normal


def excesses(update: torch.Tensor, density: float, seed: int) -> dict[tuple[str, str], float]:
    """Overlap with each mask less one draw of each simulated null that the criteria use, at this density."""
    base = low_rank_base()
    drawn = {
        "shuffled": nulls.shuffled_update(update, generator(seed)),
        "spectrum": nulls.with_entries_of(update, nulls.spectrum_matched_update(update, generator(seed))),
        "isotropic": nulls.isotropic_update(update, generator(seed)),
    }
    of_base = BaseMatrix(base, SETTINGS).masks

    def overlaps(direction: torch.Tensor) -> dict[str, float]:
        changed = update_mask(base, base + scale_to_density(base, direction, density) * direction)
        return {mask: masks.overlap(of_base[mask], changed) for mask in ("principal", "low")}

    found = overlaps(update)
    return {
        (mask, null): found[mask] - value
        for null, direction in drawn.items()
        for mask, value in overlaps(direction).items()
    }


def mean_excesses(update_of: Callable[[int], torch.Tensor], density: float) -> pd.Series:
    draws = 150 if density < 0.1 else 50
    means = pd.DataFrame(excesses(update_of(seed), density, seed) for seed in range(draws)).mean()
    return means.set_axis(pd.MultiIndex.from_tuples(means.index))


PLANTED_DENSITIES = (0.01, 0.3, 0.5, 0.9)


@pytest.mark.parametrize("density", PLANTED_DENSITIES)
@pytest.mark.parametrize("shape", ["gaussian", "constant", "laplace", "t3"])
def test_an_update_without_preference_is_at_its_nulls_however_its_entries_are_distributed(
    shape: str, density: float
) -> None:
    found = mean_excesses(lambda seed: entries(shape, seed), density)
    assert found.drop("isotropic", level=1).abs().max() < 0.01, found
    # An isotropic update has other entries.
    if (shape, density) == ("constant", 0.3):
        assert found["low", "isotropic"] > 0.05
    if (shape, density) == ("t3", 0.3):
        assert found["low", "isotropic"] < -0.02


@pytest.mark.parametrize("density", PLANTED_DENSITIES)
@pytest.mark.parametrize("shape", ["gaussian", "constant", "laplace", "t3"])
def test_a_planted_preference_is_beyond_its_nulls(shape: str, density: float) -> None:
    of_base = BaseMatrix(low_rank_base(), SETTINGS).masks
    factor = torch.where(of_base["principal"], 1 / 3, 1.0) * torch.where(of_base["low"], 2.0, 1.0)
    found = mean_excesses(lambda seed: factor * entries(shape, seed), density).drop("isotropic", level=1)
    assert found["principal"].max() < -0.01, found
    # Under every null, too, all of the 1% that change lie in M_low, and of entries of one size all of M_low are in 90%.
    if density > 0.1 and (shape, density) != ("constant", 0.9):
        assert found["low"].min() > 0.01, found


def test_nulls_of_masks_have_the_entries_of_the_update() -> None:
    update = gaussian(24, 2) @ gaussian(2, 16, seed=1)
    rotated = nulls.spectrum_matched_update(update, generator(1))
    placed, shuffled = nulls.with_entries_of(update, rotated), nulls.shuffled_update(update, generator(1))
    for each in (placed, shuffled):
        assert torch.equal(each.flatten().sort().values, update.flatten().sort().values)
        assert not torch.equal(each, update)
    assert torch.equal(placed.flatten().argsort(), rotated.flatten().argsort())

    def in_two_directions(values: torch.Tensor) -> float:
        energy = torch.linalg.svdvals(values).square()
        return (energy[:2].sum() / energy.sum()).item()

    assert in_two_directions(placed) > 0.7 > 0.4 > in_two_directions(shuffled)


@pytest.mark.parametrize("rate", [0.34, 0.1])
@pytest.mark.parametrize("avoids", [True, False])
def test_binned_null_rejects_only_an_update_that_avoids_principal_weights_at_fixed_magnitude(avoids, rate):
    """A full ULP on some of the entries, drawn at random or with principal entries at half the rate."""
    base = low_rank_base()
    principal = masks.principal_mask(masks.svd(base), rank=16, density=0.5)
    chosen = torch.rand(base.shape, generator=generator(5)) < torch.where(principal & avoids, rate / 2, rate)
    ulp = 2.0 ** (base.abs().log2().floor() - 7)
    row = measure_matrix(base, base + chosen * ulp * base.sign(), SETTINGS, generator())
    assert row["density"] == pytest.approx(chosen.double().mean().item())
    assert (row["overlap_principal"] < row["overlap_principal_binned_low"]) == avoids
    assert (row["energy_enrichment_principal"] < row["energy_enrichment_principal_binned_low"]) == avoids
    assert row["overlap_principal"] < row["overlap_principal_binned_high"]


@pytest.mark.parametrize("size", [1e-4, 1e-3])
def test_entries_of_one_size_change_in_a_random_order(size: float):
    """They have no preference, and neither mask nor nulls have more entries than asked."""
    base = (0.05 * gaussian(96, 96)).bfloat16().double()
    update = size * gaussian(96, 96, seed=1).sign()
    row = measure_matrix(base, base + update, SETTINGS, generator())
    assert row["density_half"] == pytest.approx(0.5, abs=0.005)
    for mask, null in {"low": "shuffled", "principal": "binned"}.items():
        excess = row[f"overlap_half_{mask}"] - row[f"overlap_half_{mask}_{null}"]
        assert abs(excess) < 0.01, mask


def test_an_update_without_ties_is_moved_as_it_is():
    base = (0.05 * gaussian(96, 96)).bfloat16().double()
    update = 1e-4 * gaussian(96, 96, seed=1)
    assert torch.equal(half_mask(base, update), update_mask(base, base + scale_to_density(base, update, 0.5) * update))
