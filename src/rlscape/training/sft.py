"""Supervised fine-tuning on traces of the training problems: a thin user of ``trl``'s SFTTrainer.

P2 (arXiv 2511.08567) compares weights after RL with weights after SFT. The base model, the problems and
every setting of the optimiser but the learning rate are therefore those of the RL runs, the loss covers the
completion only, and the master weights stay in fp32.

Its settings ask what RL's geometry comes from (Paper: no such runs. Here: controls):

- ``data: self`` trains on correct completions that the model sampled itself before training, as many as there are
  reference traces: the targets of rejection sampling, with all else as in SFT;
- ``data: likeliest`` trains on one of these per problem, the one of least divergence from the model;
- a teacher samples them in place of the model: that of RL says what RL's data do without RL's loss;
- ``noise`` multiplies each sequence's loss by 1 + noise z with z standard normal, drawn anew at every step: weights
  as noisy as advantages, of mean one, on the same targets.
"""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, assert_never

import torch
from datasets import Dataset
from torch import Tensor
from trl import SFTConfig, SFTTrainer

from rlscape.errors import CheckpointError
from rlscape.models.build import load_decoder, load_model
from rlscape.models.checkpoints import speech_of
from rlscape.rl.rollout import Group
from rlscape.rl.seeds import random_source
from rlscape.settings.precision import Device
from rlscape.settings.run import RunSettings
from rlscape.tasks.base import Problem
from rlscape.tasks.sets import make_task_sets, training_problems
from rlscape.tasks.speech import Speech
from rlscape.training.snapshots import snapshots_of
from rlscape.training.trl_runs import (
    IGNORED,
    Counted,
    Evaluate,
    Model,
    Recorder,
    TrlRun,
    own_samples,
    tokens_of,
    train,
    trainer_arguments,
)

Trace = tuple[list[int], list[int]]
"""Prompt ids and completion ids."""


def reference_traces(problems: Sequence[Problem]) -> list[Trace]:
    """One per problem."""
    return [(problem.prompt_ids, problem.reference_ids) for problem in problems]


def own_traces(problems: Sequence[Problem], groups: Sequence[Group]) -> list[Trace]:
    """At most as many correct completions as there are problems: the first of every problem, the second, and so on.

    Args:
        groups: completions of every problem.
    """
    correct = [
        [(problem.prompt_ids, completion.ids.tolist()) for completion in group.completions if completion.correct]
        for problem, group in zip(problems, groups, strict=True)
    ]
    rounds = zip_longest(*correct)
    return [trace for traces in rounds for trace in traces if trace is not None][: len(problems)]


def likeliest_traces(problems: Sequence[Problem], groups: Sequence[Group]) -> list[Trace]:
    """Of every problem with a correct completion the one that was sampled with the highest probability."""
    traces = []
    for problem, group in zip(problems, groups, strict=True):
        correct = [completion for completion in group.completions if completion.correct]
        if correct:
            best = max(correct, key=lambda completion: float(completion.log_probs.sum()))
            traces.append((problem.prompt_ids, best.ids.tolist()))
    return traces


def tokenized(traces: Iterable[Trace]) -> Dataset:
    """A row per trace: ``input_ids`` (prompt and completion) and ``labels`` (the completion only)."""
    traces = list(traces)
    return Dataset.from_dict(
        {
            "input_ids": [[*prompt, *completion] for prompt, completion in traces],
            "labels": [[IGNORED] * len(prompt) + completion for prompt, completion in traces],
        }
    )


class _Trainer(Counted, SFTTrainer):
    """Weights sequences at random if ``noise`` is not zero."""

    noise: float
    random: torch.Generator

    def compute_loss(
        self, model: Model, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not self.noise:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        log_probs: Tensor = model(**inputs, use_cache=False, fused_lm_head=True).log_probs  # (B, L - 1)
        draws = torch.randn(len(log_probs), 1, generator=self.random).to(log_probs.device)
        return -((1 + self.noise * draws) * log_probs).sum() / num_items_in_batch


def train_sft(
    settings: RunSettings,
    base: Path,
    output: Path,
    evaluate: Evaluate,
    device: Device = "cpu",
    teacher: Path | None = None,
) -> TrlRun:
    """Fine-tune a model; the same settings give the same weights, bit for bit.

    Args:
        settings: of a run with method ``sft``; its seed orders the data.
        base: directory of the model that is trained.
        output: directory for the trainer's own files and the snapshots; no checkpoints are written.
        evaluate: gives the pass rates of a row of metrics.
        device: where the model is trained.
        teacher: directory of the model that samples, if it is not the one that is trained.

    Raises:
        CheckpointError: the data are samples, and none is correct.
    """
    sft = settings.sft
    if sft is None:
        raise ValueError(f"run {settings.run} has no SFT settings: its method is {settings.method}")
    speech = speech_of(settings.base, base)
    problems = training_problems(make_task_sets(settings.tasks, speech), settings.part)
    sampler = teacher or base

    def sampled() -> list[Group]:
        return own_samples(settings, load_decoder(sampler), problems, sft.samples_per_prompt, speech)

    groups: list[Group] = []
    match sft.data:
        case "reference":
            traces = reference_traces(problems)
        case "self":
            groups = sampled()
            traces = own_traces(problems, groups)
        case "likeliest":
            groups = sampled()
            traces = likeliest_traces(problems, groups)
        case _:
            assert_never(sft.data)
    if not traces:
        raise CheckpointError(
            f"{sampler}: no sample is correct; `data: {sft.data}` needs a model that solves some problems"
        )
    return train_on_traces(settings, traces, base, speech, output, evaluate, device, tokens_of(groups))


def train_on_traces(
    settings: RunSettings,
    traces: Iterable[Trace],
    base: Path,
    speech: Speech,
    output: Path,
    evaluate: Evaluate,
    device: Device = "cpu",
    tokens_generated: int = 0,
) -> TrlRun:
    """:func:`train_sft` on given traces, for which so many tokens were sampled."""
    sft = settings.sft
    assert sft is not None
    arguments = SFTConfig(
        **trainer_arguments(settings, sft, sft.sequences_per_step, output, device, sft.passes),
        dataset_kwargs={"skip_prepare_dataset": True},  # tokenised and labelled already
        router_aux_loss_coef=0.0,  # experts are not balanced, as in pretraining and RL
    )
    model = load_model(base)
    trainer = _Trainer(model, args=arguments, train_dataset=tokenized(traces), processing_class=speech.tokenizer)
    trainer.noise, trainer.random = sft.noise, random_source(settings, stream=4)
    keeper = snapshots_of(settings, base, output / "snapshots")
    return train(
        trainer, Recorder(settings, model, sft.steps, evaluate, tokens_generated, speech=speech, keeper=keeper)
    )
