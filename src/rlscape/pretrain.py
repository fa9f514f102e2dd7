"""Base models: next-token prediction on freshly generated problems, flaws included.

1. Curriculum: the longest problem grows linearly from the shortest over the first half of the steps; from
   then on a thin tail of still longer problems is mixed in, which the model comes to know only in part.
2. From ``flawed_from`` on, traces have wrong steps and answers without thought, in the stated shares. The
   model knows how to compute, but sampled at temperature 1 it is careless: this is what reinforcement
   learning can mend.
3. Throughout, some thoughts are cut short by the interruption phrase, so that it means something later.

With ``code_rate``, that share of the sequences are code problems, under the same curriculum: the longest grows
over the lengths of the code task's training set, the tail has those of its downstream set. With ``agent_rate``, a
share are problems of tool use, likewise.

The loss is on the completion tokens that a model writes itself, not on an environment's. Problems of the validation
and the downstream sets never occur. One thread, one generator: bitwise reproducible on one machine.

    python -m rlscape.cli.pretrain --settings JSON --math JSON --output results/default/bases/dense
"""

import logging
import time
from collections.abc import Sequence
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from rlscape.config import AgentSettings, AgentTaskSettings, BaseSettings, CodeSettings, MathSettings, PretrainSettings
from rlscape.errors import ConfigError
from rlscape.files import provenance, write_json
from rlscape.models.build import as_decoder, build_model, save_model, store_as_
from rlscape.models.decoder import Decoder
from rlscape.rl.optimizer import AdamW
from rlscape.rl.packing import Packing
from rlscape.rl.policy import completion_log_probs
from rlscape.tasks import agents, code, math
from rlscape.tasks.problems import Problem, make_task_sets
from rlscape.tasks.vocabulary import RESULT_ID, encode

logger = logging.getLogger(__name__)

Example = tuple[list[int], list[int]]
"""Prompt ids and completion ids."""


def draw_operations(settings: PretrainSettings, step: int, rng: np.random.Generator) -> int:
    """The number of operations of one problem at a step of the curriculum."""
    low, high = settings.operations
    progress = step / (settings.steps / 2)
    if settings.tail_operations and progress >= 1 and rng.random() < settings.tail_rate:
        low, high = settings.tail_operations
    return int(rng.integers(low, min(high, low + int((high - low + 1) * progress)) + 1))


def draw_examples(
    settings: PretrainSettings,
    step: int,
    modulus: int,
    held_out: set[str],
    rng: np.random.Generator,
    code_settings: CodeSettings | None = None,
    agent_settings: AgentSettings | None = None,
) -> list[Example]:
    """A step's sequences, without those whose prompt is held out.

    ``code_rate`` takes ``code_settings``, ``agent_rate`` takes ``agent_settings``.
    """
    flawed = step >= settings.flawed_from * settings.steps
    flaws = {
        "wrong_step_rate": settings.wrong_step_rate if flawed else 0.0,
        "thoughtless_rate": settings.thoughtless_rate if flawed else 0.0,
        "interrupted_rate": settings.interrupted_rate,
    }

    def operations_of(task: CodeSettings | AgentTaskSettings) -> int:
        curriculum = settings.changed(operations=task.operations, tail_operations=task.downstream_operations)
        return draw_operations(curriculum, step, rng)

    problem: Problem
    examples = []
    for _ in range(settings.sequences_per_step):
        other = rng.random() if settings.code_rate or settings.agent_rate else 1.0
        if other < settings.code_rate:
            assert code_settings is not None
            program = code.draw_any_problem(operations_of(code_settings), code_settings.modulus, rng)
            problem, words = program, code.flawed_trace(program, rng, **flaws)
        elif other < settings.code_rate + settings.agent_rate:
            assert agent_settings is not None
            task = tuple(agents.AGENT_TASKS)[int(rng.integers(len(agents.AGENT_TASKS)))]
            errand = agents.draw_any_problem(task, operations_of(getattr(agent_settings, task)), rng)
            problem, words = errand, agents.flawed_trace(errand, rng, **flaws)
        else:
            chain = math.draw_problem(draw_operations(settings, step, rng), int(rng.integers(modulus)), modulus, rng)
            problem, words = chain, math.flawed_trace(chain, rng, **flaws)
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


def pretrain(
    base: BaseSettings,
    math_settings: MathSettings,
    output: str | Path,
    name: str = "base",
    code_settings: CodeSettings | None = None,
    agent_settings: AgentSettings | None = None,
) -> None:
    """Train a base model and write its directory: model, tokenizer and ``base.json``.

    Raises:
        ConfigError: the base is to learn code or tool use, but there are no settings for it.
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    settings = base.pretraining
    if settings.code_rate and code_settings is None:
        raise ConfigError(f"{name}: code_rate is {settings.code_rate}, which takes code settings; give them by --code")
    if settings.agent_rate and agent_settings is None:
        raise ConfigError(
            f"{name}: agent_rate is {settings.agent_rate}, which takes agent settings; give them by --agents"
        )
    sets = make_task_sets(math_settings, code_settings, agent_settings).values()
    held_out = {problem.prompt for task in sets for problem in (*task.validation, *task.downstream)}
    rng = np.random.default_rng(settings.seed)
    stock = build_model(base.model, settings.seed)
    model = as_decoder(stock)
    optimizer = AdamW(model.parameters(), betas=(0.9, 0.95), epsilon=1e-8, weight_decay=0.01)
    losses: list[float] = []
    report_every = max(1, settings.steps // 20)
    bar = tqdm(range(settings.steps), desc=f"pretrain {name}", disable=None)
    for step in bar:
        examples = draw_examples(settings, step, math_settings.modulus, held_out, rng, code_settings, agent_settings)
        losses.append(backward(model, examples))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(settings.learning_rate * learning_rate_factor(step, settings.steps))
        optimizer.zero_grad()
        if (step + 1) % report_every == 0:
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
            if bar.disable:
                logger.info("%s: step %d/%d, loss %.4f", name, step + 1, settings.steps, losses[-1])
    store_as_(model, base.precision)
    output = Path(output)
    stock.load_state_dict(model.state_dict())
    save_model(stock, output)
    write_json(
        output / "base.json",
        {
            "settings": {
                "base": base.model_dump(mode="json"),
                "math": math_settings.model_dump(mode="json"),
                "code": code_settings and code_settings.model_dump(mode="json"),
                "agents": agent_settings and agent_settings.model_dump(mode="json"),
            },
            "provenance": provenance(),
            "loss": float(np.mean(losses[-report_every:])),
            "wall_seconds": time.perf_counter() - started,
        },
    )
