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
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rlscape.errors import CheckpointError
from rlscape.files import provenance, write_json
from rlscape.models.interventions import INTERVENTION_FILE, Gauge, random_permutation, random_rotation
from rlscape.tools.weights.checkpoints import ADAPTER_CONFIG, HUB_FILES, local_directory, open_checkpoint
from rlscape.tools.weights.tensors import Checkpoint, StoredTensor

Kind = Literal["rotate", "permute"]
TOLERANCE = 1e-3
"""Of the exact map, in shares of the largest logit: fp32 sums in another order stay a hundred times below."""
CHECKED_SEQUENCES, CHECKED_TOKENS = 4, 64
SHARED_BY_HEADS = ("q_norm", "k_norm")
"""Gains that every head has in common, if their length is that of one head."""
FURTHER_FILES = ("*.json", "*.model", "*.txt", "*.jinja")
"""What a copy of a model on the Hub needs besides its weights: tokenizer and settings."""
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


def read_attention(model: Checkpoint, layer: int, heads: Heads) -> dict[StoredTensor, Tensor]:
    """Weights and biases of a layer's four projections.

    Raises:
        CheckpointError: the layer does not exist, or its attention has parts that these maps do not cover.
    """
    if not 0 <= layer < heads.layers:
        raise CheckpointError(f"{model.name}: there is no layer {layer}; choose one from 0 to {heads.layers - 1}")
    pattern = re.compile(rf"(.*\.)?layers\.{layer}\.self_attn\.(\w+)\.?(\w*)")
    rows = {"q_proj": heads.heads, "k_proj": heads.kv_heads, "v_proj": heads.kv_heads, "o_proj": heads.heads}
    attention: dict[StoredTensor, Tensor] = {}
    prefixes, weights = set(), set()
    for tensor in model.tensors.values():
        assert isinstance(tensor, StoredTensor)
        if not (found := pattern.fullmatch(tensor.key)):
            continue
        prefix, module, part = found.groups()
        if module in SHARED_BY_HEADS and tensor.shape == (heads.head_dim,):
            continue
        if module not in rows or part not in ("weight", "bias"):
            raise CheckpointError(
                f"{tensor.file}: {tensor.key} {list(tensor.shape)} depends on the heads in a way that is not covered; "
                f"only {', '.join(rows)} and gains that heads share are"
            )
        whole = module == "o_proj" and part == "bias"
        side = tensor.shape[1 if module == "o_proj" and part == "weight" else 0]
        if not whole and side != rows[module] * heads.head_dim:
            raise CheckpointError(
                f"{tensor.file}: {tensor.key} is {list(tensor.shape)}, which {rows[module]} heads of {heads.head_dim} "
                "do not explain; such attention is not covered"
            )
        if not tensor.dtype.is_floating_point or tensor.dtype.itemsize < 2:
            raise CheckpointError(
                f"{tensor.file}: {tensor.key} is stored as {tensor.dtype}; take the unquantised model"
            )
        attention[tensor] = tensor.read()
        prefixes.add(prefix)
        weights |= {module} if part == "weight" else set()
    if missing := [module for module in rows if module not in weights]:
        raise CheckpointError(
            f"{model.name}: layer {layer} has no self_attn.{missing[0]}.weight; these maps need attention with "
            f"separate {', '.join(rows)}"
        )
    if len(prefixes) > 1:
        raise CheckpointError(
            f"{model.name}: {len(prefixes)} layers are called {layer}, in {', '.join(sorted(map(str, prefixes)))}; "
            "save the language model alone"
        )
    return attention


def make_gauge(kind: Kind, heads: Heads, prefix: str, seed: int) -> Gauge:
    """The map of one layer, whose modules are called ``<prefix>q_proj`` and so on.

    Raises:
        ConfigError: ``permute`` with a single KV head.
    """
    generator = torch.Generator().manual_seed(seed)
    repeats = heads.heads // heads.kv_heads
    draw = random_rotation if kind == "rotate" else random_permutation
    maps = draw(heads.kv_heads, repeats, heads.head_dim, generator)
    return Gauge({}, {prefix + projection: matrix for projection, matrix in maps.items()})


def _overwrite(file: Path, tensors: Mapping[StoredTensor, Tensor]) -> None:
    """Replace the values of tensors in (a copy of) their file, whose other bytes stay."""
    with file.open("r+b") as stream:
        for tensor, values in tensors.items():
            stream.seek(tensor.offset)
            stream.write(values.contiguous().flatten().view(torch.uint8).numpy().tobytes())


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


def intervene(model: str, kind: Kind, layer: int, output: Path, seed: int = 0, check: bool = True) -> Intervened:
    """Write a copy of a model with one attention layer rotated or permuted.

    ``rotate``: the value channels of every KV head by a random rotation, undone in the output projection.
    ``permute``: the heads, in groups that share a key and value head, so that no group keeps its place.

    Args:
        model: directory of safetensors and ``config.json``, or its id on the Hub.
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
    directory = local_directory(model, files=(*HUB_FILES, *FURTHER_FILES))
    if (directory / ADAPTER_CONFIG).exists():
        raise CheckpointError(f"{directory}: an adapter; merge it with peft and save the whole model")
    heads = read_heads(directory)
    attention = read_attention(open_checkpoint(str(directory)), layer, heads)
    prefix = next(iter(attention)).key.partition("self_attn.")[0] + "self_attn."
    gauge = make_gauge(kind, heads, prefix, seed)
    mapped = {tensor.key: values for tensor, values in attention.items() if gauge.changes(tensor.key)}
    changed = gauge.apply(mapped)
    found = None
    if check:
        exact = gauge.apply({name: values.float() for name, values in mapped.items()})
        found = check_logits(directory, exact, changed, layer, seed)
        if not found.exact <= TOLERANCE * found.scale:
            raise CheckpointError(
                f"{model}: after the {kind} map of layer {layer} logits differ by {found.exact:.3g} (largest logit "
                f"{found.scale:.3g}), so that this architecture is not invariant under it; nothing was written"
            )
    done = Intervened(kind, layer, seed, heads, tuple(sorted(changed)), found)
    with _new_directory(output) as made:
        shutil.copytree(directory, made, ignore=OTHER_WEIGHTS, copy_function=shutil.copyfile, dirs_exist_ok=True)
        for file in {tensor.file for tensor in attention}:
            of_file = {
                tensor: changed[tensor.key] for tensor in attention if tensor.file == file and tensor.key in changed
            }
            _overwrite(made / file.name, of_file)
        write_json(made / INTERVENTION_FILE, asdict(done) | {"model": model, "provenance": provenance()})
    return done
