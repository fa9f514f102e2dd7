"""Which tensor of one checkpoint is which of another."""

import pytest
import torch

from rlscape.errors import CheckpointError
from rlscape.models.tensor_names import kind_of
from rlscape.tools.weights.checkpoints import match_tensors, open_checkpoint
from tests.checkpoint_files import randn, save, says, tensors, the_note


def match(tmp_path, base, tuned, base_config=None, tuned_config=None):
    ours = open_checkpoint(str(save(tmp_path / "base", base, **(base_config or {}))))
    theirs = open_checkpoint(str(save(tmp_path / "tuned", tuned, **(tuned_config or {}))))
    matching = match_tensors(ours, theirs)
    pairs = {match.name: match.read(ours, theirs) for match in matching.matches}
    for found in matching.matches:
        assert {tuple(values.shape) for values in pairs[found.name]} == {found.shape}
    return matching, pairs


def test_equal_names_pair_without_a_note(tmp_path):
    state = tensors(layers=11)
    matching, pairs = match(tmp_path, state, {name: values + 1 for name, values in state.items()})
    assert (matching.notes, matching.only_base, matching.only_tuned) == ((), (), ())
    assert pairs.keys() == state.keys()
    for name, (before, after) in pairs.items():
        assert torch.equal(before, state[name]) and torch.equal(after, state[name] + 1)
    layers = [kind_of(match.name).layer for match in matching.matches]
    inside = [layer for layer in layers if layer is not None]
    assert inside == sorted(inside) and inside[-1] == 10


@pytest.mark.parametrize(
    "prefix", ["", "language_model.model.", "model.language_model.", "transformer.", "policy.actor.model."]
)
@pytest.mark.parametrize("turned", [False, True])
def test_names_that_differ_in_nesting_or_by_one_prefix_pair(tmp_path, prefix, turned):
    state = tensors()
    nested = {prefix + name.removeprefix("model."): values for name, values in state.items()}
    matching, pairs = match(tmp_path, *((nested, state) if turned else (state, nested)))
    assert len(pairs) == len(state) and all(torch.equal(*pair) for pair in pairs.values())
    says(the_note(matching, "different names"), "6 tensors", "embed_tokens.weight with")


def test_ambiguous_names_are_listed_not_paired(tmp_path):
    name = "layers.0.self_attn.q_proj.weight"
    twice = {f"actor.{name}": randn(4, 4), f"critic.{name}": randn(4, 4), "x": randn(2)}
    matching, pairs = match(tmp_path, {name: randn(4, 4), "x": randn(2)}, twice)
    assert list(pairs) == ["x"]
    assert matching.only_base == (name,)
    assert matching.only_tuned == (f"actor.{name}", f"critic.{name}")
    says(the_note(matching, f"only in {tmp_path / 'tuned'}"), "2 tensors", f"actor.{name}, critic.{name}")

    once = {f"policy.actor.{name}": randn(4, 4), "x": randn(2)}
    matching, pairs = match(tmp_path, {name: randn(4, 4), f"actor.{name}": randn(4, 4), "x": randn(2)}, once)
    assert list(pairs) == ["x"]


def test_a_suffix_alone_does_not_pair(tmp_path):
    """``norm.weight`` ends many names; only a prefix that also holds within the layers counts."""
    common = {"x": randn(2)}
    matching, pairs = match(tmp_path, {"norm.weight": randn(4)} | common, {"value_head.norm.weight": randn(4)} | common)
    assert list(pairs) == ["x"]
    assert matching.only_base == ("norm.weight",)


@pytest.mark.parametrize("tied", ["base", "tuned"])
def test_tied_heads_are_named(tmp_path, tied):
    state = tensors()
    untied = state | {"lm_head.weight": randn(8, 4)}
    matching, pairs = match(tmp_path, *((state, untied) if tied == "base" else (untied, state)))
    assert pairs.keys() == state.keys()
    assert (matching.only_base, matching.only_tuned) == ((), ())
    note = the_note(matching, "lm_head.weight is only in")
    says(note, f"{tmp_path / tied} ties it to model.embed_tokens.weight")


def test_a_head_is_missing_where_the_config_says_that_it_is_not_tied(tmp_path):
    untied = tensors() | {"lm_head.weight": randn(8, 4)}
    matching, _ = match(tmp_path, untied, tensors(), tuned_config={"tie_word_embeddings": False})
    assert matching.only_base == ("lm_head.weight",)


