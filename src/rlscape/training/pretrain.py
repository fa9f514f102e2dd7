"""Base models: next-token prediction on freshly generated problems, flaws included.

1. A base's mix says how many of the sequences are of which task.
2. Curriculum, per task: the longest problem grows linearly from the shortest over the first half of the steps; from
   then on a thin tail of still longer problems is mixed in, which the model comes to know only in part.
3. From ``flawed_from`` on, traces have wrong steps and answers without thought, in the stated shares. The
   model knows how to compute, but sampled at temperature 1 it is careless: this is what reinforcement
   learning can mend.
4. Throughout, some thoughts are cut short by the interruption phrase, so that it means something later.

The loss is on the completion tokens that a model writes itself, not on an environment's. Problems of the validation
and the downstream sets never occur. One thread, one generator: bitwise reproducible on one machine.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from rlscape.errors import ConfigError
from rlscape.files import provenance, write_json
from rlscape.kernels.library import kernels_in_use
from rlscape.models.build import as_decoder, build_model, save_model, store_as_
from rlscape.models.decoder import Decoder
from rlscape.models.quantisation import to_q4_1_
from rlscape.rl.optimizer import AdamW
from rlscape.rl.packing import Packing
from rlscape.rl.policy import completion_log_probs
from rlscape.settings.base_model import BaseSettings, PretrainSettings
from rlscape.tasks.base import Flaws, TaskSettings, TracedSettings
from rlscape.tasks.sets import make_task_sets, task_of
from rlscape.tasks.vocabulary import RESULT_ID, encode

logger = logging.getLogger(__name__)

Example = tuple[list[int], list[int]]
"""Prompt ids and completion ids."""


def draw_task(mix: Mapping[str, float], rng: np.random.Generator) -> str:
    """A task, as probable as its part of the mix; the order of the mix does not matter."""
    *others, last = sorted(mix)
    if not others:
        return last
    draw, passed = rng.random() * sum(mix.values()), 0.0
    for task in others:
        passed += mix[task]
        if draw < passed:
            return task
    return last


def draw_operations(settings: PretrainSettings, task: TracedSettings, step: int, rng: np.random.Generator) -> int:
    """The number of operations of one problem at a step of the curriculum."""
    low, high = task.pretraining_operations or task.operations
    progress = step / (settings.steps / 2)
    if progress >= 1 and settings.tail_rate and rng.random() < settings.tail_rate:
        low, high = task.tail_operations or task.downstream_operations
    return int(rng.integers(low, min(high, low + int((high - low + 1) * progress)) + 1))


def draw_examples(
    settings: PretrainSettings,
    tasks: Mapping[str, TaskSettings],
    step: int,
    held_out: set[str],
    rng: np.random.Generator,
) -> list[Example]:
    """A step's sequences, without those whose prompt is held out; ``tasks`` are those of the mix."""
    flawed = step >= settings.flawed_from * settings.steps
    flaws = Flaws(
        settings.wrong_step_rate if flawed else 0.0,
        settings.thoughtless_rate if flawed else 0.0,
        settings.interrupted_rate,
    )
    examples = []
    for _ in range(settings.sequences_per_step):
        name = draw_task(settings.mix, rng)
        table, task = tasks[name], task_of(name, tasks[name])
        assert isinstance(table, TracedSettings) and task.draw and task.flawed_trace  # none of a mix is in words
        problem = task.draw(draw_operations(settings, table, step, rng), table, rng)
        words = task.flawed_trace(problem, rng, flaws)
        if problem.prompt not in held_out:
            examples.append((problem.prompt_ids, encode(" ".join(words))))
    return examples


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up over the first twentieth, then a half cosine to zero."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + cos(pi * (step - warmup) / max(1, steps - warmup)))


def backward(model: Decoder, examples: Sequence[Example]) -> float:
    """Accumulate the gradient of the mean loss per completion token; returns that mean.

    What follows ``<result>`` is the environment's and has no loss.
    """
    ordered = sorted(examples, key=lambda example: len(example[1]))
    batch = Packing(
        [prompt for prompt, _ in ordered],
        [torch.tensor(completion) for _, completion in ordered],
        torch.arange(len(ordered)),
    )
    loss_mask = torch.ones(len(batch.targets), dtype=torch.bool)
    loss_mask[1:] = batch.targets[:-1] != RESULT_ID
    loss = -completion_log_probs(model, batch, loss_mask, "fp32", temperature=1.0).mean()
    loss.backward()
    return loss.item()


def pretrain(base: BaseSettings, tasks: Mapping[str, TaskSettings], output: str | Path, name: str = "base") -> None:
    """Train a base model and write its directory: model, tokenizer and ``base.json``.

    Args:
        tasks: at least those of the base's mix.

    Raises:
        ConfigError: a task of the mix has no settings, or is in words.
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    settings = base.pretraining
    lacking = settings.mix.keys() - tasks.keys()
    if lacking:
        raise ConfigError(f"{name}: pretraining.mix: no settings for {', '.join(sorted(lacking))}; add them to tasks")
    tasks = {task: tasks[task] for task in settings.mix}
    in_words = [task for task, table in tasks.items() if task_of(task, table).in_words]
    if in_words:
        raise ConfigError(f"{name}: pretraining.mix: {', '.join(in_words)}: in words; only a checkpoint can read them")
    sets = make_task_sets(tasks).values()
    held_out = {problem.prompt for task in sets for problem in (*task.validation, *task.downstream)}
    rng = np.random.default_rng(settings.seed)
    stock = build_model(base.model, settings.seed)
    model = as_decoder(stock)
    optimizer = AdamW(model.parameters(), betas=(0.9, 0.95), epsilon=1e-8, weight_decay=0.01)
    losses: list[float] = []
    report_every = max(1, settings.steps // 20)
    bar = tqdm(range(settings.steps), desc=f"pretrain {name}", disable=None)
    for step in bar:
        examples = draw_examples(settings, tasks, step, held_out, rng)
        losses.append(backward(model, examples))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(settings.learning_rate * learning_rate_factor(step, settings.steps))
        optimizer.zero_grad()
        if (step + 1) % report_every == 0:
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
            if bar.disable:
                logger.info("%s: step %d/%d, loss %.4f", name, step + 1, settings.steps, losses[-1])
    if base.quantisation is not None:  # of one kind
        to_q4_1_(model)
    store_as_(model, base.precision)
    output = Path(output)
    stock.load_state_dict(model.state_dict())
    save_model(stock, output)
    write_json(
        output / "base.json",
        {
            "settings": {
                "base": base.model_dump(mode="json"),
                "tasks": {task: table.model_dump(mode="json") for task, table in tasks.items()},
            },
            "kernels": kernels_in_use(torch.get_default_device().type),
            "provenance": provenance(),
            "loss": float(np.mean(losses[-report_every:])),
            "wall_seconds": time.perf_counter() - started,
        },
    )
