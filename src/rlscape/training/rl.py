"""Reinforcement learning as a run's settings have it: with an adapter or a mask, and measured on the way.

The engine is :mod:`rlscape.rl`.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rlscape.models.build import load_decoder
from rlscape.models.decoder import Decoder
from rlscape.rl.trainer import RLTrainer
from rlscape.settings.run import RunSettings
from rlscape.training.drift import Drift, probes_of


def make_trainer(settings: RunSettings, model: Decoder, after_step: Callable[[int], None] | None = None) -> RLTrainer:
    """A trainer whose policy is tracked and, if the run has a mask, restricted to it; arguments as the trainer's."""
    restriction = None
    if settings.mask is not None:
        from rlscape.training.masks import Restriction  # takes scipy, which takes time

        assert settings.geometry is not None
        restriction = Restriction(model, settings.mask, settings.geometry, settings.seed)
    return RLTrainer(settings, model, Drift(model, probes_of(settings)), restriction, after_step)


class RLRun(NamedTuple):
    """What a run leaves."""

    model: Decoder
    """Adapters merged."""
    trainer: RLTrainer
    summary: dict[str, float]
    """For ``run.json``."""


def train_rl(settings: RunSettings, base: Path, scratch: Path) -> RLRun:
    """Run an RL run, from its checkpoint in ``scratch`` if there is one: another base, or device, has another."""
    if settings.adapter is not None:
        from rlscape.training.adapters import attach, merge

        trainer = make_trainer(settings, attach(base, settings.adapter, settings.seed))
    else:
        trainer = make_trainer(settings, load_decoder(base))
    origin = (base / "model.safetensors").read_bytes() + str(torch.get_default_device()).encode()
    checkpoint = scratch / f"checkpoint-{hashlib.sha256(origin).hexdigest()[:12]}.pt"
    trainer.run(checkpoint)
    on_policy = np.array([row["log_ratio_mean"] for row in trainer.updates if row["staleness_max"] == 0])
    on_policy = on_policy[~np.isnan(on_policy)]
    # Mean |log rho| while generator and trainer hold equal weights: pure numerical mismatch.
    summary = {"mismatch": float(on_policy.mean()) if len(on_policy) else float("nan")}
    if trainer.freezer:
        summary["trained_share"] = trainer.freezer.share
    return RLRun(trainer.model if settings.adapter is None else merge(trainer.model), trainer, summary)
