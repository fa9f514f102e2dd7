"""Weights on disk: one safetensors file, or shards with an index, in fp32, fp16 or bf16."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlscape.errors import CheckpointError
from rlscape.files import read_json
from rlscape.models.tensor_names import listed

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
REMEDY = "delete the directory and make the model again, or download it again"
FORMATS = ("F32", "F16", "BF16")


def require(path: Path, remedy: str = REMEDY) -> None:
    """Raises CheckpointError: there is no such file, or not even its directory."""
    for there, kind in ((path.parent, "directory"), (path, "file")):
        if not there.exists():
            raise CheckpointError(f"{there}: no such {kind}; {remedy}")


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors by name, each once: of a tied head and its embedding, the embedding."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def tensor_files(directory: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it: ``model.safetensors`` if there is one, else a shard.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    weights, index = directory / WEIGHTS, directory / INDEX
    if weights.exists() or not index.exists():
        with opened(weights) as tensors:
            return dict.fromkeys(tensors.keys(), weights)
    try:
        files = {name: directory / file for name, file in read_json(index)["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: damaged, no weight_map to be read ({error!r}); {REMEDY}") from None
    for file in sorted(set(files.values())):
        promised = {name for name, other in files.items() if other == file}
        with opened(file) as tensors:
            if differing := sorted(promised ^ set(tensors.keys())):
                raise CheckpointError(f"{file}: {INDEX} does not tell what is in it: {listed(differing)}; {REMEDY}")
    return files


@torch.no_grad()
def fill(model: nn.Module, directory: Path, tied: bool) -> None:
    """Overwrite every parameter of ``model`` with the tensor of its name.

    Args:
        tied: the head is the embedding; files may have it, too.

    Raises:
        CheckpointError: a file is missing or damaged, or a tensor is missing, unknown, of another shape or in no
            format that is read.
    """
    parameters, files = dict(model.named_parameters()), tensor_files(directory)
    if missing := sorted(parameters.keys() - files.keys()):
        raise _unfit(directory / WEIGHTS, f"it lacks {listed(missing)}")
    tied_head = {HEAD} if tied else set()
    if unknown := sorted(files.keys() - parameters.keys() - tied_head):
        raise _unfit(files[unknown[0]], f"config.json knows no {listed(unknown)}")
    for file in sorted(set(files.values())):
        with opened(file) as tensors:
            for name in sorted(tensors.keys()):
                parameter = parameters[EMBEDDING if name in tied_head else name]
                stored = tensors.get_slice(name)
                if (shape := stored.get_shape()) != list(parameter.shape):
                    raise _unfit(file, f"{name} is {shape}, not {list(parameter.shape)}")
                if (kind := stored.get_dtype()) not in FORMATS:
                    raise CheckpointError(f"{file}: {name} is stored as {kind}; {', '.join(FORMATS)} are read")
                if name not in tied_head:
                    parameter.copy_(tensors.get_tensor(name))
    if tied and HEAD in files:
        with opened(files[HEAD]) as tensors:
            if not torch.equal(tensors.get_tensor(HEAD).to(parameters[EMBEDDING]), parameters[EMBEDDING]):
                raise _unfit(files[HEAD], f"{HEAD} differs from {EMBEDDING}, to which tie_word_embeddings ties it")


def _unfit(file: Path, problem: str) -> CheckpointError:
    return CheckpointError(f"{file}: does not fit config.json: {problem}; {REMEDY}")


@contextmanager
def opened(file: Path, remedy: str = REMEDY) -> Iterator[Any]:
    """Raises CheckpointError: no such file, or not all of it."""
    from safetensors import SafetensorError, safe_open

    require(file, remedy)
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        raise CheckpointError(f"{file}: truncated or damaged ({error}); {remedy}") from None
