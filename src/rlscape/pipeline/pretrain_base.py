"""Make a base model."""

from pathlib import Path

from rlscape.pipeline.entry import on_device, run
from rlscape.settings.base_model import BaseSettings
from rlscape.settings.precision import Device
from rlscape.tasks.registry import Tasks
from rlscape.training.pretrain import pretrain


def pretrain_base(name: str, settings: BaseSettings, tasks: Tasks, output: Path, device: Device = "cpu") -> None:
    """Write a model directory with ``base.json``; ``tasks`` are those of the base's mix."""
    with on_device(device):
        pretrain(settings, tasks, output, name)


if __name__ == "__main__":
    run(pretrain_base)
