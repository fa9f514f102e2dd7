"""Curvature against a dense Gauss-Newton matrix, planted and absent preferences, and the command on small models."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.func import jacrev

from rlscape.catalogue import resolve_run
from rlscape.geometry import nulls
from rlscape.geometry.curvature import (
    WHOLE,
    MatrixQuotients,
    divergence,
    draw_gradients,
    form,
    measure_curvature,
)
from rlscape.geometry.measure import BaseMatrix
from rlscape.models.build import build_model, load_decoder, save_model, snap_to_bf16_
from rlscape.pipeline import measure_curvature as entry
from rlscape.settings.measurement import CurvatureSettings, GeometrySettings
from rlscape.training.drift import probes_of
from tests.entries import run_entry
from tests.synthetic import small_config

TOKENS, INPUTS, HIDDEN, VOCABULARY = 6, 5, 4, 3
GEOMETRY = GeometrySettings(rank_fraction=0.25, null_draws=1)


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


def test_draws_have_the_dense_matrix_as_their_second_moment(toy):
    count = 20_000
    draws = draw_gradients(toy_logits, toy, count, torch.Generator().manual_seed(0))
    flat = torch.stack([torch.cat([draw[name].flatten() for name in toy]) for draw in draws])
    G = dense(toy, ("first", "second"))
    scale = G.diagonal().mean()
    assert (flat.T @ flat / count - G).abs().max() < 0.2 * scale


def test_quotients_of_a_matrix_are_those_of_its_draws(toy):
    """Pairs of singular vectors, entries, the trace and an update: against the draws' own second moment."""
    base = BaseMatrix(gaussian(8, 6, seed=15), GEOMETRY)
    update = gaussian(8, 6, seed=16)
    measured = MatrixQuotients(base, {"rl": update, "none": 0 * update}, CurvatureSettings(groups=2, magnitude_bins=2))
    draws = gaussian(5, 8, 6, seed=17)
    for draw in draws:
        measured.add(draw)
    frame = pd.DataFrame(measured.rows())
    flat = draws.flatten(1)
    G = flat.T @ flat / len(draws)

    def quotient(direction):
        return (direction.flatten() @ G @ direction.flatten() / direction.square().sum()).item()

    found = frame.set_index("direction")["quotient"]
    assert found["isotropic"] == pytest.approx(G.diagonal().mean().item())
    assert found["rl"] == pytest.approx(quotient(update)) and "none" not in found
    singular = frame[frame.direction == "singular"]
    # k = 2 of 6: groups {1}, {2} inside, {3, 4}, {5, 6} outside
    assert set(singular.i) == set(singular.j) == {1, 2, 3, 5}
    pair = singular[(singular.i == 2) & (singular.j == 5)]
    of_pair = [quotient(torch.outer(base.svd.U[:, 1], base.svd.Vh[j])) for j in (4, 5)]
    assert pair.quotient.item() == pytest.approx(np.mean(of_pair)) and pair.block.item() == "mixed"
    for side, block in ((base.masks["principal"], "principal"), (~base.masks["principal"], "off")):
        entries = frame[(frame.direction == "coordinate") & (frame.block == block)]
        assert (entries.quotient <= G.diagonal().view(8, 6)[side].max().item()).all()
        assert (entries.quotient >= G.diagonal().view(8, 6)[side].min().item()).all()


def test_curvature_that_follows_magnitude_alone_is_equal_inside_and_outside_the_principal_mask():
    """The larger weights of a bin are principal more often; entries of a stratum weigh as much on either side."""
    base = BaseMatrix(0.05 * gaussian(128, 128, seed=18), GEOMETRY)
    measured = MatrixQuotients(base, {}, CurvatureSettings())
    measured.add(base.weights)  # the mean square of an entry is that of the weight
    entries = pd.DataFrame(measured.rows()).query("direction == 'coordinate'").set_index(["bin", "block"])["quotient"]
    ratios = np.log2(entries.xs("principal", level="block") / entries.xs("off", level="block"))
    assert abs(ratios.mean()) < 0.03
    bins = nulls.magnitude_bins(base.weights, CurvatureSettings().magnitude_bins)
    largest, principal = bins == bins.max(), base.masks["principal"]
    inside, outside = (base.weights[largest & side].square().mean() for side in (principal, ~principal))
    assert torch.log2(inside / outside) > 0.1


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
        CurvatureSettings(batches=4, draws=40, groups=4, magnitude_bins=2),
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
            "draws": 2,
            "groups": 1,
            "magnitude_bins": 2,
        } | changes
        geometry = {"rank_fraction": 0.25, "null_draws": 1, "curvature": curvature}
        run_entry(
            entry.measure_curvature,
            monkeypatch,
            base=tmp_path / "base",
            models=json.dumps({name: str(tmp_path / name) for name in ("rl", "sft")}),
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
    assert (frame.quotient.dropna() >= 0).all()
    whole = frame[(frame.tensor == WHOLE) & frame.scale.notna()]
    assert len(whole) == 2 * 2 * 3 and (whole.kl > 0).all()

    # The whole update against central differences of the engine's own forward pass.
    decoder = load_decoder(run.directory / "base")
    probes = probes_of(run.settings.changed(drift_prompts=4))[0::2]
    logits = entry._logits(entry._Policy(decoder, probes))
    weights = {key: values.detach() for key, values in decoder.named_parameters()}
    tuned = dict(load_decoder(run.directory / "rl").named_parameters())
    direction = {name: tuned[name].detach() - values for name, values in weights.items()}
    with torch.no_grad():
        ahead, behind = (
            logits({name: values + step * direction[name] for name, values in weights.items()}).double()
            for step in (0.001, -0.001)
        )
        change, p = (ahead - behind) / 0.002, logits(weights).double().softmax(-1)
    variance = ((p * change.square()).sum(-1) - (p * change).sum(-1).square()).mean()
    squared = sum(values.double().square().sum() for values in direction.values())
    rows = frame[(frame.tensor == WHOLE) & (frame.direction == "rl") & (frame.batch == 0)]
    assert rows.quotient.dropna().item() == pytest.approx(float(variance / squared), rel=1e-2)


def test_draws_of_the_decoder_have_its_curvature(run):
    """``E (g . v)^2`` along the whole update against the exact form."""
    decoder = load_decoder(run.directory / "base")
    logits = entry._logits(entry._Policy(decoder, probes_of(run.settings.changed(drift_prompts=2))))
    weights = {key: values.detach() for key, values in decoder.named_parameters()}
    tuned = dict(load_decoder(run.directory / "rl").named_parameters())
    direction = {name: tuned[name].detach() - values for name, values in weights.items()}
    squares = [
        sum(float((draw[name] * direction[name]).sum()) for name in weights) ** 2
        for draw in draw_gradients(logits, weights, 300, torch.Generator().manual_seed(0))
    ]
    error = np.std(squares) / np.sqrt(len(squares))
    assert np.mean(squares) == pytest.approx(form(logits, weights, direction), abs=4 * error)


def test_too_few_problems_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run(batches=100)
    assert "100 batches of 2 take 200 validation problems, but validation_size is 16" in capsys.readouterr().err
