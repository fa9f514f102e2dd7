"""What the runs that ``trl`` trains have in common: the optimiser, the model's own samples, and what is recorded.

P2 (arXiv 2511.08567) compares weights after RL with weights after other training. The optimiser's settings, all but
the learning rate, are therefore those of the RL runs, and so is the forward pass (:mod:`rlscape.training.packed`);
master weights are fp32 and nothing is rounded in training.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

from torch import Tensor
from transformers import PrinterCallback, TrainerCallback

from rlscape.errors import ConfigError
from rlscape.models.build import as_decoder
from rlscape.models.decoder import Decoder
from rlscape.rl.evaluate import evaluation_steps
from rlscape.rl.rollout import Budget, Generator, Group
from rlscape.rl.seeds import random_source
from rlscape.settings.precision import Device
from rlscape.settings.run import RunSettings
from rlscape.settings.training import PreferenceSettings, SFTSettings
from rlscape.tasks.base import Problem
from rlscape.tasks.speech import WORDS, Speech
from rlscape.training.drift import Drift, probes_of
from rlscape.training.packed import compute_packed
from rlscape.training.snapshots import Snapshots

logger = logging.getLogger(__name__)

Model = Any
"""Of ``transformers``."""
Row = dict[str, Any]
Evaluate = Callable[[Decoder, int], Row]
"""Maps the model and the step to the pass rates of a row of metrics."""

IGNORED = -100
"""Label of tokens outside the loss (a convention of ``transformers``)."""
SLOTS = 512
"""Most sequences that are sampled at once."""


@dataclass
class TrlRun:
    """What a run leaves."""

    model: Model
    """Trained, fp32."""
    metrics: list[Row] = field(default_factory=list)
    """A row per evaluation, with the columns of :meth:`rlscape.rl.trainer.RLTrainer.evaluate` but for the run's
    identity. ``compute`` is ``flops`` over the rate of one accelerator; ``flops`` are 6N per completion token, 2N where
    it is sampled or read by a reference model."""
    updates: list[Row] = field(default_factory=list)
    """A row per optimiser step, see :meth:`Recorder.on_log`."""
    snapshots: Path | None = None
    """Directory of those of the evaluations after the first, if the run keeps them."""


def own_samples(
    settings: RunSettings, model: Decoder, problems: Sequence[Problem], samples: int, speech: Speech = WORDS
) -> list[Group]:
    """What the model itself answers, as RL's engine samples it: ``samples`` completions of every problem, in order."""
    slots = samples * min(len(problems), max(1, SLOTS // samples))
    generator = Generator(
        model,
        problems,
        slots,
        Budget.of(settings.rl, interrupted=False, marks=speech.marks),
        head="fp32",
        temperature=1.0,
        random=random_source(settings, stream=3),
        precision=settings.rl.generator_precision,
        marks=speech.marks,
    )
    # Problems of similar length run together: their rows then end together.
    waiting = sorted(range(len(problems)), key=lambda index: len(problems[index].prompt_ids))
    groups: dict[int, Group] = {}
    while waiting or generator.active:
        room = generator.free // samples
        if waiting and room >= min(len(waiting), slots // samples / 8):  # prefill pays in batches
            admitted = [waiting.pop() for _ in range(min(room, len(waiting)))]
            groups |= {group.prompt: group for group in generator.admit(admitted, samples)}
        else:
            generator.step()
    return [groups[index] for index in range(len(problems))]


def tokens_of(groups: Sequence[Group]) -> int:
    """Sampled tokens."""
    return sum(len(completion.ids) for group in groups for completion in group.completions)


def trainer_arguments(
    settings: RunSettings,
    tuning: SFTSettings | PreferenceSettings,
    batch: int,
    output: Path,
    device: Device,
    passes: int = 1,
) -> dict[str, Any]:
    """Arguments for any of ``trl``'s configurations: a constant rate after warm-up, no files, no bf16.

    Args:
        batch: rows per step.
        passes: parts of equal size in which a step's gradient is computed.
    """
    rl = settings.rl
    return {
        "output_dir": str(output),
        "max_steps": tuning.steps,
        "per_device_train_batch_size": batch // passes,
        "gradient_accumulation_steps": passes,
        "learning_rate": tuning.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": tuning.warmup_steps,
        "adam_beta1": rl.adam_betas[0],
        "adam_beta2": rl.adam_betas[1],
        "adam_epsilon": rl.adam_epsilon,
        "max_grad_norm": rl.max_gradient_norm,
        **_optimizer_arguments(settings),
        "bf16": False,
        "activation_checkpointing": False,
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": False,
        "seed": settings.seed,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": not sys.stderr.isatty(),
    }


def _optimizer_arguments(settings: RunSettings) -> dict[str, Any]:
    """As :mod:`rlscape.rl.optimizer` has them: plain gradient descent is without momentum and decay.

    Raises:
        ConfigError: ``trl`` has no such optimiser.
    """
    match settings.optimizer:
        case "adamw":
            return {"optim": "adamw_torch_fused", "weight_decay": settings.rl.weight_decay}
        case "sgd":
            return {"optim": "sgd", "weight_decay": 0.0}
        case "adamw_on_noise":
            raise ConfigError(f"{settings.run}: optimizer: {settings.optimizer} is for reinforcement learning only")
        case _:
            assert_never(settings.optimizer)


class Recorder(TrainerCallback):
    """Fills a :class:`TrlRun` while a trainer trains ``model``.

    Args:
        tokens_generated: sampled before training.
        flops_per_token: over the model's active parameters, for every token that is trained on.
        speech: of the model.
        keeper: writes the run's snapshots, if it keeps them.
    """

    def __init__(
        self,
        settings: RunSettings,
        model: Model,
        steps: int,
        evaluate: Evaluate,
        tokens_generated: int = 0,
        flops_per_token: int = 6,
        speech: Speech = WORDS,
        keeper: Snapshots | None = None,
    ) -> None:
        self.settings = settings
        self.run = TrlRun(model, snapshots=keeper.directory if keeper else None)
        self.keeper = keeper
        self.evaluate = evaluate
        self.evaluation_steps = evaluation_steps(settings.evaluation, steps)
        self.tokens_generated = tokens_generated
        self.tokens_trained = 0
        self.latest_tokens = 0
        """Completion tokens of the current step."""
        self.flops_per_token = flops_per_token
        self.decoder = as_decoder(model, shared=True)
        self.active_parameters = self.decoder.active_parameters
        self.drift = Drift(self.decoder, probes_of(settings, speech))
        self.distances: dict[str, float] = {}
        self.started = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._evaluate(0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.latest_tokens = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.tokens_trained += self.latest_tokens
        step = state.global_step
        if self.drift.probes or step in self.evaluation_steps:
            self.distances = self.drift.measure(self.decoder)
            if step in self.evaluation_steps:
                self._evaluate(step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """After each step, append a row to ``updates``, the future ``updates.parquet``.

        - ``step``: optimiser steps so far;
        - ``tokens_trained``: completion tokens of the batch;
        - ``loss``: as ``trl`` reports it;
        - ``gradient_norm``: before it is clipped;
        - ``kl_from_start``, ``kl_to_start``, ``kl_step``: nats per token (:mod:`rlscape.training.drift`), if tracked.
        """
        if logs and "loss" in logs:  # not the summary at the end
            row = {"step": state.global_step, "tokens_trained": self.latest_tokens}
            measured = {"loss": logs["loss"], "gradient_norm": logs["grad_norm"]}
            self.run.updates.append(row | measured | self.distances)

    def _evaluate(self, step: int) -> None:
        decoder = self.decoder
        flops = self.active_parameters * (2 * self.tokens_generated + self.flops_per_token * self.tokens_trained)
        position = {
            "step": step,
            "compute": flops / self.settings.rl.accelerator_flops,
            "flops": float(flops),
            "tokens_generated": self.tokens_generated,
            "tokens_trained": self.tokens_trained,
            "wall_seconds": time.monotonic() - self.started,
        }
        if self.keeper is not None and step:
            self.keeper.keep(decoder, step)
        self.run.metrics.append(position | self.evaluate(decoder, step) | self.drift.size(decoder))
        logger.info("step %d/%d: %s", step, self.evaluation_steps[-1], self.run.metrics[-1])


class Counted:
    """Of a trainer: tells its recorder how many completion tokens a step trains on. Comes before ``trl``'s class."""

    recorder: Recorder

    def training_step(self, model: Model, inputs: dict[str, Any], *arguments: Any) -> Tensor:
        self.recorder.latest_tokens += sum(
            int((values != IGNORED).sum()) if name.endswith("labels") else int(values.sum())
            for name, values in inputs.items()
            if name.endswith(("labels", "completion_mask"))
        )
        return super().training_step(model, inputs, *arguments)  # type: ignore[misc]


def train(trainer: Any, recorder: Recorder) -> TrlRun:
    """Train to the end, recorded. The trainer's models compute without padding."""
    for model in (trainer.model, getattr(trainer, "ref_model", None)):
        if model is not None:
            compute_packed(model)
    trainer.recorder = recorder
    trainer.add_callback(recorder)
    trainer.remove_callback(PrinterCallback)  # a line per step would hide the log
    trainer.train()
    return recorder.run
