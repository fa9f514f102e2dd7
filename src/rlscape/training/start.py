"""How a checkpoint becomes a base: dithered if asked for, taught the form of answers, and rounded.

Paper (arXiv 2511.08567): starts from checkpoints that answer in the form that is verified. Here: a small checkpoint
hardly does, so a few steps of supervised fine-tuning on reference traces come first, the same for every run.
"""

from collections.abc import Mapping
from itertools import chain, zip_longest
from pathlib import Path

from rlscape.errors import ConfigError
from rlscape.settings.base_model import CheckpointSettings, StartSettings
from rlscape.settings.precision import Device
from rlscape.settings.run import RunSettings
from rlscape.settings.training import EvaluationSettings, RLSettings, SFTSettings
from rlscape.tasks.base import Problem, TaskSettings
from rlscape.tasks.sets import make_task_sets
from rlscape.tasks.speech import Speech
from rlscape.training.sft import reference_traces, train_on_traces
from rlscape.training.trl_runs import Evaluate, TrlRun

ANOTHER_SEED = 1_000_003
"""Added to a task's own, so that problems of a start come from another stream."""


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
