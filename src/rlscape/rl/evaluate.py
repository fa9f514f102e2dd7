"""Held-out evaluation: pass rate by sampling, with its standard error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rlscape.config import EvaluationSettings, RLSettings
from rlscape.rl.policy import Model
from rlscape.rl.recipes import HeadPrecision
from rlscape.rl.rollout import Budget, Generator, Group
from rlscape.tasks.math import Problem, ProblemSets

MAX_SLOTS = 1024


@dataclass(frozen=True)
class Evaluation:
    """Means over sampled completions."""

    pass_rate: float
    standard_error: float
    samples: int
    entropy: float
    """Mean negative log-probability of the sampled tokens, nats: an unbiased estimate of the token entropy."""
    truncation_rate: float
    """Share of completions that reached their token limit."""
    interruption_rate: float
    mean_length: float
    """Tokens."""


def standard_error(correct: np.ndarray) -> float:
    """Sampling error of the mean of ``correct`` (problems, samples) on *these* problems.

    The validation set is fixed, so its choice is no source of noise. With one sample per problem the variance
    within a problem is unknown and that of all samples bounds it.
    """
    problems, samples = correct.shape
    if samples == 1:
        return float(correct.std(ddof=1) / np.sqrt(problems)) if problems > 1 else float("nan")
    return float(np.sqrt(correct.var(axis=1, ddof=1).sum() / samples) / problems)


def evaluate(
    model: Model,
    problems: Sequence[Problem],
    samples_per_problem: int,
    rl: RLSettings,
    head: HeadPrecision,
    temperature: float,
    random: torch.Generator,
) -> Evaluation:
    """Sample every problem ``samples_per_problem`` times with the rollout engine.

    Paper: silent on how validation treats length. Here: every arm is evaluated under one protocol, the full
    budget with forced interruptions, whatever its training does.
    """
    slots = min(MAX_SLOTS, len(problems) * samples_per_problem)
    slots = max(slots, samples_per_problem)
    budget = Budget.of(rl, interrupted=True)
    generator = Generator(model, problems, slots, budget, head, temperature, random)
    waiting = list(range(len(problems)))
    groups: list[Group] = []
    while waiting or generator.active:
        room = generator.free // samples_per_problem
        if waiting and room:
            groups += generator.admit(waiting[:room], samples_per_problem)
            del waiting[:room]
        generator.step()
    completions = [completion for group in groups for completion in group.completions]
    correct = np.array([[completion.correct for completion in group.completions] for group in groups], float)
    chosen = torch.cat([completion.log_probs[completion.chosen] for completion in completions])
    return Evaluation(
        pass_rate=float(correct.mean()),
        standard_error=standard_error(correct),
        samples=correct.size,
        entropy=-float(chosen.mean()),
        truncation_rate=float(np.mean([completion.truncated for completion in completions])),
        interruption_rate=float(np.mean([completion.interrupted for completion in completions])),
        mean_length=float(np.mean([len(completion.ids) for completion in completions])),
    )


def evaluate_sets(
    model: Model,
    sets: ProblemSets,
    settings: EvaluationSettings,
    rl: RLSettings,
    head: HeadPrecision,
    temperature: float,
    seed: tuple[int, ...],
    factor: int = 1,
) -> dict[str, float | int]:
    """One row of ``metrics.parquet``: the validation set and the harder downstream set.

    Args:
        seed: of the sampled tokens, e.g. (run seed, step).
        factor: multiplies the samples per problem.
    """
    random = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    validation = evaluate(
        model,
        sets.validation[: settings.prompts],
        settings.samples_per_prompt * factor,
        rl,
        head,
        temperature,
        random,
    )
    row: dict[str, float | int] = {
        "pass_rate": validation.pass_rate,
        "pass_rate_se": validation.standard_error,
        "samples": validation.samples,
        "entropy": validation.entropy,
        "truncation_rate": validation.truncation_rate,
        "interruption_rate": validation.interruption_rate,
        "mean_length": validation.mean_length,
    }
    if settings.downstream_prompts:
        downstream = evaluate(
            model,
            sets.downstream[: settings.downstream_prompts],
            settings.downstream_samples_per_prompt * factor,
            rl,
            head,
            temperature,
            random,
        )
        row |= {
            "downstream_pass_rate": downstream.pass_rate,
            "downstream_pass_rate_se": downstream.standard_error,
            "downstream_samples": downstream.samples,
        }
    return row
