"""How a run's snapshots lie on disk: a directory with a file per step, e.g. ``step-000012.safetensors``.

A file holds every tensor of the model by its name, each as the difference to that of the model that the run started
from, in bf16: half the size of fp32 weights, and off by at most 2^-8 of each entry's change.
"""

import re
from pathlib import Path


def snapshot_file(directory: Path, step: int) -> Path:
    """Where the snapshot of a step is; names sort as steps do."""
    return directory / f"step-{step:06d}.safetensors"


def step_of(file: Path) -> int | None:
    """The step of a snapshot's file, None if it is not called like one."""
    found = re.fullmatch(r"step-(\d{6,})\.safetensors", file.name)
    return int(found[1]) if found else None
