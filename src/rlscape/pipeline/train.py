"""Train one run, by whatever method it has.

Writes ``metrics.parquet`` (columns: :meth:`rlscape.rl.trainer.RLTrainer.evaluate`), ``updates.parquet`` (columns: its
``train_step``; of other methods :meth:`rlscape.training.trl_runs.Recorder.on_log`), ``model/`` (with adapters merged),
``snapshots/`` (where the run keeps them, see :mod:`rlscape.models.snapshot_files`) and, last, ``run.json``.
"""

import hashlib
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, assert_never

import torch

from rlscape.files import provenance, write_json, write_rows
from rlscape.kernels.library import kernels_in_use
from rlscape.models.build import save_trained
from rlscape.models.decoder import Decoder
from rlscape.pipeline.entry import on_device, run
from rlscape.settings.precision import Device
from rlscape.settings.run import RunSettings


@dataclass
class Trained:
    """What a run leaves."""

    model: torch.nn.Module
    metrics: list[dict[str, Any]]
    """A row per evaluation."""
    updates: list[dict[str, Any]]
    """A row per optimiser step."""
    snapshots: Path | None
    """Their directory."""
    extra: dict[str, float]
    """For ``run.json``."""
    kernels: str
    """What the engine computed with, see :func:`rlscape.kernels.library.kernels_in_use`."""


def train_with_rl(settings: RunSettings, base: Path, scratch: Path) -> Trained:
    """Run (or resume) an RL run."""
    from rlscape.training.rl import train_rl

    done = train_rl(settings, base, scratch)
    trainer = done.trainer
    return Trained(done.model, trainer.metrics, trainer.updates, done.snapshots, done.summary, trainer.kernels)


def train_with_trl(train: Any, settings: RunSettings, base: Path, scratch: Path, device: Device) -> Trained:
    """Run an SFT, DPO or SimPO run from its start; ``trl`` places its own tensors, the evaluator's need telling.

    Args:
        train: :func:`rlscape.training.sft.train_sft` or another of its kind.
    """
    from rlscape.models.checkpoints import speech_of
    from rlscape.rl.evaluate import Evaluator, by_prefix
    from rlscape.tasks.sets import make_task_sets

    with on_device(device):
        speech = speech_of(settings.base, base)
        evaluator = Evaluator(
            by_prefix(make_task_sets(settings.tasks, speech)),
            settings.evaluation,
            settings.rl,
            temperature=1.0,
            marks=speech.marks,
        )
    tuning = settings.sft or settings.preference

    def evaluate(model: Decoder, step: int) -> dict:
        last = tuning is not None and step == tuning.steps
        with on_device(device):
            return evaluator.evaluate(
                model,
                seed=(settings.seed, 2, step),
                factor=settings.evaluation.final_factor if last else 1,
            )

    done = train(settings, base, scratch, evaluate, device)
    identity = {"run": settings.run, "arm": settings.arm, "seed": settings.seed}
    metrics = [identity | row for row in done.metrics]
    # What is trained on is sampled, and what drifts measured, on the CPU.
    return Trained(done.model, metrics, done.updates, done.snapshots, {}, kernels_in_use("cpu"))


def train_by_method(
    settings: RunSettings, base: Path, scratch: Path, device: Device, teacher: Path | None = None
) -> Trained:
    """Train by the run's method; what the others import is none of this run's business."""
    match settings.method:
        case "rl":
            with on_device(device):
                return train_with_rl(settings, base, scratch)
        case "sft":
            from rlscape.training.sft import train_sft

            return train_with_trl(partial(train_sft, teacher=teacher), settings, base, scratch, device)
        case "dpo" | "simpo":
            from rlscape.training.preference import train_preference

            return train_with_trl(train_preference, settings, base, scratch, device)
        case _:
            assert_never(settings.method)


def train(
    settings: RunSettings,
    base: Path,
    claims: Path,
    scratch: Path,
    output: Path,
    device: Device = "cpu",
    teacher: Path | None = None,
) -> None:
    """Write the run's directory.

    Args:
        base: directory of the model that the run starts from.
        claims: the claims file, whose hash is recorded.
        scratch: directory for resumable checkpoints, and for snapshots until the run is done.
        teacher: directory of the model that samples what SFT trains on, if it is another one.
    """
    # Read before the run: what the criteria and the code were when it started.
    origin = {
        "claims_sha256": hashlib.sha256(claims.read_bytes()).hexdigest(),
        "provenance": provenance(),
    }
    started = time.monotonic()
    trained = train_by_method(settings, base, scratch, device, teacher)
    save_trained(trained.model, base, output / "model")
    write_rows(output / "updates.parquet", trained.updates)
    write_rows(output / "metrics.parquet", trained.metrics)
    record = {
        "run": settings.run,
        "arm": settings.arm,
        "seed": settings.seed,
        "method": settings.method,
        "kernels": trained.kernels,
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "wall_seconds": time.monotonic() - started,
        "settings": settings.model_dump(mode="json"),
    }
    if (output / "snapshots").exists():
        shutil.rmtree(output / "snapshots")
    # Before its snapshots move, so that a run that is killed here does not go on without them.
    for checkpoint in scratch.glob("checkpoint*.pt"):
        checkpoint.unlink()
    if trained.snapshots:
        shutil.move(trained.snapshots, output / "snapshots")
    for of_another_base in scratch.glob("snapshots*"):
        shutil.rmtree(of_another_base)
    write_json(output / "run.json", record | origin | trained.extra)


if __name__ == "__main__":
    run(train)
