"""Make a base of a checkpoint."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rlscape.errors import CheckpointError
from rlscape.files import atomic, provenance, write_json
from rlscape.kernels.library import kernels_in_use
from rlscape.models.build import as_decoder, load_decoder, save_trained, store_as_
from rlscape.models.checkpoints import speech_of
from rlscape.models.decoder import Decoder
from rlscape.models.quantisation import dither_
from rlscape.models.weight_files import WEIGHTS, tensors_of
from rlscape.pipeline.entry import on_device, run
from rlscape.rl.evaluate import Evaluator, by_prefix
from rlscape.settings.base_model import CheckpointSettings
from rlscape.settings.precision import Device
from rlscape.settings.training import EvaluationSettings, RLSettings
from rlscape.tasks.registry import Tasks
from rlscape.tasks.sets import make_task_sets
from rlscape.training.start import train_start

DISCARDED = "discarded"
"""Below a base's directory: what rounding took from it, in bf16."""


def start_base(
    name: str,
    settings: CheckpointSettings,
    checkpoint: Path,
    tasks: Tasks,
    rl: RLSettings,
    evaluation: EvaluationSettings,
    output: Path,
    device: Device = "cpu",
) -> None:
    """Write a model directory with ``base.json``: pass rates of the checkpoint, after its start and after rounding.

    What rounding took from every weight is in ``discarded``, for :mod:`rlscape.geometry.discarded`.

    Args:
        tasks: of all runs from this base.
        rl: the generation budget and the optimiser's settings.

    Raises:
        CheckpointError: no sample of a task is correct, so that runs would have nothing to learn from.
    """
    started = time.perf_counter()
    with on_device(device):
        decoder = load_decoder(checkpoint)
    if settings.dither:
        dither_(decoder, torch.Generator().manual_seed(0))
    speech = speech_of(settings, checkpoint)
    sets = by_prefix(make_task_sets(tasks, speech))
    evaluator = Evaluator(sets, evaluation, rl, temperature=1.0, marks=speech.marks)

    def measure(model: Decoder, seed: tuple[int, ...], factor: int = 1) -> dict[str, float | int]:
        with on_device(device):
            return evaluator.evaluate(model, seed, factor)

    measured: list[dict[str, Any]] = []
    if start := settings.start:

        def evaluate(model: Decoder, step: int) -> dict[str, Any]:
            if 0 < step < start.steps:
                return {}
            return measure(model, (start.seed, 2, step), evaluation.final_factor)

        output.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{name}-"))
        try:
            save_trained(decoder, checkpoint, scratch)
            done = train_start(
                name, settings, tasks, rl, evaluation, evaluate, scratch, speech, scratch / "trainer", device
            )
        finally:
            shutil.rmtree(scratch)
        decoder.load_state_dict(as_decoder(done.model, shared=True).state_dict())
        measured = [row for row in done.metrics if "pass_rate" in row]
    exact = {name: values.clone() for name, values in tensors_of(decoder).items()}
    store_as_(decoder, settings.precision)
    rounded = measure(decoder, (0, 4))
    _check_solved(name, rounded)
    save_trained(decoder, checkpoint, output)
    with atomic(output / DISCARDED / WEIGHTS) as temporary:
        lost = {name: (exact[name] - values).bfloat16() for name, values in tensors_of(decoder).items()}
        save_file(lost, temporary)
    write_json(
        output / "base.json",
        {
            "settings": {
                "base": settings.model_dump(mode="json"),
                "tasks": {task: table.model_dump(mode="json") for task, table in tasks.items()},
            },
            "checkpoint": str(checkpoint),
            "before_rounding": measured,
            "rounded": rounded,
            "kernels": kernels_in_use(device),
            "provenance": provenance(),
            "wall_seconds": time.perf_counter() - started,
        },
    )


def _check_solved(name: str, row: dict[str, Any]) -> None:
    for key, value in row.items():
        if key.endswith("pass_rate") and "lenient" not in key and "downstream" not in key and not value:
            task = key.removesuffix("pass_rate").removesuffix("_") or "the first task"
            raise CheckpointError(
                f"bases.{name}.start: no sample of {task} is correct, so that reinforcement learning has nothing to "
                "reward; raise start.steps or start.learning_rate, or take an easier task"
            )


if __name__ == "__main__":
    run(start_base)
