"""Snapshots of one run beside its base, one tensor at a time.

A run's ``snapshots.safetensors`` has fp32 tensors named ``<step>/<tensor>`` for every evaluation after step 0.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rlscape.errors import CheckpointError
from rlscape.geometry.checkpoints import stream_pair

REMEDY = "measure a run against the base that it started from"


class TensorHistory(NamedTuple):
    """One tensor of a run over time."""

    tensor: str
    base: Tensor
    after: dict[int, Tensor]
    """Step -> the tensor of the same shape, in order of step."""


def snapshot_steps(file: Path) -> list[int]:
    """The steps of a snapshot file, ascending.

    Raises:
        CheckpointError: the file is missing, damaged or empty, or its tensors are not named by step.
    """
    if not file.exists():
        raise CheckpointError(f"{file}: no such file; runs of arms with snapshots write it")
    try:
        with safe_open(file, framework="pt") as tensors:
            prefixes = {name.partition("/")[0] for name in tensors.keys()}
    except SafetensorError as error:
        raise CheckpointError(f"{file}: truncated or damaged ({error}); delete it and train the run again") from None
    if not prefixes or not all(prefix.isdecimal() for prefix in prefixes):
        raise CheckpointError(f"{file}: no tensors called <step>/<tensor>; expected a run's snapshots")
    return sorted(map(int, prefixes))


def read_snapshot(file: Path, step: int) -> dict[str, Tensor]:
    """The model at one of a file's steps, tensor by name."""
    prefix = f"{step}/"
    with safe_open(file, framework="pt") as tensors:
        return {
            name.removeprefix(prefix): tensors.get_tensor(name) for name in tensors.keys() if name.startswith(prefix)
        }


def stream_history(base: Path, file: Path) -> Iterator[TensorHistory]:
    """Every tensor of ``base`` by sorted name, with all its snapshots; only one tensor is in memory.

    Raises:
        CheckpointError: see :func:`snapshot_steps`; or a snapshot lacks a tensor of the base, has it in another
            shape, or has a weight that is not finite.
    """
    steps = snapshot_steps(file)
    with safe_open(file, framework="pt") as tensors:
        saved = set(tensors.keys())
        for name, weights, _ in stream_pair(base, base):
            after = {}
            for step in steps:
                if f"{step}/{name}" not in saved:
                    raise CheckpointError(
                        f"{file}: no {step}/{name}; measure a run against the base that it started from"
                    )
                after[step] = tensors.get_tensor(f"{step}/{name}")
                if after[step].shape != weights.shape:
                    raise CheckpointError(
                        f"{file}: {step}/{name} is {list(after[step].shape)}, but {list(weights.shape)} in {base}; "
                        f"{REMEDY}"
                    )
                if not after[step].isfinite().all():
                    raise CheckpointError(f"{file}: {step}/{name} is not finite; the run that wrote it diverged")
            yield TensorHistory(name, weights, after)
