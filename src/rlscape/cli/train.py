"""Train one run: ``python -m rlscape.cli.train --settings JSON --base DIR ...``.

Writes ``metrics.parquet`` (columns: :meth:`rlscape.rl.trainer.RLTrainer.evaluate`), ``updates.parquet`` (columns: its
``train_step``; of other methods :meth:`rlscape.trl_runs.Recorder.on_log`), ``snapshots.safetensors`` (where the run
keeps them), ``model/`` (with adapters merged) and, last, ``run.json``.
"""

import argparse
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
from torch import Tensor

from rlscape.catalogue import RunSettings
from rlscape.cli.common import add_device, fail_clearly, on_device, parse_settings, start_logging
from rlscape.files import provenance, write_json, write_rows
from rlscape.models.build import load_decoder, save_snapshots, save_trained
from rlscape.models.decoder import Decoder
from rlscape.settings import Device


@dataclass
class Trained:
    """What a run leaves."""

    model: torch.nn.Module
    metrics: list[dict[str, Any]]
    """A row per evaluation."""
    updates: list[dict[str, Any]]
    """A row per optimiser step."""
    snapshots: dict[int, dict[str, Tensor]]
    """Step -> weights."""
    extra: dict[str, float]
    """For ``run.json``."""


def train_with_rl(settings: RunSettings, base: Path, scratch: Path) -> Trained:
    """Run (or resume) an RL run."""
    from rlscape.rl.trainer import RLTrainer

    if settings.adapter is not None:
        from rlscape.adapters import attach, merge

        trainer = RLTrainer(settings, attach(base, settings.adapter, settings.seed))
    else:
        trainer = RLTrainer(settings, load_decoder(base))
    trainer.run(scratch / "checkpoint.pt")
    on_policy = np.array([row["log_ratio_mean"] for row in trainer.updates if row["staleness_max"] == 0])
    on_policy = on_policy[~np.isnan(on_policy)]
    # Mean |log rho| while generator and trainer hold equal weights: pure numerical mismatch.
    extra = {"mismatch": float(on_policy.mean()) if len(on_policy) else float("nan")}
    if trainer.restriction:
        extra["trained_share"] = trainer.restriction.share
    model = trainer.model if settings.adapter is None else merge(trainer.model)
    return Trained(model, trainer.metrics, trainer.updates, trainer.snapshots, extra)


def train_with_trl(train: Any, settings: RunSettings, base: Path, scratch: Path, device: Device) -> Trained:
    """Run an SFT, DPO or SimPO run from its start; ``trl`` places its own tensors, the evaluator's need telling.

    Args:
        train: :func:`rlscape.sft.train_sft` or another of its kind.
    """
    from rlscape.rl.evaluate import Evaluator
    from rlscape.tasks.problems import make_task_sets

    with on_device(device):
        evaluator = Evaluator(
            load_decoder(base),
            make_task_sets(settings.math),
            settings.evaluation,
            settings.rl,
            head="fp32",
            temperature=1.0,
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

    run = train(settings, base, scratch, evaluate, device)
    identity = {"run": settings.name, "arm": settings.arm, "seed": settings.seed}
    return Trained(run.model, [identity | row for row in run.metrics], run.updates, run.snapshots, {})


def train(settings: RunSettings, base: Path, scratch: Path, device: Device) -> Trained:
    """Train by the run's method; what the others import is none of this run's business."""
    match settings.method:
        case "rl":
            with on_device(device):
                return train_with_rl(settings, base, scratch)
        case "sft":
            from rlscape.sft import train_sft

            return train_with_trl(train_sft, settings, base, scratch, device)
        case "dpo" | "simpo":
            from rlscape.preference import train_preference

            return train_with_trl(train_preference, settings, base, scratch, device)
        case _:
            assert_never(settings.method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", required=True, help="RunSettings as JSON")
    parser.add_argument("--base", required=True, type=Path, help="directory of the base model")
    parser.add_argument("--claims", required=True, type=Path, help="the claims file, whose hash is recorded")
    parser.add_argument("--scratch", required=True, type=Path, help="directory for resumable checkpoints")
    parser.add_argument("--output", required=True, type=Path, help="directory of the run")
    add_device(parser)
    arguments = parser.parse_args()

    start_logging()
    settings = parse_settings(RunSettings, arguments.settings)
    # Read before the run: what the criteria and the code were when it started.
    origin = {
        "claims_sha256": hashlib.sha256(arguments.claims.read_bytes()).hexdigest(),
        "provenance": provenance(),
    }
    started = time.monotonic()
    trained = train(settings, arguments.base, arguments.scratch, arguments.device)
    save_trained(trained.model, arguments.base, arguments.output / "model")
    if settings.snapshots:
        save_snapshots(trained.snapshots, arguments.output / "snapshots.safetensors")
    write_rows(arguments.output / "updates.parquet", trained.updates)
    write_rows(arguments.output / "metrics.parquet", trained.metrics)
    record = {
        "run": settings.name,
        "arm": settings.arm,
        "seed": settings.seed,
        "method": settings.method,
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "wall_seconds": time.monotonic() - started,
        "settings": settings.model_dump(mode="json"),
    }
    write_json(arguments.output / "run.json", record | origin | trained.extra)
    (arguments.scratch / "checkpoint.pt").unlink(missing_ok=True)


if __name__ == "__main__":
    fail_clearly(main)
