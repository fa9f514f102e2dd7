"""Checkpoints as people have them: shapes on disk, damage, adapters against ``peft``, and the pairing of tensors."""

import json
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlscape.errors import CheckpointError
from rlscape.models.tensor_names import kind_of
from rlscape.tools.weights.checkpoints import match_tensors, open_checkpoint

GENERATOR = torch.Generator().manual_seed(0)


def randn(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=GENERATOR).to(dtype)


def tensors(layers=2, prefix="model.", d=4):
    return {
        f"{prefix}embed_tokens.weight": randn(8, d),
        **{f"{prefix}layers.{n}.self_attn.q_proj.weight": randn(d, d) for n in range(layers)},
        **{f"{prefix}layers.{n}.mlp.up_proj.weight": randn(2 * d, d) for n in range(layers)},
        f"{prefix}norm.weight": randn(d),
    }


def save(directory, state=None, file="model.safetensors", **config):
    directory.mkdir(parents=True, exist_ok=True)
    state = tensors() if state is None else state
    save_file(state, directory / file, metadata={"format": "pt"})
    if config:
        (directory / "config.json").write_text(json.dumps(config))
    return directory


def save_shards(directory, *shards, index=None):
    names = [f"model-{n + 1:05d}-of-{len(shards):05d}.safetensors" for n in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        save(directory, shard, name)
    placed = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed | (index or {})}))
    return directory


def assert_holds(checkpoint, state):
    assert checkpoint.tensors.keys() == state.keys()
    for name, values in state.items():
        info = checkpoint.tensors[name]
        assert (info.shape, info.dtype, info.nbytes) == (tuple(values.shape), values.dtype, values.nbytes)
        read = checkpoint.read(name)
        assert read.dtype == values.dtype and torch.equal(read.view(torch.uint8), values.view(torch.uint8)), name


def error_of(*arguments):
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(*map(str, arguments))
    return str(error.value)


def says(message, *parts):
    for part in parts:
        assert str(part) in message, message


# Shapes on disk


def test_directories_files_shards_and_any_other_name_read_alike(tmp_path):
    state = tensors()
    first, second = dict(list(state.items())[:3]), dict(list(state.items())[3:])
    one = save(tmp_path / "one", state)
    assert_holds(open_checkpoint(str(one)), state)
    assert_holds(open_checkpoint(str(one / "model.safetensors")), state)
    assert_holds(open_checkpoint(str(save_shards(tmp_path / "shards", first, second))), state)
    (tmp_path / "shards" / "model.safetensors.index.json").unlink()
    assert_holds(open_checkpoint(str(tmp_path / "shards")), state)
    shard = open_checkpoint(str(tmp_path / "shards" / "model-00001-of-00002.safetensors"))
    assert_holds(shard, first)
    says(shard.notes[0], "one shard of 2")
    assert_holds(open_checkpoint(str(save(tmp_path / "other", state, "policy.safetensors"))), state)


def test_a_single_model_file_is_read_without_the_copies_beside_it(tmp_path):
    directory = save(tmp_path / "mistral", state := tensors())
    save(directory, {"layers.0.attention.wq.weight": randn(4, 4)}, "consolidated.safetensors")
    assert_holds(open_checkpoint(str(directory)), state)


def test_values_keep_their_dtype_of_storage(tmp_path):
    floats = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
    state = {f"x.{n}": randn(3, 5, dtype=dtype) for n, dtype in enumerate(floats)}
    state |= {"int": torch.arange(6, dtype=torch.int8), "mask": torch.tensor([True, False]), "empty": randn(0, 4)}
    assert_holds(open_checkpoint(str(save(tmp_path / "model", state))), state)


def test_rows_are_read_alone(tmp_path):
    state = {"a": randn(6, 3, dtype=torch.bfloat16), "b": randn(2, 3, 4), "c": randn(5)}
    checkpoint = open_checkpoint(str(save(tmp_path / "model", state)))
    assert torch.equal(checkpoint.read("a", (2, 5)), state["a"][2:5])
    assert torch.equal(checkpoint.read("b", (3, 5)), state["b"].reshape(6, 4)[3:5])
    assert torch.equal(checkpoint.read("c", (1, 3)), state["c"][1:3])


def test_wrappers_prefixes_are_taken_off_and_noted(tmp_path):
    state = tensors()
    wrapped = {f"module._orig_mod.{name}": values for name, values in state.items()}
    checkpoint = open_checkpoint(str(save(tmp_path / "wrapped", wrapped)))
    assert_holds(checkpoint, state)
    says(checkpoint.notes[0], "prefixes", "6 tensors", "module._orig_mod.model.")


