"""Two checkpoints of one model, read side by side, one tensor at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from rlscape.errors import CheckpointError
from rlscape.files import read_json
from rlscape.models.tensor_names import MODULES, identify
from rlscape.models.weight_files import HEAD, opened, tensor_files


def _tensor_files(directory: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it; of a tied head and its embedding, the embedding."""
    names, config = tensor_files(directory), directory / "config.json"
    if HEAD in names and config.exists() and read_json(config).get("tie_word_embeddings"):
        del names[HEAD]
    return names


def _read(file: Path, tensor: str) -> Tensor:
    with opened(file) as tensors:
        values: Tensor = tensors.get_tensor(tensor).float()
    if not values.isfinite().all():
        raise CheckpointError(f"{file}: {tensor} is not finite; the run that wrote it diverged")
    return values


def measured_matrices(directory: Path, stride: int = 1) -> dict[str, dict[str, Any]]:
    """Name of every weight matrix inside the blocks -> :func:`rlscape.models.tensor_names.identify`, by sorted name.

    Args:
        stride: only of every so many-th block, from the first on.

    Raises:
        CheckpointError: a file is missing or truncated, or no matrix inside a block has a known name.
    """
    if found := measured_among(_tensor_files(directory), stride):
        return found
    raise CheckpointError(
        f"{directory}: no matrix in a block is called {', '.join(MODULES.values())}; expected a causal language model"
    )


def measured_among(names: Iterable[str], stride: int = 1) -> dict[str, dict[str, Any]]:
    """:func:`measured_matrices` of a model with tensors of these names."""
    found = {name: identify(name) for name in sorted(names) if is_linear(name)}
    return {name: identity for name, identity in found.items() if identity["layer"] % stride == 0}


def is_linear(tensor: str) -> bool:
    """Whether a tensor is a weight matrix inside the blocks, by its name."""
    identity = identify(tensor)
    return identity["kind"] is not None and identity["layer"] is not None


def stream_weights(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield ``(name, tensor)`` by sorted name, in fp32; only one is in memory. Errors as :func:`stream_pair`."""
    for name, file in sorted(_tensor_files(directory).items()):
        yield name, _read(file, name)


def stream_pair(base: Path, tuned: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield ``(name, base tensor, tuned tensor)`` by sorted name, in fp32; only one pair is in memory.

    Raises:
        CheckpointError: a directory or file is missing or truncated, the two do not hold the same tensors
            with the same shapes, or a weight is not finite.
    """
    base_files, tuned_files = _tensor_files(base), _tensor_files(tuned)
    if unpaired := sorted(base_files.keys() ^ tuned_files.keys()):
        shown = ", ".join(unpaired[:3]) + (", ..." if len(unpaired) > 3 else "")
        raise CheckpointError(
            f"{base} and {tuned}: {len(unpaired)} tensors are in only one of them ({shown}); "
            "measure a model against the base that it started from"
        )
    for name in sorted(base_files):
        before, after = _read(base_files[name], name), _read(tuned_files[name], name)
        if before.shape != after.shape:
            raise CheckpointError(
                f"{tuned_files[name]}: {name} is {list(after.shape)}, but {list(before.shape)} in "
                f"{base_files[name]}; measure a model against the base that it started from"
            )
        yield name, before, after
