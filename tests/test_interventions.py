"""Function-preserving interventions: the same logits on every architecture, exact inverses, and the command."""

import copy
import json

import pytest
import torch

from rlscape.errors import ConfigError
from rlscape.models.build import as_decoder, build_model, load_decoder, save_model, snap_to_bf16_
from rlscape.models.interventions import (
    Gauge,
    changed_model,
    derangement,
    logit_differences,
    logits,
    permute_heads,
    rotate_value_output,
)
from rlscape.pipeline.intervene_base import intervene_base
from rlscape.settings.base_model import ModelSettings
from rlscape.settings.measurement import Intervention, LayerEdit
from tests.entries import run_entry

SETTINGS = ModelSettings(hidden_size=24, layers=3, heads=6, kv_heads=3, head_dim=8, intermediate_size=40)
INTERVENTION = Intervention(
    edits=(LayerEdit(depth=20 / 36, rotate=True, permute=True), LayerEdit(depth=25 / 36, rotate=True))
)
ARCHITECTURES = {
    "qwen3": {},
    "llama": {"architecture": "llama"},
    "mistral": {"architecture": "mistral"},
    "qwen3_moe": {"architecture": "qwen3_moe", "experts": 4, "experts_per_token": 2},
}
FP32_TOLERANCE = 2e-5
"""Of a logit, some hundred units in the last place of the largest."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def stock(seed=0, **changes):
    """A ``transformers`` model on the bf16 grid, far from its initialisation, norm gains included."""
    model = build_model(SETTINGS.changed(**changes), seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator(seed)))
    snap_to_bf16_(model)
    return model.eval()


def sequences():
    return torch.randint(SETTINGS.vocab_size, (4, 20), generator=generator(1))


def gauge_of(model, intervention=INTERVENTION):
    return Gauge.of(intervention, model.config)


@pytest.mark.parametrize("changes", ARCHITECTURES.values(), ids=list(ARCHITECTURES))
def test_logits_stay(changes):
    model = as_decoder(stock(**changes))
    differences = logit_differences(model, gauge_of(model), sequences())
    print(differences)
    assert differences["float64"] < 1e-10
    assert differences["fp32"] < FP32_TOLERANCE
    assert differences["bf16"] == pytest.approx(differences["rounding"], abs=2 * differences["fp32"])
    assert 100 * FP32_TOLERANCE < differences["rounding"] < 0.1 * differences["scale"]  # rounding is not exact


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "mistral"])
def test_logits_of_the_stock_models_stay(architecture):
    """In ``transformers``' own forward pass, which the engine does not use."""
    model = stock(architecture=architecture)
    changed = copy.deepcopy(model)
    changed.load_state_dict(gauge_of(as_decoder(model)).apply(model.state_dict()))
    with torch.no_grad():
        difference = (changed(sequences()).logits - model(sequences()).logits).abs().max().item()
    print(difference)
    assert 0 < difference < FP32_TOLERANCE


