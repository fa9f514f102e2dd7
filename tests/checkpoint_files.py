"""Checkpoints and adapters on disk, as tests write them, and what they look for in messages and notes."""

import json

import pytest
import torch
from safetensors.torch import save_file

from rlscape.errors import CheckpointError
from rlscape.tools.weights.checkpoints import open_checkpoint

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


def lora(directory, base=None, module="model.layers.0.self_attn.q_proj", shapes=((2, 4), (4, 2)), **config):
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": base and str(base)} | config
    state = {f"base_model.model.{module}.lora_{part}.weight": randn(*s) for part, s in zip("AB", shapes, strict=True)}
    save(directory, state, "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def the_note(matching, part):
    (note,) = [note for note in matching.notes if part in note]
    return note
