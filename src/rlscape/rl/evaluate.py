"""Held-out evaluation: pass rate by sampling, with its standard error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rlscape.models.decoder import Decoder
from rlscape.rl.rollout import Budget, Generator, Group
from rlscape.settings.training import EvaluationSettings, RLSettings
from rlscape.tasks.base import Problem, ProblemSets, column_prefix
from rlscape.tasks.speech import WORDS, Marks

MAX_SLOTS = 512
CACHE_BYTES = 2**29
ADMISSION = 1 / 8
"""Share of the slots that must be free before new problems are admitted: prefill pays in batches."""


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


def by_prefix(sets: Mapping[str, ProblemSets[Problem]]) -> dict[str, ProblemSets[Problem]]:
    """The sets of a run's tasks by the prefix of their columns; the first task has none."""
    return {column_prefix(task) if index else "": made for index, (task, made) in enumerate(sets.items())}


def evaluation_steps(settings: EvaluationSettings, total: int) -> list[int]:
    """When a run of ``total`` steps is evaluated, step 0 included."""
    return sorted({round(index * total / settings.evaluations) for index in range(settings.evaluations + 1)})


def standard_error(correct: np.ndarray) -> float:
    """Sampling error of the mean of ``correct`` (problems, samples) on *these* problems.

    The validation set is fixed, so its choice is no source of noise. With one sample per problem the variance
    within a problem is unknown and that of all samples bounds it.
    """
    problems, samples = correct.shape
    if samples == 1:
        return float(correct.std(ddof=1) / np.sqrt(problems)) if problems > 1 else float("nan")
    return float(np.sqrt(correct.var(axis=1, ddof=1).sum() / samples) / problems)


class Evaluator:
    """Pass rates on each task's validation set and harder downstream set.

    Paper: silent on how validation treats length. Here: every arm is evaluated under one protocol, the full
    budget with forced interruptions, whatever its training does.
    Paper: silent on the kernels of validation. Here: the weights as they are and the head in fp32, whatever the run's
    generator computes in: a pass rate is the trained policy's, and what a coarse generator does to it comes from
    training alone.

    Args:
        sets: by the prefix of their columns; entropy and lengths are measured on the first.
        marks: of the model.
    """

    def __init__(
        self,
        sets: Mapping[str, ProblemSets[Problem]],
        settings: EvaluationSettings,
        rl: RLSettings,
        temperature: float,
        marks: Marks = WORDS.marks,
    ) -> None:
        self.problems: list[Problem] = []
        self.samples: list[int] = []
        """Per problem."""
        self.parts: dict[str, slice] = {}
        """Where the problems of each set are, by the prefix of its columns."""
        for prefix, task_sets in sets.items():
            validation = task_sets.validation[: settings.prompts]
            downstream = task_sets.downstream[: settings.downstream_prompts]
            self._add(prefix, validation, settings.samples_per_prompt)
            self._add(f"{prefix}downstream_", downstream, settings.downstream_samples_per_prompt)
        self.budget = Budget.of(rl, interrupted=True, marks=marks)
        self.marks = marks
        self.temperature = temperature
        self.most = max(self.samples) * settings.final_factor
        """Samples of a problem, which are admitted together."""

    def _add(self, prefix: str, problems: Sequence[Problem], samples: int) -> None:
        if problems:
            self.parts[prefix] = slice(len(self.problems), len(self.problems) + len(problems))
            self.problems += problems
            self.samples += [samples] * len(problems)

    def evaluate(self, model: Decoder, seed: tuple[int, ...], factor: int = 1) -> dict[str, float | int]:
        """One row of ``metrics.parquet``.

        Args:
            seed: of the sampled tokens, e.g. (run seed, step).
            factor: multiplies the samples per problem, up to ``settings.final_factor``.
        """
        random = torch.Generator(torch.get_default_device())
        random.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        # Made anew for every evaluation: between them, a large model's copy and cache would lie idle.
        generator = Generator(
            model,
            self.problems,
            max(self.most, min(MAX_SLOTS, sum(self.samples), self._rows_in_cache(model))),
            self.budget,
            head="fp32",
            temperature=self.temperature,
            random=random,
            precision="fp32",
            marks=self.marks,
        )
        groups = self._sample(generator, factor)
        row: dict[str, float | int] = {}
        for prefix, part in self.parts.items():
            found = summarise(groups[part])
            row |= {
                f"{prefix}pass_rate": found.pass_rate,
                f"{prefix}pass_rate_se": found.standard_error,
                f"{prefix}samples": found.samples,
            } | self._lenient(prefix, groups[part])
            if part.start == 0:
                row |= {
                    "entropy": found.entropy,
                    "truncation_rate": found.truncation_rate,
                    "interruption_rate": found.interruption_rate,
                    "mean_length": found.mean_length,
                }
        return row

    def _lenient(self, prefix: str, groups: Sequence[Group]) -> dict[str, float]:
        """Of problems in words: the share of completions in which the right answer is found, whatever their form."""
        found = [
            verify(completion.ids.tolist())
            for group in groups
            if (verify := getattr(self.problems[group.prompt], "verify_leniently", None))
            for completion in group.completions
        ]
        return {f"{prefix}lenient_pass_rate": float(np.mean(found))} if found else {}

    def _rows_in_cache(self, model: Decoder) -> int:
        """Sequences of full length whose keys and values fit into :data:`CACHE_BYTES`."""
        longest = max(len(problem.prompt_ids) for problem in self.problems) + self.budget.longest
        config = model.config
        numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * longest
        return CACHE_BYTES // (4 * numbers)

    def _sample(self, generator: Generator, factor: int) -> list[Group]:
        """A finished group per problem. Problems of similar length run together: their rows then end together."""
        waiting = sorted(range(len(self.problems)), key=lambda index: len(self.problems[index].prompt_ids))
        groups: dict[int, Group] = {}
        while waiting or generator.active:
            samples = self.samples[waiting[-1]] * factor if waiting else 0
            room = generator.free
            if waiting and room >= max(samples, ADMISSION * len(generator)):
                batch: list[int] = []
                while waiting and len(batch) < room // samples and self.samples[waiting[-1]] * factor == samples:
                    batch.append(waiting.pop())
                groups |= {group.prompt: group for group in generator.admit(batch, samples)}
            else:
                generator.step()
        return [groups[index] for index in range(len(self.problems))]


def summarise(groups: Sequence[Group]) -> Evaluation:
    """Means over the completions of ``groups``, of which each has as many."""
    completions = [completion for group in groups for completion in group.completions]
    correct = np.array([[completion.correct for completion in group.completions] for group in groups], float)
    loss_mask = torch.cat([completion.loss_mask for completion in completions])
    log_probs = torch.cat([completion.log_probs for completion in completions])[loss_mask]
    return Evaluation(
        pass_rate=float(correct.mean()),
        standard_error=standard_error(correct),
        samples=correct.size,
        entropy=-float(log_probs.mean()),
        truncation_rate=float(np.mean([completion.truncated for completion in completions])),
        interruption_rate=float(np.mean([completion.interrupted for completion in completions])),
        mean_length=float(np.mean([len(completion.ids) for completion in completions])),
    )