def test_prefixes_stay_where_names_would_collide_without(tmp_path):
    state = {"a.weight": randn(2), "module.a.weight": randn(2)}
    assert_holds(open_checkpoint(str(save(tmp_path / "model", state))), state)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """A file of 512 MiB (a sparse one) in tensors of 8 MiB."""
    header, size = {}, 8 * 2**20
    for n in range(64):
        header[f"x.{n}"] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [n * size, (n + 1) * size]}
    encoded = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + 64 * size)
    program = f"""
import resource
from rlscape.tools.weights.checkpoints import open_checkpoint
checkpoint = open_checkpoint({str(tmp_path)!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in checkpoint.tensors:
    checkpoint.read(name)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 4 * size


# Damage


def test_what_is_missing_is_named(tmp_path):
    says(error_of(tmp_path / "nowhere"), "nowhere", "no such file or directory")
    (tmp_path / "empty").mkdir()
    says(error_of(tmp_path / "empty"), "no *.safetensors", "model.safetensors")
    save(tmp_path / "run" / "checkpoint-500")
    says(error_of(tmp_path / "run"), "checkpoint-500", "meant")


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_refused_unopened(tmp_path, file):
    """This pickle would raise SystemExit if it was loaded."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / file).write_bytes(b"cbuiltins\nexit\n(tR.")
    says(error_of(directory), file, "pickle", "save_pretrained")
    says(error_of(directory / file), file, "only .safetensors", "save_pretrained")


def test_files_that_only_call_themselves_safetensors_are_named_for_what_they_are(tmp_path):
    file = tmp_path / "model.safetensors"
    torch.save(tensors(), file)
    says(error_of(tmp_path), file, "zip archive", "torch.save", "save_pretrained")
    file.write_bytes(pickle.dumps({"a": [1.0] * 10}))
    says(error_of(tmp_path), file, "a pickle", "save_pretrained")
    for content, found in {
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n": "git lfs pull",
        b"GGUF\x03\x00\x00\x00\x00\x00": "GGUF",
        b"<!DOCTYPE html><html></html>": "web page",
        b"": "empty",
        b"abc": "truncated or not a safetensors file",
    }.items():
        file.write_bytes(content)
        says(error_of(tmp_path), file, found)


def rewritten(file, change):
    """The header of a file, changed and put back."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    encoded = json.dumps(header).encode()
    file.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[8 + length :])


def test_a_truncated_shard_is_found_before_anything_is_read(tmp_path):
    directory = save_shards(tmp_path / "model", {"a": randn(8, 8)}, {"b": randn(8, 8), "c": randn(8, 8)})
    shard = directory / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    says(error_of(directory), shard, "truncated", "c is incomplete", "download or save it again")


def test_damaged_headers(tmp_path):
    file = save(tmp_path / "model", {"a": randn(4, 4), "b": randn(4, 4)}) / "model.safetensors"
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")

    file.write_bytes((2**40).to_bytes(8, "little") + whole[8:])
    says(error_of(file), file, "truncated or not a safetensors file")
    file.write_bytes(whole[:20])
    says(error_of(file), file, "truncated")
    file.write_bytes(whole[:8] + whole[8 : 8 + length].replace(b":", b";") + whole[8 + length :])
    says(error_of(file), file, "header is damaged")
    file.write_bytes(whole + b"more")
    says(error_of(file), file, "4 bytes follow")

    for change, found in [
        (lambda header: header["b"].update(data_offsets=[60, 124]), "overlap"),
        (lambda header: header["b"].update(data_offsets=[70, 134]), "gap"),
        (lambda header: header["a"].update(shape=[5, 4]), "[5, 4]"),
        (lambda header: header["a"].pop("shape"), "entry of a is damaged"),
        (lambda header: header["a"].update(data_offsets=[0]), "entry of a is damaged"),
    ]:
        file.write_bytes(whole)
        rewritten(file, change)
        says(error_of(file), file, found)


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    file = save(tmp_path / "model", {"a": randn(4, 4)}) / "model.safetensors"
    checkpoint = open_checkpoint(str(file))
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"model.safetensors: ends within a"):
        checkpoint.read("a")
    file.unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors: a cannot be read"):
        checkpoint.read("a")


def test_formats_that_are_not_read_are_left_out_and_named(tmp_path):
    directory = save(tmp_path / "model", {"a": randn(4, 4), "b": randn(4, 4)})
    rewritten(directory / "model.safetensors", lambda header: header["b"].update(dtype="F4"))
    checkpoint = open_checkpoint(str(directory))
    assert list(checkpoint.tensors) == ["a"]
    says(checkpoint.notes[0], "F4", "1 tensor (b)")


def test_index_and_shards_that_disagree(tmp_path):
    first, second = {"a": randn(2, 2)}, {"b": randn(2, 2)}
    directory = save_shards(tmp_path / "missing", first, second)
    (directory / "model-00002-of-00002.safetensors").unlink()
    says(error_of(directory), "index.json", "model-00002-of-00002.safetensors", "missing")
    (directory / "model.safetensors.index.json").unlink()
    says(error_of(directory), directory, "model-00002-of-00002.safetensors is missing")

    directory = save_shards(tmp_path / "absent", first, second, index={"c": "model-00001-of-00002.safetensors"})
    says(error_of(directory), "index.json", "places c in model-00001-of-00002", "not there")
    more = second | {"c": randn(2, 2)}
    directory = save_shards(tmp_path / "elsewhere", first, more, index={"b": "model-00001-of-00002.safetensors"})
    says(error_of(directory), "index.json", "places b", "it is in model-00002-of-00002")

    directory = save_shards(tmp_path / "unlisted", first, second)
    save(directory, second | {"c": randn(2, 2)}, "model-00002-of-00002.safetensors")
    says(error_of(directory), "index.json", "lacks 1 tensor (c)", "model-00002-of-00002")

    directory = save_shards(tmp_path / "damaged", first, second)
    for content, found in {'{"weight_map": ': "damaged", "[]": "damaged", '{"weight_map": {}}': "no tensors"}.items():
        (directory / "model.safetensors.index.json").write_text(content)
        says(error_of(directory), "index.json", found)


def test_a_tensor_in_two_files_is_ambiguous(tmp_path):
    directory = save(tmp_path / "model", {"a": randn(2, 2)}, "x.safetensors")
    save(directory, {"a": randn(2, 2)}, "y.safetensors")
    says(error_of(directory), "a is in x.safetensors and in y.safetensors")


def test_unmerged_adapters_inside_a_model_are_refused(tmp_path):
    state = tensors() | {"model.layers.0.self_attn.q_proj.lora_A.default.weight": randn(2, 4)}
    says(error_of(save(tmp_path / "model", state)), "lora_A.default.weight", "not merged", "merge_and_unload")


# The Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache, offline."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def cache(hub, name, state):
    repository = hub / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    return save(repository / "snapshots" / ("0" * 40), state)


def test_a_cached_model_of_the_hub_is_read_offline(hub):
    cache(hub, "org/name", state := tensors())
    checkpoint = open_checkpoint("org/name")
    assert checkpoint.name == "org/name"
    assert_holds(checkpoint, state)


def test_offline_and_not_cached(hub):
    says(error_of("org/name"), "org/name: no such directory", "cache", "HF_HUB_OFFLINE", "hf download org/name")
    says(error_of("org/name", "v2"), "at revision v2")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What is asked of the Hub, which has every model."""
    import huggingface_hub

    asked = {}

    def download(name, **arguments):
        asked.update(arguments, name=name)
        return str(save(tmp_path / "downloaded"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_only_safetensors_and_configs_of_one_model_are_asked_of_the_hub(asked):
    from huggingface_hub.utils import filter_repo_objects

    open_checkpoint("org/name", "v1")
    assert (asked["name"], asked["revision"], asked["local_files_only"]) == ("org/name", "v1", False)
    wanted = ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "adapter_config.json"]
    others = ["pytorch_model.bin", "original/model.safetensors", "consolidated.safetensors", "x.pt", "tokenizer.json"]
    patterns = {key: asked[key] for key in ("allow_patterns", "ignore_patterns")}
    assert list(filter_repo_objects(wanted + others, **patterns)) == wanted


def test_a_model_of_the_hub_without_safetensors(hub):
    (cache(hub, "org/old", tensors()) / "model.safetensors").unlink()
    says(error_of("org/old"), "org/old", "no *.safetensors")


# Adapters


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


def lora(directory, base=None, module="model.layers.0.self_attn.q_proj", shapes=((2, 4), (4, 2)), **config):
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": base and str(base)} | config
    state = {f"base_model.model.{module}.lora_{part}.weight": randn(*s) for part, s in zip("AB", shapes, strict=True)}
    save(directory, state, "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def test_the_named_base_is_looked_for_beside_the_adapter_too(tmp_path):
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


def test_the_given_base_stands_in_for_one_that_is_not_here(tmp_path, hub):
    base = open_checkpoint(str(save(tmp_path / "base")))
    for named, found in (("org/name", "org/name, which is not on this machine"), (None, "names no base")):
        adapter = str(lora(tmp_path / "adapter", named))
        checkpoint = open_checkpoint(adapter, fallback_base=base)
        assert checkpoint.base.name == base.name
        assert any(found in note and base.name in note for note in checkpoint.notes)
    cache(hub, "org/name", tensors())
    assert open_checkpoint(str(lora(tmp_path / "adapter", "org/name")), fallback_base=base).base.name == "org/name"


def test_a_base_is_not_downloaded_if_another_is_given(tmp_path, asked):
    base = open_checkpoint(str(save(tmp_path / "base")))
    adapter = str(lora(tmp_path / "adapter", "org/name", revision="v2"))
    open_checkpoint(adapter, fallback_base=base)
    assert (asked["name"], asked["revision"], asked["local_files_only"]) == ("org/name", "v2", True)
    open_checkpoint(adapter)
    assert not asked["local_files_only"]


def test_the_given_base_is_used_if_it_is_the_one_that_is_named(tmp_path):
    base = open_checkpoint(str(save(tmp_path / "base")))
    assert open_checkpoint(str(lora(tmp_path / "adapter", tmp_path / "base")), fallback_base=base).base is base


def test_an_adapter_whose_base_cannot_be_had(tmp_path, hub):
    says(error_of(lora(tmp_path / "one")), "adapter_config.json", "names no base_model_name_or_path")
    says(error_of(lora(tmp_path / "two", "org/name")), "adapter_config.json", "org/name", "HF_HUB_OFFLINE")
    says(error_of(lora(tmp_path / "three", "/no/where")), "adapter_config.json", "/no/where: no such")


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


# Pairing


def match(tmp_path, base, tuned, base_config=None, tuned_config=None):
    ours = open_checkpoint(str(save(tmp_path / "base", base, **(base_config or {}))))
    theirs = open_checkpoint(str(save(tmp_path / "tuned", tuned, **(tuned_config or {}))))
    matching = match_tensors(ours, theirs)
    pairs = {match.name: match.read(ours, theirs) for match in matching.matches}
    for found in matching.matches:
        assert {tuple(values.shape) for values in pairs[found.name]} == {found.shape}
    return matching, pairs


def the_note(matching, part):
    (note,) = [note for note in matching.notes if part in note]
    return note


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


@pytest.mark.parametrize(
    "name, layer, kind",
    [
        ("model.layers.3.self_attn.q_proj.weight", 3, "q"),
        ("model.language_model.layers.12.self_attn.k_proj.weight", 12, "k"),
        ("model.layers.3.self_attn.v_proj.weight", 3, "v"),
        ("model.layers.3.self_attn.o_proj.weight", 3, "o"),
        ("model.layers.3.self_attn.q_proj.bias", 3, "bias"),
        ("model.layers.3.self_attn.q_norm.weight", 3, "norm"),
        ("model.layers.3.pre_feedforward_layernorm.weight", 3, "norm"),
        ("model.layers.3.mlp.gate_proj.weight", 3, "gate"),
        ("model.layers.3.mlp.up_proj.weight", 3, "up"),
        ("model.layers.3.mlp.down_proj.weight", 3, "down"),
        ("model.layers.3.self_attn.qkv_proj.weight", 3, "qkv"),
        ("model.layers.3.mlp.gate_up_proj.weight", 3, "gate_up"),
        ("model.layers.3.mlp.gate.weight", 3, "router"),
        ("model.layers.3.mlp.experts.7.gate_proj.weight", 3, "expert-gate"),
        ("model.layers.3.mlp.experts.gate_up_proj", 3, "expert-gate_up"),
        ("model.layers.3.mlp.shared_expert.up_proj.weight", 3, "shared-expert-up"),
        ("model.layers.3.mlp.shared_expert_gate.weight", 3, "router"),
        ("model.layers.3.block_sparse_moe.experts.7.w2.weight", 3, "expert-down"),
        ("model.layers.3.self_attn.q_proj.weight_scale_inv", 3, "other"),
        ("h.11.attn.c_attn.weight", 11, "qkv"),
        ("transformer.h.11.attn.c_proj.weight", 11, "o"),
        ("h.11.mlp.c_fc.weight", 11, "up"),
        ("h.11.mlp.c_proj.weight", 11, "down"),
        ("gpt_neox.layers.0.attention.query_key_value.weight", 0, "qkv"),
        ("gpt_neox.layers.0.attention.dense.weight", 0, "o"),
        ("gpt_neox.layers.0.mlp.dense_4h_to_h.weight", 0, "down"),
        ("model.embed_tokens.weight", None, "embed"),
        ("wte.weight", None, "embed"),
        ("lm_head.weight", None, "head"),
        ("embed_out.weight", None, "head"),
        ("model.norm.weight", None, "norm"),
        ("model.visual.blocks.0.attn.qkv.weight", None, "other"),
        ("score.weight", None, "other"),
    ],
)
def test_names_tell_layer_and_kind(name, layer, kind):
    assert kind_of(name) == (layer, kind)
