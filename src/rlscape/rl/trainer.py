"""Reinforcement learning with verifiable rewards: one run of one recipe, resumable and bitwise reproducible.

The loop is: the schedule generates a batch of groups, rewards become advantages, one optimiser step on the recipe's
loss, evaluation now and then. Same settings, same machine: same metrics and same weights, also when the run
was killed in between and started again.
"""

import logging
import time
from collections.abc import Callable
from itertools import compress
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rlscape.errors import CheckpointError, KernelError
from rlscape.files import atomic
from rlscape.kernels.library import SWITCH, kernels_in_use
from rlscape.models.build import store_as_
from rlscape.models.decoder import Decoder
from rlscape.rl.advantages import active_prompts, advantages
from rlscape.rl.batches import most_sequences, prompts_per_batch
from rlscape.rl.clock import Clock
from rlscape.rl.evaluate import Evaluator, by_prefix, evaluation_steps
from rlscape.rl.hooks import Freezer, Keeper, Tracker
from rlscape.rl.losses import aggregation_weights, policy_loss
from rlscape.rl.optimizer import SGD, AdamW, AdamWOnNoise, Optimizer
from rlscape.rl.packing import Packing
from rlscape.rl.policy import completion_log_probs
from rlscape.rl.prompts import PromptStream
from rlscape.rl.rewards import judged, reward
from rlscape.rl.rollout import Budget, Completion, Generator, Group
from rlscape.rl.schedule import SCHEDULES
from rlscape.rl.seeds import random_source
from rlscape.settings.run import RunSettings
from rlscape.tasks.sets import make_task_sets, training_problems
from rlscape.tasks.speech import WORDS, Speech

log = logging.getLogger(__name__)