def test_biases_follow_their_projections():
    """Llama with attention biases in float64 sums; the output's bias has no head channels."""
    from transformers import LlamaConfig, LlamaForCausalLM

    reference = stock(architecture="llama")
    config = LlamaConfig(**(reference.config.to_dict() | {"attention_bias": True}))
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator(2)))
    changed = copy.deepcopy(model)
    state = gauge_of(as_decoder(reference)).apply(model.state_dict())
    changed.load_state_dict(state)
    name = "model.layers.1.self_attn.{}_proj.bias"
    assert not torch.equal(state[name.format("k")], model.state_dict()[name.format("k")])
    assert torch.equal(state[name.format("o")], model.state_dict()[name.format("o")])
    with torch.no_grad():
        torch.testing.assert_close(changed(sequences()).logits, model(sequences()).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_rotating_queries_and_keys_changes_the_function(architecture):
    """The same orthogonal maps where they do not belong: rotary positions and norm gains meet the channels."""
    model = as_decoder(stock(architecture=architecture)).double()
    gauge = gauge_of(model)
    maps = {
        name.replace("v_proj", "k_proj").replace("o_proj", "q_proj"): matrix
        for name, matrix in gauge.maps.items()
        if ".2." in name
    }
    wrong = changed_model(model, Gauge({}, maps))
    assert len(maps) == 2
    assert (logits(wrong, sequences()) - logits(model, sequences())).abs().max() > 0.05


def test_a_permutation_that_splits_a_group_changes_the_function():
    """Query heads must move with the KV head that they read."""
    model = as_decoder(stock()).double()
    maps = permute_heads(torch.tensor([1, 2, 0]), 2, 8)
    maps["q_proj"] = maps["o_proj"] = torch.kron(
        torch.eye(6, dtype=torch.float64)[[1, 2, 3, 4, 5, 0]], torch.eye(8, dtype=torch.float64)
    )
    wrong = changed_model(model, Gauge({}, {f"model.layers.1.self_attn.{name}": m for name, m in maps.items()}))
    assert (logits(wrong, sequences()) - logits(model, sequences())).abs().max() > 0.05


def test_maps_by_hand():
    """One head's channels (1, 2), turned by a right angle, and two groups that change places."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    rotation = rotate_value_output(torch.stack([turn, torch.eye(2, dtype=torch.float64)]), repeats=2)
    values = torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)
    assert (rotation["v_proj"] @ values)[:, 0].tolist() == [2, -1, 3, 4]  # R^T v
    assert torch.equal(rotation["o_proj"].mT, torch.block_diag(turn, turn, torch.eye(4, dtype=torch.float64)))  # R_q

    permutation = permute_heads(torch.tensor([1, 0]), repeats=2, head_dim=2)
    assert (permutation["k_proj"] @ values)[:, 0].tolist() == [3, 4, 1, 2]
    heads = torch.arange(8, dtype=torch.float64)
    assert (permutation["q_proj"] @ heads).tolist() == [4, 5, 6, 7, 0, 1, 2, 3]


def test_only_the_edited_matrices_change():
    model = as_decoder(stock())
    gauge, before = gauge_of(model), model.state_dict()
    after = gauge.apply(before)
    changed = {name: gauge.edit_of(name) for name in before if not torch.equal(before[name], after[name])}
    layer = "model.layers.{}.self_attn.{}_proj.weight"
    assert changed == {
        layer.format(1, "q"): "permuted",
        layer.format(1, "k"): "permuted",
        layer.format(1, "v"): "rotated and permuted",
        layer.format(1, "o"): "rotated and permuted",
        layer.format(2, "v"): "rotated",
        layer.format(2, "o"): "rotated",
    }
    assert all(gauge.edit_of(name) == "none" for name in before.keys() - changed.keys())
    for name in changed:
        spectra = (torch.linalg.svdvals(state[name].double()) for state in (before, after))
        torch.testing.assert_close(*spectra, atol=1e-6, rtol=1e-6)
    columns, rows = layer.format(2, "v"), layer.format(2, "o")
    torch.testing.assert_close(after[columns].norm(dim=0), before[columns].norm(dim=0))
    torch.testing.assert_close(after[rows].norm(dim=1), before[rows].norm(dim=1))
    assert not torch.allclose(after[columns].norm(dim=1), before[columns].norm(dim=1), rtol=1e-3)


def test_an_update_of_the_changed_model_is_mapped_back():
    """undo(apply(W0) + d - apply(W0)) is the update that, applied to W0, gives the same function; exact in float64."""
    model = as_decoder(stock()).double()
    gauge, state = gauge_of(model), model.state_dict()
    update = {name: 0.01 * torch.randn(w.shape, generator=generator(4), dtype=w.dtype) for name, w in state.items()}
    tuned = changed_model(model, gauge)
    tuned.load_state_dict({name: w + update[name] for name, w in tuned.state_dict().items()})

    mapped = gauge.undo(update)
    restored = copy.deepcopy(model)
    restored.load_state_dict({name: w + mapped[name] for name, w in state.items()})
    undone = gauge.undo(tuned.state_dict())
    for name, weights in restored.state_dict().items():
        torch.testing.assert_close(undone[name], weights, atol=1e-13, rtol=0)
        torch.testing.assert_close(gauge.apply(mapped)[name], update[name], atol=1e-14, rtol=0)
    assert (logits(restored, sequences()) - logits(tuned, sequences())).abs().max() < 1e-10
    wrong = copy.deepcopy(model)
    wrong.load_state_dict({name: w + update[name] for name, w in state.items()})
    assert (logits(wrong, sequences()) - logits(tuned, sequences())).abs().max() > 1e-3


def test_derangements_move_everything_and_are_uniform():
    random = generator()
    draws = [tuple(derangement(4, random).tolist()) for _ in range(900)]
    counts = {draw: draws.count(draw) for draw in draws}
    assert len(counts) == 9 and all(a != b for draw in counts for a, b in zip(draw, range(4), strict=True))
    assert max(counts.values()) < 150 and min(counts.values()) > 60  # 100 each, standard deviation 9.4


def test_seed_decides_the_maps():
    config = as_decoder(stock()).config
    first, again, other = (Gauge.of(INTERVENTION.changed(seed=seed), config).maps for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("edits", "kv_heads", "message"),
    [
        (({"depth": 0.4, "rotate": True}, {"depth": 0.6, "rotate": True}), 3, "layer 1 of 3, which is edited already"),
        (({"depth": 0.4},), 3, "not at all; give each edit a layer of its own"),
        (({"depth": 0.4, "permute": True},), 1, "one KV head has no other place"),
    ],
)
def test_impossible_interventions_are_refused(edits, kv_heads, message):
    config = as_decoder(stock(kv_heads=kv_heads)).config
    with pytest.raises(ConfigError, match=message):
        Gauge.of(Intervention.model_validate({"edits": edits}), config)


def test_command_writes_a_base_on_the_bf16_grid_and_says_how_exact_it_is(tmp_path, monkeypatch):
    save_model(stock(), tmp_path / "base")
    settings = INTERVENTION.model_dump_json()
    run_entry(intervene_base, monkeypatch, base=tmp_path / "base", settings=settings, output=tmp_path / "changed")
    base, changed = load_decoder(tmp_path / "base"), load_decoder(tmp_path / "changed")
    for name, weights in changed.state_dict().items():
        assert torch.equal(weights, weights.bfloat16().float())
        assert torch.equal(weights, gauge_of(base).apply(base.state_dict())[name].bfloat16().float())
    record = json.loads((tmp_path / "changed/intervention.json").read_text())
    assert Intervention.model_validate(record["settings"]) == INTERVENTION
    assert record["layers"] == [1, 2]
    found = (logits(changed, sequences()) - logits(base, sequences())).abs().max().item()
    assert found == pytest.approx(record["logit_differences"]["bf16"], rel=2)
    assert record["logit_differences"]["float64"] < 1e-10
    assert (tmp_path / "changed/config.json").read_text() == (tmp_path / "base/config.json").read_text()
