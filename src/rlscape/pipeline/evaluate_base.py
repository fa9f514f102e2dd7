"""Measure a base model's pass rates, R_0 of every fit."""

from pathlib import Path

from rlscape.files import write_json
from rlscape.models.build import load_decoder
from rlscape.models.checkpoints import speech_of
from rlscape.pipeline.entry import on_device, run
from rlscape.rl.evaluate import Evaluator
from rlscape.settings.base_model import AnyBase
from rlscape.settings.precision import Device
from rlscape.settings.training import EvaluationSettings, RLSettings
from rlscape.tasks.base import column_prefix
from rlscape.tasks.registry import Tasks
from rlscape.tasks.sets import make_task_sets, task_of


def evaluate_base(
    base: Path,
    settings: AnyBase,
    tasks: Tasks,
    rl: RLSettings,
    evaluation: EvaluationSettings,
    output: Path,
    device: Device = "cpu",
) -> None:
    """Write a JSON file: of every task, pass rates and the chance rate.

    Args:
        rl: the generation budget.
    """
    speech = speech_of(settings, base)
    sets = make_task_sets(tasks, speech)
    with on_device(device):
        model = load_decoder(base)
        by_task = {column_prefix(task): made for task, made in sets.items()}
        evaluator = Evaluator(by_task, evaluation, rl, temperature=1.0, marks=speech.marks)
        row = evaluator.evaluate(model, seed=(0, 3), factor=evaluation.final_factor)
    record = {name.replace("pass_rate_se", "standard_error"): value for name, value in row.items()}
    for task, made in make_task_sets(tasks).items():  # as the task knows them, whatever the model's tokens
        record[f"{column_prefix(task)}chance_rate"] = task_of(task, tasks[task]).chance_rate(made.validation)
    write_json(output, record)


if __name__ == "__main__":
    run(evaluate_base)