class RLTrainer:
    """One run.

    Args:
        settings: complete settings of the run; ``settings.recipe`` must be set.
        model: the base model in fp32; of its parameters, those that require a gradient are trained in place.
        tracker: measures the policy; without it, its columns are missing.
        freezer: keeps some entries of the trained weights.
        keeper: records the policy.
        after_step: called with the number of finished steps after each of them.
        speech: of the model.
    """

    def __init__(
        self,
        settings: RunSettings,
        model: Decoder,
        tracker: Tracker | None = None,
        freezer: Freezer | None = None,
        keeper: Keeper | None = None,
        after_step: Callable[[int], None] | None = None,
        speech: Speech = WORDS,
    ) -> None:
        assert settings.recipe is not None
        self.settings = settings
        self.recipe = recipe = settings.recipe
        self.rl = rl = settings.rl
        self.model = model
        self.after_step = after_step
        self.kernels = kernels_in_use(torch.get_default_device().type)
        sets = make_task_sets(settings.tasks, speech)
        self.training = training_problems(sets, settings.part)
        self.prompts_per_batch = prompts_per_batch(settings)
        self.budget = Budget.of(rl, recipe.length_control == "interruption", speech.marks)
        self.freezer = freezer
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = self._make_optimizer()
        prompt_seed, sampling_seed = np.random.SeedSequence((settings.seed, 1)).spawn(2)
        generator = Generator(
            model,
            self.training,
            slots=most_sequences(settings),
            budget=self.budget,
            head=recipe.generator_head,
            temperature=recipe.temperature,
            random=torch.Generator(torch.get_default_device()).manual_seed(int(sampling_seed.generate_state(1)[0])),
            precision=rl.generator_precision,
            marks=speech.marks,
        )
        prompts = PromptStream(
            len(self.training),
            drop_at=recipe.npr_threshold if recipe.no_positive_resampling else None,
            random=np.random.default_rng(prompt_seed),
        )
        self.schedule = SCHEDULES[recipe.schedule](
            model, generator, Clock.of(rl, model.active_parameters), prompts, recipe, self.prompts_per_batch
        )
        self.step = 0
        self.tokens_trained = 0
        self.tokens_generated = 0
        self.wall_seconds = 0.0
        self.metrics: list[dict[str, Any]] = []
        self.updates: list[dict[str, Any]] = []
        self.tracker = tracker
        self.keeper = keeper
        self.evaluator = Evaluator(by_prefix(sets), settings.evaluation, rl, recipe.temperature, speech.marks)
        self.evaluation_steps = evaluation_steps(settings.evaluation, rl.steps)

    def _make_optimizer(self) -> Optimizer:
        adam = self.rl.adam_betas, self.rl.adam_epsilon, self.rl.weight_decay
        match self.settings.optimizer:
            case "adamw":
                return AdamW(self.trained, *adam)
            case "adamw_on_noise":
                return AdamWOnNoise(self.trained, *adam, random_source(self.settings, stream=5))
            case "sgd":
                return SGD(self.trained)
            case _:
                assert_never(self.settings.optimizer)

    def run(self, checkpoint: Path | None = None) -> None:
        """Train to the end, from ``checkpoint`` if it exists; it is rewritten from time to time."""
        if checkpoint and checkpoint.exists():
            self.load_checkpoint(checkpoint)
            log.info("resumed at step %d of %d", self.step, self.rl.steps)
        started = saved = time.monotonic()
        earlier = self.wall_seconds
        if self.step == 0:
            self.evaluate()
        bar = tqdm(total=self.rl.steps, initial=self.step, desc=self.settings.run, unit="step", disable=None)
        while self.step < self.rl.steps:
            self.train_step()
            self.wall_seconds = earlier + time.monotonic() - started
            bar.update()
            if self.step in self.evaluation_steps:
                self.evaluate()
                bar.set_postfix(pass_rate=f"{self.metrics[-1]['pass_rate']:.3f}")
            if checkpoint and time.monotonic() - saved >= self.rl.checkpoint_seconds:
                self.save_checkpoint(checkpoint)
                saved = time.monotonic()
            if self.after_step:
                self.after_step(self.step)
        bar.close()

    def evaluate(self) -> None:
        """Append a row to ``metrics``, the future ``metrics.parquet``.

        - ``run``, ``arm``, ``seed``: which run;
        - ``step``: optimiser steps so far, as are all totals;
        - ``compute``: virtual accelerator-seconds (:mod:`rlscape.rl.clock`);
        - ``flops``: 2N per generated and 6N per trained token, N the active parameters;
        - ``tokens_generated``, ``tokens_trained``: completion tokens, injected ones included;
        - ``wall_seconds``: evaluations included;
        - ``pass_rate``, ``pass_rate_se``, ``samples``: share of correct samples, its standard error, and their number,
          on the validation set of the first task; with the prefix ``downstream_`` on its harder set, and with those of
          :func:`rlscape.tasks.base.column_prefix` on those of other tasks;
        - ``entropy``: nats per sampled token;
        - ``truncation_rate``, ``interruption_rate``: shares of the samples;
        - ``mean_length``: tokens per sample;
        - ``x``, ``sparsity``, ``relative_norm``: size of the update of the blocks' matrices in units of bf16 rounding,
          share of their entries that bf16 shows unchanged, and norm of the update over that of the matrices.

        Of tasks in words also ``lenient_pass_rate``, the share of samples with the right answer in whatever form.
        """
        row = self.evaluator.evaluate(
            self.model,
            seed=(self.settings.seed, 2, self.step),
            factor=self.settings.evaluation.final_factor if self.step == self.rl.steps else 1,
        )
        flops = self.model.active_parameters * (2 * self.tokens_generated + 6 * self.tokens_trained)
        position = {
            "run": self.settings.run,
            "arm": self.settings.arm,
            "seed": self.settings.seed,
            "step": self.step,
            "compute": self.schedule.clock.compute,
            "flops": float(flops),
            "tokens_generated": self.tokens_generated,
            "tokens_trained": self.tokens_trained,
            "wall_seconds": self.wall_seconds,
        }
        if self.tracker:
            row |= self.tracker.size(self.model)
        if self.keeper is not None and self.step:
            self.keeper.keep(self.model, self.step)
        self.metrics.append(position | row)
        log.info(
            "%s step %d/%d: pass rate %.3f +- %.3f, %.0f s",
            self.settings.run,
            self.step,
            self.rl.steps,
            row["pass_rate"],
            row["pass_rate_se"],
            self.wall_seconds,
        )

    def train_step(self) -> None:
        """One batch, one optimiser step, one row in ``updates``, the future ``updates.parquet``.

        - ``step``: optimiser steps so far;
        - ``reward_mean``, ``pass_rate``: of the batch's completions, before the zero-variance filter (a verified rate);
        - ``staleness_mean``, ``staleness_max``: updates since the weights that sampled a token;
        - ``active_prompts``: prompts that the update trains on;
        - ``pool_size``: prompts that later epochs can draw on;
        - ``truncation_rate``, ``interruption_rate``: shares of the completions;
        - ``mean_length``: tokens per completion;
        - ``tokens_generated``, ``tokens_trained``: completion tokens of the batch and of its active prompts;
        - ``log_ratio_mean``, ``clip_fraction``: mean ``|log rho|`` in nats, and share of tokens that the loss clips,
          over tokens whose advantage is not zero; NaN without an active prompt;
        - ``gradient_norm``: before it is clipped;
        - ``kl_from_start``, ``kl_to_start``, ``kl_step``: nats per token (:mod:`rlscape.training.drift`), if tracked;
        - ``compute``, ``idle_generator``, ``idle_trainer``: virtual accelerator-seconds so far: all, and those that
          either pool stood idle.
        """
        recipe = self.recipe
        groups = self.schedule.next_batch()
        completions = [completion for group in groups for completion in group.completions]
        correct = torch.tensor([[c.correct for c in group.completions] for group in groups])
        lengths = torch.tensor([[len(c.ids) for c in group.completions] for group in groups])
        rewarded = judged(correct, recipe.rewards, seed=(self.settings.seed, 4, self.step))
        rewards = reward(
            rewarded,
            lengths,
            self.rl.thinking_tokens + self.rl.answer_tokens,
            recipe.length_control,
            self.rl.penalty_window,
        )
        active = active_prompts(rewarded, recipe.zero_variance_filter)
        loss_mask = torch.cat([c.loss_mask for c in completions])
        staleness = self.schedule.version - torch.cat([c.versions for c in completions])[loss_mask]
        tokens_generated, tokens_trained = int(lengths.sum()), int(lengths[active].sum())
        row = {
            "step": self.step + 1,
            "reward_mean": float(rewards.mean()),
            "pass_rate": float(correct.float().mean()),
            "staleness_mean": float(staleness.float().mean()),
            "staleness_max": int(staleness.max()),
            "active_prompts": int(active.sum()),
            "pool_size": self.schedule.prompts.pool_size,
            "truncation_rate": float(np.mean([c.truncated for c in completions])),
            "interruption_rate": float(np.mean([c.interrupted for c in completions])),
            "mean_length": float(lengths.float().mean()),
            "tokens_generated": tokens_generated,
            "tokens_trained": tokens_trained,
        }
        row |= self.update(list(compress(groups, active)), rewards[active])
        if self.tracker:
            row |= self.tracker.measure(self.model)
        self.schedule.finish_update(tokens_trained)
        self.tokens_trained += tokens_trained
        self.tokens_generated += tokens_generated
        self.step += 1
        clock = self.schedule.clock
        self.updates.append(
            row
            | {
                "compute": clock.compute,
                "idle_generator": clock.generator_idle * clock.generator_accelerators,
                "idle_trainer": clock.trainer_idle * clock.trainer_accelerators,
            }
        )

    def update(self, groups: list[Group], rewards: Tensor) -> dict[str, float]:
        """One optimiser step on ``groups`` with ``rewards`` (P, G); none where there is nothing to learn from."""
        if not groups:
            return {"log_ratio_mean": float("nan"), "clip_fraction": float("nan"), "gradient_norm": 0.0}
        values = advantages(rewards, self.recipe.advantage_normalisation).flatten()
        completions = [completion for group in groups for completion in group.completions]
        lengths = torch.tensor([len(completion.ids) for completion in completions])
        owner = torch.arange(len(completions)).repeat_interleave(lengths)
        loss_tokens = owner[torch.cat([completion.loss_mask for completion in completions])].bincount(
            minlength=len(completions)
        )
        group_ids = torch.arange(len(groups)).repeat_interleave(self.recipe.generations_per_prompt)
        weights = aggregation_weights(loss_tokens, group_ids, self.recipe.aggregation)
        # Completions without advantage are part of the average but have no gradient: no forward pass for them.
        with_gradient = [index for index, value in enumerate(values.tolist()) if value]
        clipped = log_ratio = tokens = 0.0
        for part in _micro_batches(with_gradient, group_ids.tolist(), completions, self.rl.micro_batch_tokens):
            batch_groups, prompt_of = group_ids[part].unique(return_inverse=True)
            batch = Packing(
                [self.training[groups[group].prompt].prompt_ids for group in batch_groups.tolist()],
                [completions[i].ids for i in part],
                prompt_of,
            )
            loss_mask = torch.cat([completions[i].loss_mask for i in part])
            log_probs = completion_log_probs(
                self.model, batch, loss_mask, self.recipe.trainer_head, self.recipe.temperature
            )
            sequence_ids = torch.arange(len(part)).repeat_interleave(loss_tokens[part])
            loss, statistics = policy_loss(
                log_probs,
                torch.cat([completions[i].log_probs for i in part])[loss_mask],
                values[part],
                sequence_ids,
                weights[part][sequence_ids],
                self.recipe,
            )
            loss.backward()
            clipped += statistics.clip_fraction * len(log_probs)
            log_ratio += statistics.log_ratio_mean * len(log_probs)
            tokens += len(log_probs)
        if self.freezer:
            self.freezer.mask_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.rl.max_gradient_norm)
        if with_gradient:
            self.optimizer.step(self.rl.learning_rate * min(1.0, (self.step + 1) / max(1, self.rl.warmup_steps)))
        self.optimizer.zero_grad()  # the memory of the gradients is the generator's next
        if self.freezer:
            self.freezer.restore()
        store_as_(self.model, self.settings.storage)
        return {
            "log_ratio_mean": log_ratio / max(tokens, 1),
            "clip_fraction": clipped / max(tokens, 1),
            "gradient_norm": float(norm),
        }

    def save_checkpoint(self, path: Path) -> None:
        """Everything that the rest of the run depends on."""
        state = {
            "settings": self.settings.model_dump_json(),
            "kernels": self.kernels,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "tokens_trained": self.tokens_trained,
            "tokens_generated": self.tokens_generated,
            "wall_seconds": self.wall_seconds,
            "metrics": self.metrics,
            "updates": self.updates,
            "tracker": self.tracker and self.tracker.latest,
        }
        with atomic(path) as temporary:
            torch.save(state, temporary)

    def load_checkpoint(self, path: Path) -> None:
        """Continue from :meth:`save_checkpoint`.

        Raises:
            CheckpointError: the checkpoint is damaged or belongs to other settings.
            KernelError: the run started with other kernels.
        """
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:
            raise CheckpointError(f"{path}: damaged checkpoint ({error}); delete it to start the run again") from error
        if state["settings"] != self.settings.model_dump_json():
            raise CheckpointError(f"{path}: belongs to a run with other settings; delete it to start again")
        if state["kernels"] != self.kernels:
            choice = f"set {SWITCH}=torch to go on" if state["kernels"] == "torch" else "go on where it started"
            raise KernelError(
                f"{path}: the run started with other kernels ({state['kernels']}) than this process has "
                f"({self.kernels}); {choice}, or delete it to start again"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]
        self.tokens_trained = state["tokens_trained"]
        self.tokens_generated = state["tokens_generated"]
        self.wall_seconds = state["wall_seconds"]
        self.metrics = state["metrics"]
        self.updates = state["updates"]
        if self.tracker:
            self.tracker.latest = state["tracker"]


def _micro_batches(
    indices: list[int], group_ids: list[int], completions: list[Completion], max_tokens: int
) -> list[list[int]]:
    """Split the completions at ``indices`` into parts of at most ``max_tokens`` tokens, each sorted by length.

    Groups stay together, since a part computes each prompt once, so a single one may have more; those of similar length
    come together.
    """
    groups: dict[int, list[int]] = {}
    for index in indices:
        groups.setdefault(group_ids[index], []).append(index)
    length = {index: len(completions[index].ids) for index in indices}
    parts: list[list[int]] = []
    tokens = 0
    for members in sorted(groups.values(), key=lambda members: max(length[index] for index in members)):
        added = sum(length[index] for index in members)
        if not parts or tokens + added > max_tokens:
            parts.append([])
            tokens = 0
        parts[-1] += members
        tokens += added
    return [sorted(part, key=length.__getitem__) for part in parts]
