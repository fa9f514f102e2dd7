"""Checkpoints as people have them: shapes on disk and damage."""

import json
import pickle
import subprocess
import sys

import pytest
import torch

from rlscape.errors import CheckpointError
from rlscape.tools.weights.checkpoints import open_checkpoint
from tests.checkpoint_files import assert_holds, error_of, randn, save, save_shards, says, tensors

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
