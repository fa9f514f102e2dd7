"""Curvature against a dense Gauss-Newton matrix, planted and absent preferences, and the command on small models."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.func import jacrev

from rlscape.catalogue import resolve_run
from rlscape.geometry.curvature import (
    WHOLE,
    divergence,
    form,
    matrix_directions,
    measure_curvature,
    quotients,
)
from rlscape.geometry.measure import BaseMatrix
from rlscape.models.build import build_model, load_decoder, save_model, snap_to_bf16_
from rlscape.pipeline import measure_curvature as entry
from rlscape.settings.measurement import CurvatureSettings, GeometrySettings
from rlscape.training.drift import probes_of
from tests.entries import run_entry
from tests.synthetic import small_config

TOKENS, INPUTS, HIDDEN, VOCABULARY = 6, 5, 4, 3
GEOMETRY = GeometrySettings(rank_fraction=0.25, null_draws=1, magnitude_bins=4)


def gaussian(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


TOY_INPUTS = gaussian(TOKENS, INPUTS, seed=9)


def toy_logits(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """A two-layer policy on :data:`TOY_INPUTS`."""
    return torch.tanh(TOY_INPUTS @ weights["first"].T) @ weights["second"].T


@pytest.fixture(name="toy")
def _toy() -> dict[str, torch.Tensor]:
    return {"first": gaussian(HIDDEN, INPUTS, seed=1), "second": gaussian(VOCABULARY, HIDDEN, seed=2)}


def dense(weights: dict[str, torch.Tensor], names: tuple[str, ...]) -> torch.Tensor:
    """G = mean_t J_t^T (diag p_t - p_t p_t^T) J_t over the named tensors, flattened in order."""
    jacobians = jacrev(toy_logits)(weights)
    J = torch.cat([jacobians[name].flatten(2) for name in names], -1)
    p = toy_logits(weights).softmax(-1)
    covariance = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return torch.einsum("tcn,tcd,tdm->nm", J, covariance, J) / TOKENS


@pytest.mark.parametrize("tensor", ["first", "second"])
def test_quotients_are_those_of_the_dense_matrix(toy, tensor):
    directions = gaussian(40, *toy[tensor].shape, seed=3)  # more than one chunk
    G = dense(toy, (tensor,))
    flat = directions.flatten(1)
    expected = torch.einsum("dn,nm,dm->d", flat, G, flat) / flat.square().sum(1)
    torch.testing.assert_close(quotients(toy_logits, toy, tensor, directions), expected)


def test_form_of_the_whole_model_is_that_of_the_dense_matrix(toy):
    direction = {"second": gaussian(VOCABULARY, HIDDEN, seed=4), "first": gaussian(HIDDEN, INPUTS, seed=5)}
    flat = torch.cat([direction[name].flatten() for name in toy])
    expected = float(flat @ dense(toy, ("first", "second")) @ flat)
    assert form(toy_logits, toy, direction) == pytest.approx(expected, rel=1e-9)


def test_half_the_fisher_form_tends_to_the_divergence(toy):
    """Prop 3.2: the ratio's error falls with the scale, to first order."""
    direction = {name: 0.3 * gaussian(*values.shape, seed=6) for name, values in toy.items()}
    errors = []
    for scale in (1.0, 0.5, 0.25, 0.01):
        scaled = {name: scale * values for name, values in direction.items()}
        errors.append(abs(form(toy_logits, toy, scaled) / 2 / divergence(toy_logits, toy, scaled) - 1))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 0.01 < errors[0]


def policy_of_inputs(inputs: torch.Tensor):
    return lambda weights: inputs @ weights["w"].T


def spectrum_base(size: int = 16) -> BaseMatrix:
    left, right = (torch.linalg.qr(gaussian(size, size, seed=seed)).Q for seed in (11, 12))
    values = torch.linspace(1.6, 0.1, size, dtype=torch.float64)
    return BaseMatrix((left * values) @ right.T, GEOMETRY)


def measured_blocks(inputs: torch.Tensor, base: BaseMatrix) -> pd.Series:
    weights = {"w": base.weights.float()}
    frame = measure_curvature(
        [policy_of_inputs(part.float()) for part in inputs.chunk(4)],
        weights,
        {"w": base},
        {"rl": {"w": gaussian(16, 16, seed=20, dtype=torch.float32)}},
        CurvatureSettings(batches=4, indices=4, probes=2, magnitude_bins=2),
        torch.Generator().manual_seed(0),
    )
    singular = frame[frame.direction == "singular"]
    return singular.groupby("block").quotient.mean()


