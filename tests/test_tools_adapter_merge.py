"""Adapters, merged as ``peft`` merges them, with the base that they started from."""

import pytest
import torch
from safetensors.torch import load_file

from rlscape.tools.weights.checkpoints import match_tensors, open_checkpoint
from tests.checkpoint_files import error_of, lora, randn, save, says, tensors, the_note


def llama(directory, tied=False, seed=0):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.save_pretrained(directory)
    return LlamaForCausalLM.from_pretrained(directory)


def gpt2(directory):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=16))
    model.save_pretrained(directory)
    return GPT2LMHeadModel.from_pretrained(directory)


def train(model, directory, **options):
    """An adapter with random factors, saved; the model that ``peft`` makes of it."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(**{"r": 3, "lora_alpha": 5} | options))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                noise = 0.3 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(parameter * noise.exp() if "magnitude" in name else parameter + noise)
    adapted.save_pretrained(directory)
    return adapted.merge_and_unload().state_dict()


def assert_merged(checkpoint, expected, changed):
    base = checkpoint.base
    found = set()
    for name in checkpoint.tensors:
        values = checkpoint.read(name)
        torch.testing.assert_close(values, expected[name], atol=1e-6, rtol=1e-6)
        assert checkpoint.tensors[name].shape == tuple(values.shape) and checkpoint.tensors[name].dtype == values.dtype
        if name not in base.tensors or not torch.equal(values, base.read(name)):
            found.add(name)
    assert found == {name for name in checkpoint.tensors if any(part in name for part in changed)}


OPTIONS = {
    "lora": (dict(target_modules=["q_proj", "down_proj"]), ("q_proj", "down_proj")),
    "rslora": (dict(target_modules=["q_proj"], use_rslora=True), ("q_proj",)),
    "patterns": (
        dict(
            target_modules=["q_proj", "up_proj"],
            rank_pattern={"up_proj": 2, "layers.1.self_attn.q_proj": 4},
            alpha_pattern={"layers.0.self_attn.q_proj": 7},
        ),
        ("q_proj", "up_proj"),
    ),
    "dora": (dict(target_modules=["q_proj", "up_proj"], use_dora=True), ("q_proj", "up_proj")),
    "embedding": (dict(target_modules=["embed_tokens", "v_proj"]), ("embed_tokens", "v_proj")),
    "dora embedding": (dict(target_modules=["embed_tokens"], use_dora=True), ("embed_tokens",)),
    "modules_to_save": (
        dict(target_modules=["k_proj"], modules_to_save=["lm_head", "embed_tokens"]),
        ("k_proj", "lm_head", "embed_tokens"),
    ),
    "head": (dict(target_modules="all-linear", modules_to_save=["model.norm"]), ("_proj", "model.norm")),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OPTIONS)
def test_adapters_merge_as_peft_merges_them(tmp_path, kind):
    options, changed = OPTIONS[kind]
    expected = train(llama(tmp_path / "base"), tmp_path / "adapter", **options)
    checkpoint = open_checkpoint(str(tmp_path / "adapter"))
    assert checkpoint.tensors.keys() == expected.keys()
    assert_merged(checkpoint, expected, changed)
    assert any("adapter merged with" in note and "float32" in note for note in checkpoint.notes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dora", [False, True])
def test_layers_that_store_the_transpose(tmp_path, dora):
    """GPT-2's ``c_proj`` is square, so that only the config tells."""
    expected = train(gpt2(tmp_path / "base"), tmp_path / "adapter", target_modules=["c_attn", "c_proj"], use_dora=dora)
    assert_merged(open_checkpoint(str(tmp_path / "adapter")), expected, ("c_attn.weight", "c_proj.weight"))


@pytest.mark.filterwarnings("ignore")
def test_a_trained_head_of_a_tied_base_is_a_tensor_of_its_own(tmp_path):
    model = llama(tmp_path / "base", tied=True)
    train(model, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=["lm_head"])
    base = open_checkpoint(str(tmp_path / "base"))
    matching = match_tensors(base, open_checkpoint(str(tmp_path / "adapter")))
    assert matching.only_tuned == ()
    says(the_note(matching, "lm_head.weight is only in"), "ties it to model.embed_tokens.weight")


def test_the_named_base_is_looked_for_beside_the_adapter_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where ../base is nothing
    base = save(tmp_path / "base", dict(tensors(), **{"model.norm.weight": randn(4, dtype=torch.bfloat16)}))
    checkpoint = open_checkpoint(str(lora(tmp_path / "adapter", "../base")))
    name = "model.layers.0.self_attn.q_proj.weight"
    factors = load_file(tmp_path / "adapter" / "adapter_model.safetensors").values()
    A, B = sorted(factors, key=lambda factor: factor.shape)
    before = load_file(base / "model.safetensors")
    torch.testing.assert_close(checkpoint.read(name), before[name] + 2 * B @ A, atol=1e-6, rtol=0)
    torch.testing.assert_close(checkpoint.read(name, (1, 3)), checkpoint.read(name)[1:3], atol=0, rtol=0)
    assert checkpoint.read("model.norm.weight").dtype == torch.bfloat16


