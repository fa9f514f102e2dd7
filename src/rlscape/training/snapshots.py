"""Snapshots of a run, written while it trains; the format is that of :mod:`rlscape.models.snapshot_files`."""

from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor

from rlscape.files import atomic
from rlscape.models.decoder import Decoder
from rlscape.models.snapshot_files import snapshot_file
from rlscape.models.weight_files import HEAD, opened, tensor_files
from rlscape.settings.run import RunSettings


class Snapshots:
    """Writes how far a policy is from its start; nothing of either stays in memory.

    Args:
        start: directory of the model that training started from, read tensor by tensor at every snapshot.
        directory: of one run's snapshots; a file that a killed run left half written is deleted.
    """

    def __init__(self, start: Path, directory: Path) -> None:
        self.start = start
        self.directory = directory
        for unfinished in directory.glob(".*.tmp"):
            unfinished.unlink()

    @torch.no_grad()
    def keep(self, model: Decoder, step: int) -> None:
        """Write the snapshot of a step, adapters merged; the same weights give the same bytes.

        Raises:
            CheckpointError: a file of the start is missing or damaged.
        """
        from safetensors.torch import save_file

        files = tensor_files(self.start)
        if model.config.tie_word_embeddings:
            files.pop(HEAD, None)  # the embedding once more
        differences: dict[str, Tensor] = {}
        for name, file in files.items():
            after = attrgetter(name)(model)  # of an adapted matrix, unlike its parameters, the merged weight
            with opened(file) as tensors:
                before = tensors.get_tensor(name).to(after)
            differences[name] = (after - before).to("cpu", torch.bfloat16)
        with atomic(snapshot_file(self.directory, step)) as temporary:
            save_file(differences, temporary)


def snapshots_of(settings: RunSettings, start: Path, directory: Path) -> Snapshots | None:
    """What keeps a run's snapshots, if it has any."""
    return Snapshots(start, directory) if settings.snapshots else None