def test_planted_preference_is_found_and_none_is_found_in_isotropic_inputs():
    base = spectrum_base()
    inputs = gaussian(2000, 16, seed=13)
    top = base.svd.Vh[: base.rank]
    blocks = measured_blocks(inputs @ top.T @ top, base)
    assert blocks["principal"] > 100 * blocks["off"]
    # Small inputs: the policy is uniform, and nothing singles out a direction.
    blocks = measured_blocks(0.01 * inputs, base)
    assert blocks["principal"] / blocks["off"] == pytest.approx(1, abs=0.15)


def test_directions_are_where_their_labels_say():
    base = spectrum_base()
    settings = CurvatureSettings(batches=2, indices=2, probes=3, isotropic=3, magnitude_bins=2)
    update = gaussian(16, 16, seed=14)
    labels, directions = matrix_directions(base, {"rl": update}, settings, torch.Generator().manual_seed(0))
    assert labels.direction.value_counts().to_dict() == {"singular": 16, "coordinate": 12, "isotropic": 3, "rl": 1}
    assert labels.block.value_counts().to_dict() == {"mixed": 8, "principal": 10, "off": 10}
    for label, direction in zip(labels.to_dict("records"), directions.double(), strict=True):
        if label["direction"] == "singular":
            i, j = int(label["i"]) - 1, int(label["j"]) - 1
            alone = base.svd.U.T @ direction @ base.svd.Vh.T
            assert alone[i, j].item() == pytest.approx(1, abs=1e-6) and alone.norm().item() == pytest.approx(
                1, abs=1e-6
            )
            assert label["block"] == ("off", "mixed", "principal")[(i < base.rank) + (j < base.rank)]
        elif label["direction"] == "coordinate":
            entries = direction != 0
            assert set(direction[entries].abs().tolist()) == {1.0}
            assert (base.masks["principal"][entries] == (label["block"] == "principal")).all()
    np.testing.assert_allclose(directions[-1], update.float())


@pytest.fixture(name="run")
def _run(tmp_path, monkeypatch):
    config = small_config(tmp_path)
    settings = resolve_run(config, "rlvr-s0")
    for name, seed in (("base", 0), ("rl", 1), ("sft", 2)):
        model = build_model(settings.base.model, seed)
        snap_to_bf16_(model)
        save_model(model, tmp_path / name)

    def run(**changes):
        curvature = {
            "batches": 2,
            "traces_per_batch": 2,
            "indices": 1,
            "probes": 1,
            "isotropic": 1,
            "magnitude_bins": 2,
        } | changes
        geometry = {"rank_fraction": 0.25, "null_draws": 1, "curvature": curvature}
        run_entry(
            entry.measure_curvature,
            monkeypatch,
            base=tmp_path / "base",
            rl=tmp_path / "rl",
            sft=tmp_path / "sft",
            settings=settings.model_dump_json(),
            geometry=json.dumps(geometry),
            output=tmp_path / "curvature.parquet",
        )
        return pd.read_parquet(tmp_path / "curvature.parquet")

    run.directory, run.settings = tmp_path, settings
    return run


def test_command_measures_the_decoder(run):
    frame = run()
    matrices = frame[frame.tensor != WHOLE]
    assert matrices.tensor.nunique() == 7 * run.settings.base.model.layers
    assert set(matrices.direction) == {"singular", "coordinate", "isotropic", "rl", "sft"}
    assert matrices.groupby("batch").size().nunique() == 1 and set(frame.batch) == {0, 1}
    assert (frame.quotient.dropna() > 0).all()
    whole = frame[(frame.tensor == WHOLE) & frame.scale.notna()]
    assert len(whole) == 2 * 2 * 3 and (whole.kl > 0).all()

    # One direction against central differences of the engine's own forward pass.
    name = "model.layers.1.mlp.up_proj.weight"
    decoder = load_decoder(run.directory / "base")
    probes = probes_of(run.settings.changed(drift_prompts=4))[0::2]
    logits = entry._logits(entry._Policy(decoder, probes))
    weights = {key: values.detach() for key, values in decoder.named_parameters()}
    direction = load_decoder(run.directory / "rl").get_parameter(name).detach() - weights[name]
    with torch.no_grad():
        ahead, behind = (logits(weights | {name: weights[name] + step * direction}) for step in (0.01, -0.01))
        change, p = (ahead - behind).double() / 0.02, logits(weights).double().softmax(-1)
    variance = ((p * change.square()).sum(-1) - (p * change).sum(-1).square()).mean()
    row = matrices[(matrices.tensor == name) & (matrices.direction == "rl") & (matrices.batch == 0)]
    assert row.quotient.item() == pytest.approx(float(variance / direction.double().square().sum()), rel=1e-3)


def test_too_few_problems_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run(batches=100)
    assert "100 batches of 2 take 200 validation problems, but validation_size is 16" in capsys.readouterr().err
