"""Supervised fine-tuning on reference traces of the training problems: a thin user of ``trl``'s SFTTrainer.

P2 (arXiv 2511.08567) compares weights after RL with weights after SFT. The base model, the problems and
every setting of the optimiser but the learning rate are therefore those of the RL runs, the loss covers the
completion only, and the master weights stay in fp32.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from rlscape.catalogue import RunSettings
from rlscape.models.build import load_model
from rlscape.settings import Device
from rlscape.tasks.math import Problem, make_sets, trace
from rlscape.tasks.vocabulary import build_tokenizer, encode

logger = logging.getLogger(__name__)

Model = Any
Row = dict[str, Any]
Evaluate = Callable[[Model, int], Row]

IGNORED = -100
"""Label of tokens outside the loss (a convention of ``transformers``)."""


def tokenized_traces(problems: Sequence[Problem]) -> Dataset:
    """A row per problem: ``input_ids`` (prompt and reference trace) and ``labels`` (the trace only)."""
    completions = [encode(" ".join(trace(problem))) for problem in problems]
    prompts = [problem.prompt_ids for problem in problems]
    return Dataset.from_dict(
        {
            "input_ids": [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)],
            "labels": [
                [IGNORED] * len(prompt) + completion for prompt, completion in zip(prompts, completions, strict=True)
            ],
        }
    )


class _Trainer(SFTTrainer):
    """Counts the completion tokens trained on, as the RL trainer does."""

    tokens_trained = 0

    def training_step(self, model: Model, inputs: dict[str, Any], *arguments: Any) -> Any:
        self.tokens_trained += int((inputs["labels"] != IGNORED).sum())
        return super().training_step(model, inputs, *arguments)


class _Evaluations(TrainerCallback):
    """Collects a row of metrics at each evaluation step."""

    def __init__(self, settings: RunSettings, trainer: _Trainer, evaluate: Evaluate) -> None:
        self.steps = settings.evaluation.steps(trainer.args.max_steps)
        self.accelerator_flops = settings.rl.accelerator_flops
        self.trainer = trainer
        self.evaluate = evaluate
        self.rows: list[Row] = []
        self.started = time.monotonic()

    def _record(self, step: int) -> None:
        if step not in self.steps:
            return
        model: Model = self.trainer.model
        tokens = self.trainer.tokens_trained
        flops = 6 * sum(parameter.numel() for parameter in model.parameters()) * tokens
        position = {
            "step": step,
            "compute": flops / self.accelerator_flops,
            "flops": float(flops),
            "tokens_generated": 0,
            "tokens_trained": tokens,
            "wall_seconds": time.monotonic() - self.started,
        }
        self.rows.append(position | self.evaluate(model, step))
        logger.info("step %d/%d: %s", step, self.steps[-1], self.rows[-1])

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._record(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._record(state.global_step)


def train_sft(
    settings: RunSettings, base: Path, output: Path, evaluate: Evaluate, device: Device = "cpu"
) -> tuple[Model, list[Row]]:
    """Fine-tune a base model on reference traces; the same settings give the same weights, bit for bit.

    Args:
        settings: of a run with method ``sft``; its seed orders the data.
        base: directory of the base model.
        output: directory for the trainer's own files; no checkpoints are written.
        evaluate: maps the model and the step to the pass rates of a row of metrics.
        device: where the model is trained.

    Returns:
        The trained model (fp32) and a row of metrics per evaluation: what ``evaluate`` returned, with step,
        compute (virtual accelerator-seconds), flops (6N per completion token), tokens and wall-clock time.
    """
    sft, rl = settings.sft, settings.rl
    if sft is None:
        raise ValueError(f"run {settings.name} has no SFT settings: its method is {settings.method}")
    model = load_model(base)
    arguments = SFTConfig(
        output_dir=str(output),
        max_steps=sft.steps,
        per_device_train_batch_size=sft.sequences_per_step,
        learning_rate=sft.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=sft.warmup_steps,
        weight_decay=rl.weight_decay,
        adam_beta1=rl.adam_betas[0],
        adam_beta2=rl.adam_betas[1],
        adam_epsilon=rl.adam_epsilon,
        max_grad_norm=rl.max_gradient_norm,
        bf16=False,
        activation_checkpointing=False,
        use_cpu=device == "cpu",
        dataloader_pin_memory=False,
        seed=settings.seed,
        dataset_kwargs={"skip_prepare_dataset": True},  # tokenised and labelled already
        save_strategy="no",
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
    )
    trainer = _Trainer(
        model,
        args=arguments,
        train_dataset=tokenized_traces(make_sets(settings.math).training),
        processing_class=build_tokenizer(),
    )
    evaluations = _Evaluations(settings, trainer, evaluate)
    trainer.add_callback(evaluations)
    trainer.train()
    return model, evaluations.rows
