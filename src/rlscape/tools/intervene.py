"""Rotate or permute one attention layer of a checkpoint without changing what it computes (P2, Figure 6).

The maps are those of :mod:`rlscape.models.interventions`. Here they meet any causal language model of ``transformers``
with separate ``q_proj``, ``k_proj``, ``v_proj`` and ``o_proj``: the files are copied and the bytes of the changed
tensors replaced, in the dtype in which they are stored. Whether the model still computes the same is then measured
on its logits, not assumed.
"""

import json
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rlscape.errors import CheckpointError
from rlscape.files import provenance, write_json
from rlscape.geometry.nulls import haar_orthogonal
from rlscape.models.interventions import (
    INTERVENTION_FILE,
    ChannelMaps,
    Gauge,
    derangement,
    permute_heads,
    rotate_value_output,
)

Kind = Literal["rotate", "permute"]
TOLERANCE = 1e-3
"""Of the exact map, in shares of the largest logit: fp32 sums in another order stay a hundred times below."""
CHECKED_SEQUENCES, CHECKED_TOKENS = 4, 64
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
SHARED_BY_HEADS = ("q_norm.weight", "k_norm.weight")
"""Gains that every head has in common, if their length is that of one head."""
OTHER_WEIGHTS = shutil.ignore_patterns("*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.gguf", "*.onnx", ".*")
"""Not copied: they would hold the weights as they were."""


@dataclass(frozen=True)
class Heads:
    """The attention of a model."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class LogitCheck:
    """Largest absolute changes of a logit on random tokens, computed in fp32."""

    exact: float
    """By the map alone, on unrounded weights: 0 but for rounding in fp32."""
    stored: float
    """By the map and by rounding its result to the dtype of storage: what training starts from."""
    scale: float
    """The largest absolute logit."""
    tokens: int


@dataclass(frozen=True)
class Intervened:
    """What :func:`intervene` did."""

    kind: Kind
    layer: int
    seed: int
    heads: Heads
    tensors: tuple[str, ...]
    """The changed ones."""
    check: LogitCheck | None


def read_heads(directory: Path) -> Heads:
    """Sizes from ``config.json``; those of the text model where a model has several.

    Raises:
        CheckpointError: the file is missing or is not a language model's.
    """
    file = directory / "config.json"
    try:
        values: dict[str, Any] = json.loads(file.read_text())
        values = values.get("text_config", values)
        heads = values["num_attention_heads"]
        return Heads(
            layers=values["num_hidden_layers"],
            heads=heads,
            kv_heads=values.get("num_key_value_heads") or heads,
            head_dim=values.get("head_dim") or values["hidden_size"] // heads,
        )
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file; expected a model directory of transformers") from None
    except (json.JSONDecodeError, AttributeError) as error:
        raise CheckpointError(f"{file}: not a JSON object ({error}); download the model again") from None
    except KeyError as key:
        raise CheckpointError(f"{file}: no key {key}; expected the configuration of a causal language model") from None


def _layer_files(directory: Path, layer: int) -> dict[str, Path]:
    """Tensors of a layer's ``self_attn`` -> file; names in full.

    Raises:
        CheckpointError: there are no readable safetensors files.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{directory}: no *.safetensors in it; save the model with safe_serialization=True")
    pattern = re.compile(rf"(^|\.)layers\.{layer}\.self_attn\.")
    found: dict[str, Path] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                found |= {name: file for name in tensors.keys() if pattern.search(name)}
        except SafetensorError as error:
            raise CheckpointError(f"{file}: truncated or not a safetensors file ({error}); download it again") from None
    return found


def read_attention(directory: Path, layer: int, heads: Heads) -> dict[str, tuple[Path, Tensor]]:
    """Weights and biases of a layer's four projections, by full name, with the file of each.

    Raises:
        CheckpointError: the layer does not exist, or its attention has parts that these maps do not cover.
    """
    if not 0 <= layer < heads.layers:
        raise CheckpointError(f"{directory}: there is no layer {layer}; choose one from 0 to {heads.layers - 1}")
    files = _layer_files(directory, layer)
    prefixes = {name.partition("self_attn.")[0] for name in files}
    if len(prefixes) > 1:
        raise CheckpointError(
            f"{directory}: layer {layer} is ambiguous, it is in {', '.join(sorted(prefixes))}; "
            "save the language model alone"
        )
    attention: dict[str, tuple[Path, Tensor]] = {}
    rows = {"q_proj": heads.heads, "k_proj": heads.kv_heads, "v_proj": heads.kv_heads, "o_proj": heads.heads}
    for name, file in files.items():
        part = name.partition("self_attn.")[2]
        with safe_open(file, framework="pt") as tensors:
            values: Tensor = tensors.get_tensor(name)
        if part in SHARED_BY_HEADS and values.shape == (heads.head_dim,):
            continue
        projection = part.partition(".")[0]
        if projection not in PROJECTIONS or part.partition(".")[2] not in ("weight", "bias"):
            raise CheckpointError(
                f"{file}: {name} {list(values.shape)} depends on the heads in a way that is not covered; "
                f"only {', '.join(PROJECTIONS)} and gains that heads share are"
            )
        side = values.shape[1] if part == "o_proj.weight" else values.shape[0]
        if part != "o_proj.bias" and side != rows[projection] * heads.head_dim:
            raise CheckpointError(
                f"{file}: {name} is {list(values.shape)}, which {rows[projection]} heads of {heads.head_dim} do not "
                "explain; such attention is not covered"
            )
        if not values.dtype.is_floating_point or values.element_size() < 2:
            raise CheckpointError(f"{file}: {name} is stored as {values.dtype}; take the unquantised model")
        attention[name] = file, values
    missing = [p for p in PROJECTIONS if not any(name.endswith(f".{p}.weight") for name in attention)]
    if missing:
        raise CheckpointError(
            f"{directory}: layer {layer} has no self_attn.{missing[0]}.weight; these maps need attention with "
            f"separate {', '.join(PROJECTIONS)}"
        )
    return attention


