"""Snapshots of one run (:mod:`rlscape.models.snapshot_files`) beside its base, one tensor at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from rlscape.errors import CheckpointError
from rlscape.geometry.checkpoints import stream_weights
from rlscape.models.snapshot_files import snapshot_file, step_of
from rlscape.models.weight_files import opened

OTHER_BASE = "measure a run against the base that it started from"
DAMAGED = "delete the directory and train the run again"


class TensorHistory(NamedTuple):
    """One tensor of a run over time."""

    tensor: str
    base: Tensor
    after: dict[int, Tensor]
    """Step -> the tensor of the same shape, in order of step."""


def snapshot_steps(directory: Path) -> list[int]:
    """The steps of a run's snapshots, ascending.

    Raises:
        CheckpointError: the directory is missing or empty, or something in it is not called like a snapshot.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such directory; runs of arms with snapshots write it")
    steps = []
    for file in directory.glob("[!.]*"):  # Snakemake leaves a hidden time stamp
        step = step_of(file)
        if step is None:
            raise CheckpointError(f"{file}: not called step-<step>.safetensors; expected a run's snapshots")
        steps.append(step)
    if not steps:
        raise CheckpointError(f"{directory}: no snapshots in it; {DAMAGED}")
    return sorted(steps)


def read_snapshot(base: Path, directory: Path, step: int) -> dict[str, Tensor]:
    """The model at a step in fp32, tensor by name; errors as :func:`stream_history`."""
    return {history.tensor: history.after[step] for history in stream_history(base, directory, [step])}


def stream_history(base: Path, directory: Path, steps: Sequence[int] | None = None) -> Iterator[TensorHistory]:
    """Every tensor of ``base`` by sorted name, with its snapshots in fp32; only one tensor is in memory.

    That a run started from another base shows only where names or shapes differ.

    Args:
        steps: of all snapshots if None.

    Raises:
        CheckpointError: see :func:`snapshot_steps`; or a snapshot is missing, damaged, lacks a tensor of the base, has
            it in another shape, or gives a weight that is not finite.
    """
    steps = snapshot_steps(directory) if steps is None else steps
    for name, weights in stream_weights(base):
        after = {step: _after(base, weights, name, snapshot_file(directory, step)) for step in steps}
        yield TensorHistory(name, weights, after)


def _after(base: Path, weights: Tensor, name: str, file: Path) -> Tensor:
    """The tensor of a snapshot whose base has ``weights``."""
    with opened(file, DAMAGED) as tensors:
        if name not in tensors.keys():
            raise CheckpointError(f"{file}: no {name}; {OTHER_BASE}")
        difference = tensors.get_tensor(name)
    if difference.shape != weights.shape:
        raise CheckpointError(
            f"{file}: {name} is {list(difference.shape)}, but {list(weights.shape)} in {base}; {OTHER_BASE}"
        )
    after: Tensor = weights + difference
    if not after.isfinite().all():
        raise CheckpointError(f"{file}: {name} is not finite; the run that wrote it diverged")
    return after
