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
from rlscape.models.checkpoints import speech_of
from rlscape.models.decoder import Decoder
from rlscape.models.weight_files import WEIGHTS, require
from rlscape.rl.hooks import Keeper
from rlscape.rl.trainer import RLTrainer
from rlscape.settings.run import RunSettings
from rlscape.tasks.speech import WORDS, Speech
from rlscape.training.drift import Drift, probes_of
from rlscape.training.snapshots import snapshots_of


def make_trainer(
    settings: RunSettings,
    model: Decoder,
    after_step: Callable[[int], None] | None = None,
    speech: Speech = WORDS,
    keeper: Keeper | None = None,
) -> RLTrainer:
    """A trainer whose policy is tracked and, if the run has a mask, restricted to it; arguments as the trainer's."""
    restriction = None
    if settings.mask is not None:
        from rlscape.training.masks import Restriction  # takes scipy, which takes time

        assert settings.geometry is not None
        restriction = Restriction(model, settings.mask, settings.geometry, settings.seed)
    drift = Drift(model, probes_of(settings, speech))
    return RLTrainer(settings, model, drift, restriction, keeper, after_step, speech)


class RLRun(NamedTuple):
    """What a run leaves."""

    model: Decoder
    """Adapters merged."""
    trainer: RLTrainer
    summary: dict[str, float]
    """For ``run.json``."""
    snapshots: Path | None
    """Their directory, if the run keeps them."""


def train_rl(settings: RunSettings, base: Path, scratch: Path) -> RLRun:
    """Run an RL run, from its checkpoint in ``scratch`` if there is one: another base, or device, has another."""
    require(base / WEIGHTS)
    speech = speech_of(settings.base, base)
    origin = (base / WEIGHTS).read_bytes() + str(torch.get_default_device()).encode()
    digest = hashlib.sha256(origin).hexdigest()[:12]
    keeper = snapshots_of(settings, base, scratch / f"snapshots-{digest}")
    if settings.adapter is not None:
        from rlscape.training.adapters import attach, merge

        model = attach(base, settings.adapter, settings.seed)
    else:
        model = load_decoder(base)
    trainer = make_trainer(settings, model, speech=speech, keeper=keeper)
    trainer.run(scratch / f"checkpoint-{digest}.pt")
    on_policy = np.array([row["log_ratio_mean"] for row in trainer.updates if row["staleness_max"] == 0])
    on_policy = on_policy[~np.isnan(on_policy)]
    # Mean |log rho| while generator and trainer hold equal weights: pure numerical mismatch.
    summary = {"mismatch": float(on_policy.mean()) if len(on_policy) else float("nan")}
    if trainer.freezer:
        summary["trained_share"] = trainer.freezer.share
    trained = model if settings.adapter is None else merge(model)
    return RLRun(trained, trainer, summary, keeper.directory if keeper else None)
