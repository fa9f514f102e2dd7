"""Preference tuning on pairs of a correct and an incorrect completion: a thin user of ``trl``'s DPO and SimPO.

Paper (arXiv 2511.08567, Figure 18): public checkpoints of Llama-3-8B-Instruct after DPO and after SimPO, on the
preferences of a reward model. Here: the verifier prefers. The base samples completions of the training problems once;
those of one prompt are paired. beta and gamma are ``trl``'s defaults, the optimiser's settings those of RL.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from datasets import Dataset
from trl import DPOConfig, DPOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

from rlscape.errors import CheckpointError
from rlscape.models.build import load_decoder, load_model
from rlscape.rl.rollout import Group
from rlscape.settings.precision import Device
from rlscape.settings.run import RunSettings
from rlscape.tasks.base import Problem
from rlscape.tasks.sets import make_task_sets, training_problems
from rlscape.tasks.vocabulary import build_tokenizer, decode
from rlscape.training.snapshots import snapshots_of
from rlscape.training.trl_runs import (
    Counted,
    Evaluate,
    Recorder,
    TrlRun,
    own_samples,
    tokens_of,
    train,
    trainer_arguments,
)


def preference_pairs(problems: Sequence[Problem], groups: Sequence[Group]) -> Dataset:
    """Rows of ``prompt``, ``chosen`` and ``rejected``, as text: the i-th correct and the i-th incorrect completion.

    Only completions that ended are used: ``trl`` would put an end to the others.

    Args:
        groups: completions of every problem.
    """
    rows = []
    for problem, group in zip(problems, groups, strict=True):
        ended = [completion for completion in group.completions if not completion.truncated]
        texts = [(completion.correct, f" {decode(completion.ids.tolist())}") for completion in ended]
        chosen = [text for correct, text in texts if correct]
        rejected = [text for correct, text in texts if not correct]
        for better, worse in zip(chosen, rejected, strict=False):
            rows.append({"prompt": problem.prompt, "chosen": better, "rejected": worse})
    return Dataset.from_list(rows)


class _DPOTrainer(Counted, DPOTrainer):
    pass


class _SimPOTrainer(Counted, CPOTrainer):
    pass


def train_preference(
    settings: RunSettings, base: Path, output: Path, evaluate: Evaluate, device: Device = "cpu"
) -> TrlRun:
    """Tune a model to its own preferred samples; the same settings give the same weights, bit for bit.

    Args:
        settings: of a run with method ``dpo`` or ``simpo``; its seed decides the samples and their order.
        base: directory of the model that is trained, samples and, in DPO, is the reference.
        output: directory for the trainer's own files and the snapshots; no checkpoints are written.
        evaluate: gives the pass rates of a row of metrics.
        device: where the model is trained.

    Raises:
        CheckpointError: the base's samples give no pair.
    """
    preference = settings.preference
    if preference is None:
        raise ValueError(f"run {settings.run} has no preference settings: its method is {settings.method}")
    problems = training_problems(make_task_sets(settings.tasks), settings.part)
    groups = own_samples(settings, load_decoder(base), problems, preference.samples_per_prompt)
    pairs = preference_pairs(problems, groups)
    if not len(pairs):
        raise CheckpointError(f"{base}: no problem has a correct and an incorrect sample; preferences need both")
    common = trainer_arguments(settings, preference, preference.pairs_per_step, output, device)
    model, tokenizer = load_model(base), build_tokenizer()
    trainer: DPOTrainer | CPOTrainer
    match settings.method:
        case "dpo":
            trainer = _DPOTrainer(
                model,
                ref_model=load_model(base),
                args=DPOConfig(**common, beta=preference.beta),
                train_dataset=pairs,
                processing_class=tokenizer,
            )
            flops_per_token = 8  # the reference model reads every token too
        case "simpo":
            trainer = _SimPOTrainer(
                model,
                args=CPOConfig(
                    **common, beta=preference.beta, loss_type="simpo", cpo_alpha=0.0, simpo_gamma=preference.simpo_gamma
                ),
                train_dataset=pairs,
                processing_class=tokenizer,
            )
            flops_per_token = 6
        case "rl" | "sft":
            raise ValueError(f"run {settings.run}: {settings.method} is no preference method")
        case _:
            assert_never(settings.method)
    keeper = snapshots_of(settings, base, output / "snapshots")
    recorder = Recorder(settings, model, preference.steps, evaluate, tokens_of(groups), flops_per_token, keeper=keeper)
    return train(trainer, recorder)
