"""Sparse fine-tuning: which entries a mask trains, and that nothing else moves."""

import pytest
import torch

from rlscape.geometry import masks
from rlscape.geometry.nulls import magnitude_strata
from rlscape.settings.measurement import GeometrySettings
from rlscape.training.masks import LOW_DENSITY, trained_entries
from tests.test_trainer import guessing_model, settings_of, train

pytestmark = pytest.mark.training

GEOMETRY = GeometrySettings(rank_fraction=0.25, null_draws=2)


@pytest.fixture(scope="module")
def weights() -> torch.Tensor:
    return torch.randn(48, 64, generator=torch.Generator().manual_seed(0))


def entries(weights: torch.Tensor, name: str, seed: int = 0) -> torch.Tensor:
    return trained_entries(weights, name, GEOMETRY, torch.Generator().manual_seed(seed))  # type: ignore[arg-type]


def test_masks_are_those_of_the_paper(weights: torch.Tensor) -> None:
    principal, low = entries(weights, "principal"), entries(weights, "low")
    assert masks.density(principal) == 0.5
    assert masks.density(low) == pytest.approx(LOW_DENSITY, abs=1e-3)
    assert weights[low].abs().max() <= weights[~low].abs().min()
    assert torch.equal(entries(weights, "complement"), ~principal)
    assert torch.equal(entries(weights, "low_complement"), ~low)
    assert torch.equal(entries(weights, "safe"), low | ~principal)
    assert entries(weights, "dense").all()


def test_random_masks_are_as_dense_as_what_they_stand_for(weights: torch.Tensor) -> None:
    for name, counterpart in {"random": "safe", "random_half": "principal", "random_magnitude": "principal"}.items():
        drawn, other = entries(weights, name, seed=1), entries(weights, counterpart)
        assert drawn.sum() == other.sum(), name
        assert abs(masks.phi(drawn, other)) < 0.4, name
        assert not torch.equal(drawn, entries(weights, name, seed=2)), name


def test_magnitude_matched_mask_has_as_many_entries_of_every_magnitude(weights: torch.Tensor) -> None:
    bins = magnitude_strata(weights, GEOMETRY.stratum_bits)
    drawn, principal = entries(weights, "random_magnitude"), entries(weights, "principal")
    assert torch.equal(bins[drawn].bincount(), bins[principal].bincount())


def test_nothing_outside_the_mask_moves() -> None:
    settings = settings_of("mask_principal")
    base = guessing_model(settings)
    before = {name: values.clone() for name, values in base.state_dict().items()}
    trainer = train(settings, base)
    moved = {name: values != before[name] for name, values in trainer.model.state_dict().items()}
    random = torch.Generator()
    for name, changed in moved.items():
        allowed = torch.zeros_like(changed)
        if name.startswith("model.layers.") and changed.ndim == 2:
            allowed = trained_entries(before[name], "principal", settings.geometry, random)
            assert changed.any(), name
        assert not (changed & ~allowed).any(), name
    assert trainer.freezer is not None
    assert trainer.freezer.share == pytest.approx(0.5, abs=0.01)
