"""Tiny models: building, the bf16 grid, saving and loading, and clear errors for damaged directories."""

import re

import pytest
import torch
from pydantic import ValidationError

from rlscape.errors import CheckpointError
from rlscape.models.build import WEIGHTS, build_model, load_model, save_model, snap_to_bf16_
from rlscape.settings.base_model import ModelSettings
from rlscape.tasks.vocabulary import encode

pytestmark = pytest.mark.training

SETTINGS = ModelSettings(hidden_size=16, layers=2, heads=4, kv_heads=2, head_dim=4, intermediate_size=24)


MIXTURE = {"architecture": "qwen3_moe", "experts": 4, "experts_per_token": 2}


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(params=[{}, MIXTURE], ids=["dense", "mixture"])
def saved(request, tmp_path):
    model = build_model(SETTINGS.changed(**request.param), seed=0)
    snap_to_bf16_(model)
    save_model(model, tmp_path / "model")
    return model, tmp_path / "model"


@pytest.mark.parametrize(
    "changes", [*({"architecture": name} for name in ("qwen2", "qwen3", "llama", "mistral")), MIXTURE], ids=str
)
def test_architectures_have_an_untied_head_over_the_vocabulary(changes, tmp_path):
    model = build_model(SETTINGS.changed(**changes), seed=0)
    assert model.config.model_type == changes["architecture"]
    assert model.lm_head.weight.shape == model.get_input_embeddings().weight.shape == (64, 16)
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.model.layers[0].self_attn.k_proj.weight.shape == (2 * 4, 16)
    save_model(model, tmp_path)
    assert same(weights(load_model(tmp_path)), weights(model))


def test_every_layer_of_a_mixture_has_experts_and_shares_that_add_up_to_one():
    model = build_model(SETTINGS.changed(**MIXTURE), seed=0)
    assert type(model).__name__ == "Qwen3MoeForCausalLM"
    assert not model.config.output_router_logits
    for layer in model.model.layers:
        assert layer.mlp.experts.gate_up_proj.shape == (4, 2 * 24, 16)
        assert layer.mlp.experts.down_proj.shape == (4, 16, 24)
        _, shares, experts = layer.mlp.gate(torch.randn(5, 16))
        assert experts.shape == (5, 2)
        torch.testing.assert_close(shares.sum(-1), torch.ones(5))


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "qwen3_moe"},
        MIXTURE | {"experts_per_token": None},
        MIXTURE | {"experts": None},
        MIXTURE | {"experts_per_token": 5},
        {"experts": 4, "experts_per_token": 2},
        {"architecture": "llama", "experts": 4},
    ],
    ids=str,
)
def test_experts_that_do_not_suit_the_architecture_are_refused(changes):
    with pytest.raises(ValidationError, match="qwen3_moe needs both, with experts_per_token <= experts; other"):
        SETTINGS.changed(**changes)


def test_initialisation_depends_on_the_seed_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (weights(build_model(SETTINGS, seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("changes", [{}, MIXTURE], ids=["dense", "mixture"])
def test_snapping_rounds_to_the_nearest_bf16_value(changes):
    model = build_model(SETTINGS.changed(**changes), seed=0)
    before = weights(model)
    snap_to_bf16_(model)
    after = weights(model)
    assert not same(before, after)
    for name, values in after.items():
        assert values.dtype == torch.float32
        assert torch.equal(values, before[name].to(torch.bfloat16).to(torch.float32))


def test_load_gives_fp32_and_the_same_outputs(saved):
    model, directory = saved
    loaded = load_model(directory)
    assert same(weights(loaded), weights(model))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert not loaded.training
    ids = torch.tensor([encode("3 + 4 =")])
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)


def test_auto_classes_load_the_directory(saved):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, directory = saved
    assert same(weights(AutoModelForCausalLM.from_pretrained(directory)), weights(model))
    assert AutoTokenizer.from_pretrained(directory)("3 + 4 =")["input_ids"] == encode("3 + 4 =")


def test_saving_leaves_other_files_and_no_temporary_ones(saved):
    model, directory = saved
    (directory / "evaluation.json").write_text("{}")
    files = {path.name for path in directory.iterdir()}
    save_model(model, directory)
    assert {path.name for path in directory.iterdir()} == files


def test_missing_directory(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: no such directory; .*make the model again"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize("file", [WEIGHTS, "config.json"])
def test_missing_file(saved, file):
    (saved[1] / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file}: no such file; .*make the model again"):
        load_model(saved[1])


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_truncated_weights(saved, kept):
    path = saved[1] / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=f"{WEIGHTS}: truncated or damaged .*make the model again"):
        load_model(saved[1])


@pytest.mark.parametrize("changes", [{"layers": 1}, {"layers": 3}, {"intermediate_size": 32}])
def test_weights_of_another_shape(saved, tmp_path, changes):
    save_model(build_model(SETTINGS.changed(**changes), seed=0), tmp_path / "other")
    (tmp_path / "other" / WEIGHTS).replace(saved[1] / WEIGHTS)
    with pytest.raises(CheckpointError, match=f"{WEIGHTS}: does not fit config.json"):
        load_model(saved[1])


def test_unknown_architecture(saved):
    config = saved[1] / "config.json"
    config.write_text(re.sub('"qwen3(_moe)?"', '"gpt2"', config.read_text()))
    with pytest.raises(CheckpointError, match="config.json: model_type: .*'gpt2'"):
        load_model(saved[1])