def make_gauge(kind: Kind, heads: Heads, prefix: str, seed: int) -> Gauge:
    """The map of one layer, whose modules are called ``<prefix>q_proj`` and so on.

    Raises:
        ConfigError: ``permute`` with a single KV head.
    """
    generator = torch.Generator().manual_seed(seed)
    repeats = heads.heads // heads.kv_heads
    maps: ChannelMaps
    if kind == "rotate":
        rotations = [haar_orthogonal(heads.head_dim, generator) for _ in range(heads.kv_heads)]
        maps = rotate_value_output(torch.stack(rotations), repeats)
    else:
        maps = permute_heads(derangement(heads.kv_heads, generator), repeats, heads.head_dim)
    return Gauge({}, {prefix + projection: matrix for projection, matrix in maps.items()})


def _overwrite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Replace tensors in a safetensors file, whose other bytes stay.

    The format: the header's length (8 bytes, little endian), a JSON header with each tensor's ``data_offsets`` behind
    the header, and the data.
    """
    with file.open("r+b") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
        for name, values in tensors.items():
            begin, end = header[name]["data_offsets"]
            data = values.contiguous().flatten().view(torch.uint8).numpy().tobytes()
            assert len(data) == end - begin
            stream.seek(8 + length + begin)
            stream.write(data)


@torch.no_grad()
def check_logits(
    directory: Path, exact: Mapping[str, Tensor], stored: Mapping[str, Tensor], layer: int, seed: int
) -> LogitCheck:
    """Compare a model with its changed selves on random tokens, in fp32.

    Args:
        directory: of the model as it was.
        exact: changed tensors by name, in fp32.
        stored: the same in the dtype of storage.

    Raises:
        CheckpointError: ``transformers`` does not know the architecture, or names its tensors otherwise.
    """
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True).eval()
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{directory}: transformers cannot load it ({error}); or write unchecked: --no-check"
        ) from None
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if f"layers.{layer}.self_attn" in name
    }
    if missing := exact.keys() - parameters.keys():
        raise CheckpointError(
            f"{directory}: transformers has no parameter {min(missing)}, so that logits cannot be checked; "
            "save the language model alone, or write unchecked: --no-check"
        )
    shape = (CHECKED_SEQUENCES, CHECKED_TOKENS)
    vocabulary = model.get_input_embeddings().num_embeddings
    ids = torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))
    before = model(ids).logits
    differences = []
    for changed in (exact, stored):
        for name, values in changed.items():
            parameters[name].data.copy_(values)
        differences.append((model(ids).logits - before).abs().max().item())
    of_exact, of_stored = differences
    return LogitCheck(of_exact, of_stored, before.abs().max().item(), ids.numel())


@contextmanager
def _new_directory(output: Path) -> Iterator[Path]:
    """A temporary directory beside ``output``, which becomes ``output`` if the block succeeds."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        made = Path(temporary) / output.name
        made.mkdir()
        yield made
        os.replace(made, output)


def intervene(model: Path, kind: Kind, layer: int, output: Path, seed: int = 0, check: bool = True) -> Intervened:
    """Write a copy of a model with one attention layer rotated or permuted.

    ``rotate``: the value channels of every KV head by a random rotation, undone in the output projection.
    ``permute``: the heads, in groups that share a key and value head, so that no group keeps its place.

    Args:
        model: directory of safetensors and ``config.json``.
        layer: counted from 0.
        output: a directory that does not exist yet; it is complete or absent.
        check: measure the logits of both in fp32, which takes 4 bytes of memory per parameter; needs an architecture
            that ``transformers`` knows.

    Raises:
        CheckpointError: the model cannot be read, its attention is of another kind, ``output`` exists, or its logits
            are not what they were.
        ConfigError: ``permute`` with a single KV head.
    """
    assert kind in get_args(Kind)
    if output.exists():
        raise CheckpointError(f"{output}: exists already; choose another directory or remove it")
    heads = read_heads(model)
    attention = read_attention(model, layer, heads)
    prefix = next(iter(attention)).partition("self_attn.")[0] + "self_attn."
    gauge = make_gauge(kind, heads, prefix, seed)
    mapped = {name: values for name, (_, values) in attention.items() if gauge.changes(name)}
    changed = gauge.apply(mapped)
    found = None
    if check:
        exact = gauge.apply({name: values.float() for name, values in mapped.items()})
        found = check_logits(model, exact, changed, layer, seed)
    if found and not found.exact <= TOLERANCE * found.scale:
        raise CheckpointError(
            f"{model}: after the {kind} map of layer {layer} logits differ by {found.exact:.3g} (largest logit "
            f"{found.scale:.3g}), so that this architecture is not invariant under it; nothing was written"
        )
    done = Intervened(kind, layer, seed, heads, tuple(sorted(changed)), found)
    with _new_directory(output) as directory:
        shutil.copytree(model, directory, ignore=OTHER_WEIGHTS, copy_function=shutil.copyfile, dirs_exist_ok=True)
        for file in {file for file, _ in attention.values()}:
            _overwrite(directory / file.name, {name: t for name, t in changed.items() if attention[name][0] == file})
        write_json(directory / INTERVENTION_FILE, asdict(done) | {"model": str(model), "provenance": provenance()})
    return done