def test_bases_in_bf16_merge_in_float32(tmp_path):
    state = {name: values.bfloat16() for name, values in tensors().items()}
    checkpoint = open_checkpoint(str(lora(tmp_path / "adapter", save(tmp_path / "base", state))))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert checkpoint.tensors[name].dtype == checkpoint.read(name).dtype == torch.float32
    assert checkpoint.tensors[name].nbytes == 64


def test_a_base_with_other_nesting_is_found(tmp_path):
    base = save(tmp_path / "base", tensors(prefix="language_model.model."))
    checkpoint = open_checkpoint(str(lora(tmp_path / "adapter", base)))
    assert checkpoint.tensors["language_model.model.layers.0.self_attn.q_proj.weight"].dtype == torch.float32
    name = "language_model.model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(checkpoint.read(name), checkpoint.base.read(name))


def test_the_given_base_is_used_if_it_is_the_one_that_is_named(tmp_path):
    base = open_checkpoint(str(save(tmp_path / "base")))
    assert open_checkpoint(str(lora(tmp_path / "adapter", tmp_path / "base")), fallback_base=base).base is base


@pytest.mark.parametrize(
    "config, found",
    [
        (dict(peft_type="IA3"), "IA3"),
        (dict(peft_type="ADALORA"), "ADALORA"),
        (dict(target_parameters=["mlp.experts.gate_up_proj"]), "target_parameters"),
        (dict(trainable_token_indices=[1]), "trainable_token_indices"),
        (dict(lora_bias=True), "lora_bias"),
    ],
)
def test_adapters_of_other_kinds_are_named(tmp_path, config, found):
    """Before the base is looked for, which is not there."""
    says(error_of(lora(tmp_path / "adapter", "org/name", **config)), found, "merge_and_unload")


def test_damaged_adapters(tmp_path):
    base = save(tmp_path / "base")
    says(error_of(lora(tmp_path / "rank", base, r=3)), "adapter_model.safetensors", "[2, 4]", "rank 3")
    says(error_of(lora(tmp_path / "alpha", base, lora_alpha=None)), "adapter_config.json", "lora_alpha")
    other = lora(tmp_path / "other", base, module="model.layers.7.self_attn.q_proj")
    says(error_of(other), "model.layers.7.self_attn.q_proj.weight", "does not have", "the base")
    says(error_of(lora(tmp_path / "head", base, module="lm_head")), "lm_head.weight", "tied")
    shape = lora(tmp_path / "shape", base, shapes=((2, 6), (6, 2)))
    says(error_of(shape), "[6, 6]", "[4, 4]", "base that it was trained upon")
    says(error_of(lora(tmp_path / "dora", base, use_dora=True)), "use_dora")

    directory = lora(tmp_path / "none", base)
    (directory / "adapter_model.safetensors").unlink()
    says(error_of(directory), "adapter_config.json without adapter_model.safetensors")
    (directory / "adapter_model.bin").touch()
    says(error_of(directory), "adapter_model.bin is a pickle", "peft")

    directory = lora(tmp_path / "bare")
    (directory / "adapter_config.json").unlink()
    says(error_of(directory), "adapter_model.safetensors without adapter_config.json")

    directory = lora(tmp_path / "json", base)
    (directory / "adapter_config.json").write_text("{")
    says(error_of(directory), "adapter_config.json: not valid JSON")

    directory = lora(tmp_path / "half", base)
    save(directory, {"base_model.model.model.norm.lora_A.weight": randn(2, 4)}, "adapter_model.safetensors")
    says(error_of(directory), "model.norm", "incomplete")
    save(directory, {"base_model.model.model.norm.lora_E": randn(2, 1)}, "adapter_model.safetensors")
    says(error_of(directory), "model.norm.lora_E")


def test_no_adapter_merges_with_quantised_weights(tmp_path):
    state = tensors() | {"model.layers.0.self_attn.q_proj.weight": torch.zeros(4, 4, dtype=torch.uint8)}
    message = error_of(lora(tmp_path / "adapter", save(tmp_path / "base", state)))
    says(message, "model.layers.0.self_attn.q_proj.weight is quantised", "before quantisation", "adapter_config.json")


def test_adapters_that_start_from_the_base_carry_a_warning(tmp_path):
    checkpoint = open_checkpoint(str(lora(tmp_path / "adapter", save(tmp_path / "base"), init_lora_weights="pissa")))
    assert any("initialised with pissa" in note for note in checkpoint.notes)