def test_a_padded_vocabulary_is_compared_on_the_rows_that_both_have(tmp_path):
    state = tensors() | {"lm_head.weight": randn(8, 4)}
    padded = dict(state)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        padded[name] = torch.cat([state[name], randn(3, 4)])
    matching, pairs = match(tmp_path, state, padded)
    assert torch.equal(*pairs["lm_head.weight"]) and torch.equal(*pairs["model.embed_tokens.weight"])
    says(the_note(matching, "lm_head.weight"), "8 rows in", "11 in", "the first 8 are compared")


def test_other_shapes_and_integers_are_not_comparable(tmp_path):
    state = tensors()
    shape, quantised = "model.layers.0.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight"
    tuned = state | {shape: randn(6, 4), quantised: torch.zeros(8, 1, dtype=torch.uint8)}
    matching, pairs = match(tmp_path, state, tuned)
    assert pairs.keys() == state.keys() - {shape, quantised}
    assert matching.not_comparable.keys() == {shape, quantised}
    says(the_note(matching, "[8, 4]"), "[6, 4]", f"1 tensor ({shape})")
    says(the_note(matching, "uint8"), "quantised", f"1 tensor ({quantised})")


def test_8_bit_floats_are_compared_as_stored_and_noted(tmp_path):
    state = tensors()
    name = "model.layers.0.self_attn.q_proj.weight"
    matching, pairs = match(tmp_path, state, state | {name: state[name].to(torch.float8_e4m3fn)})
    assert pairs[name][1].dtype == torch.float8_e4m3fn
    says(the_note(matching, "8 bits"), name, "without the scales")


def fused_and_single(names=("gate_proj", "up_proj", "down_proj"), block="mlp", experts=3):
    fused = {"gate_up_proj": randn(experts, 10, 4), "down_proj": randn(experts, 4, 5)}
    single = {}
    for n in range(experts):
        gate, up = fused["gate_up_proj"][n].split(5)
        for name, values in zip(names, (gate, up, fused["down_proj"][n]), strict=True):
            single[f"model.layers.0.{block}.experts.{n}.{name}.weight"] = values.clone()
    fused = {f"model.layers.0.mlp.experts.{name}": values for name, values in fused.items()}
    return tensors() | fused, tensors() | single


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "names, block", [(("gate_proj", "up_proj", "down_proj"), "mlp"), (("w1", "w3", "w2"), "block_sparse_moe")]
)
def test_single_experts_pair_with_slices_of_fused_ones(tmp_path, turned, names, block):
    fused, single = fused_and_single(names, block)
    matching, pairs = match(tmp_path, *((single, fused) if turned else (fused, single)))
    experts = {name: pair for name, pair in pairs.items() if "experts" in name}
    assert len(experts) == 9 and all(torch.equal(*pair) for pair in experts.values())
    assert (matching.only_base, matching.only_tuned) == ((), ())
    says(the_note(matching, "slices of fused"), "9 tensors", f"experts.0.{min(names)}")


@pytest.mark.filterwarnings("ignore")
def test_experts_that_transformers_fuses_are_sliced_as_it_fuses_them(tmp_path):
    """``save_pretrained`` writes single experts, ``state_dict`` has them fused."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    model = Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=16,
            hidden_size=8,
            moe_intermediate_size=6,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=4,
            num_experts=3,
            num_experts_per_tok=2,
        )
    )
    model.save_pretrained(tmp_path / "base")
    save(tmp_path / "tuned", model.state_dict())
    base, tuned = open_checkpoint(str(tmp_path / "base")), open_checkpoint(str(tmp_path / "tuned"))
    matching = match_tensors(base, tuned)
    assert sum("experts" in match.name for match in matching.matches) == 9
    assert all(torch.equal(*match.read(base, tuned)) for match in matching.matches)
    assert (matching.only_base, matching.only_tuned) == ((), ())


def test_fused_experts_pair_directly_and_other_layouts_are_listed(tmp_path):
    fused, single = fused_and_single()
    _, pairs = match(tmp_path, fused, fused)
    assert pairs["model.layers.0.mlp.experts.gate_up_proj"][0].shape == (3, 10, 4)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    transposed = fused | {name: fused[name].transpose(1, 2).contiguous()}
    matching, _ = match(tmp_path, single, transposed)
    assert matching.only_tuned == (name,)
    assert len(matching.only_base) == 6


def test_nothing_in_common(tmp_path):
    with pytest.raises(CheckpointError, match="no tensor name in common") as error:
        match(tmp_path, {"a.weight": randn(2)}, {"b.weight": randn(2)})
    says(str(error.value), "a.weight", "b.weight", "the base")
