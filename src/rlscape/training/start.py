"""How a checkpoint becomes a base: dithered if asked for, taught the form of answers, and rounded.

Paper (arXiv 2511.08567): starts from checkpoints that answer in the form that is verified. Here: a small checkpoint
hardly does, so a few steps of supervised fine-tuning on reference traces come first, the same for every run.
"""

from collections.abc import Mapping
from itertools import chain, zip_longest
from pathlib import Path

import torch
from torch import Tensor

from rlscape.errors import ConfigError
from rlscape.models.decoder import Decoder
from rlscape.settings.base_model import CheckpointSettings, StartSettings
from rlscape.settings.precision import Device
from rlscape.settings.run import RunSettings
from rlscape.settings.training import EvaluationSettings, RLSettings, SFTSettings
from rlscape.tasks.base import Problem, TaskSettings
from rlscape.tasks.sets import make_task_sets
from rlscape.tasks.speech import Speech
from rlscape.training.sft import reference_traces, train_on_traces
from rlscape.training.trl_runs import Evaluate, TrlRun

BLOCK = 32
"""Values of a row that were quantised together."""
ANOTHER_SEED = 1_000_003
"""Added to a task's own, so that problems of a start come from another stream."""


@torch.no_grad()
def dither_(model: Decoder, random: torch.Generator) -> None:
    """Add to every value of a matrix noise that is uniform over one step of its block's grid, in place.

    A step is the smallest difference between two values of a block; a block of equal values stays as it is. So is the
    grid erased, with its stripes of equal values, and the expectation of every weight stays.
    """
    for parameter in model.parameters():
        if parameter.ndim == 2 and parameter.shape[1] % BLOCK == 0:
            blocks = parameter.unflatten(1, (-1, BLOCK))
            noise = torch.rand(blocks.shape, generator=random, dtype=blocks.dtype, device=random.device) - 0.5
            parameter.add_((noise.to(blocks.device) * grid_steps(blocks)).flatten(1))


def grid_steps(blocks: Tensor) -> Tensor:
    """Smallest difference (..., 1) between two values of a block (..., BLOCK), beyond rounding; 0 if all are equal."""
    ordered = blocks.sort(-1).values
    gaps = ordered.diff(dim=-1)
    real = gaps > 1e-5 * (ordered[..., -1:] - ordered[..., :1])
    smallest = torch.where(real, gaps, torch.inf).amin(-1, keepdim=True)
    return torch.where(smallest.isinf(), 0.0, smallest)


def start_problems(tasks: Mapping[str, TaskSettings], start: StartSettings, speech: Speech) -> list[Problem]:
    """As many problems as a start trains on, the tasks taking turns; none is in a set of its task.

    Raises:
        ConfigError: a task has too few problems.
    """
    wanted = -(-start.steps * start.sequences_per_step // len(tasks))
    own = make_task_sets(tasks, speech)
    parts = []
    for task, settings in tasks.items():
        seed = settings.seed + ANOTHER_SEED + start.seed
        other = make_task_sets({task: settings.changed(seed=seed, pool_size=2 * wanted)}, speech)[task].training
        used = {problem.prompt for problems in own[task] for problem in problems}
        fresh = [problem for problem in other if problem.prompt not in used][:wanted]
        if len(fresh) < wanted:
            raise ConfigError(
                f"tasks.{task}: only {len(fresh)} problems beside its own sets, but the start takes {wanted}; lower "
                "start.steps or start.sequences_per_step, or allow longer problems"
            )
        parts.append(fresh)
    turns = chain.from_iterable(zip_longest(*parts))
    return [problem for problem in turns if problem is not None][: start.steps * start.sequences_per_step]


def train_start(
    name: str,
    settings: CheckpointSettings,
    tasks: Mapping[str, TaskSettings],
    rl: RLSettings,
    evaluation: EvaluationSettings,
    evaluate: Evaluate,
    base: Path,
    speech: Speech,
    scratch: Path,
    device: Device = "cpu",
) -> TrlRun:
    """Fine-tune ``base`` as ``settings.start`` says; measured at its first and last step.

    Args:
        rl: the generation budget and the optimiser's settings.
        evaluate: gives the pass rates at a step.
        scratch: directory for the trainer's own files.
    """
    start = settings.start
    assert start is not None
    run = RunSettings(
        run=f"start-{name}",
        arm="start",
        seed=start.seed,
        method="sft",
        base_name=name,
        base=settings,
        tasks=dict(tasks),
        evaluation=evaluation.changed(evaluations=2),
        rl=rl,
        sft=SFTSettings(**start.model_dump(exclude={"seed"})),
    )
    traces = reference_traces(start_problems(tasks, start, speech))
    return train_on_traces(run, traces, base, speech, scratch, evaluate, device)
