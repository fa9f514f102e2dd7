"""Measure a base model's pass rates, R_0 of every fit."""

from pathlib import Path

from rlscape.files import write_json
from rlscape.models.build import load_decoder
from rlscape.pipeline.entry import on_device, run
from rlscape.rl.evaluate import Evaluator
from rlscape.settings.precision import Device
from rlscape.settings.training import EvaluationSettings, RLSettings
from rlscape.tasks.base import column_prefix
from rlscape.tasks.registry import Tasks
from rlscape.tasks.sets import make_task_sets, task_of


def evaluate_base(
    base: Path, tasks: Tasks, rl: RLSettings, evaluation: EvaluationSettings, output: Path, device: Device = "cpu"
) -> None:
    """Write a JSON file: of every task, pass rates and the chance rate.

    Args:
        rl: the generation budget.
    """
    sets = make_task_sets(tasks)
    with on_device(device):
        model = load_decoder(base)
        by_prefix = {column_prefix(task): made for task, made in sets.items()}
        evaluator = Evaluator(model, by_prefix, evaluation, rl, temperature=1.0)
        row = evaluator.evaluate(model, seed=(0, 3), factor=evaluation.final_factor)
    record = {name.replace("pass_rate_se", "standard_error"): value for name, value in row.items()}
    for task, made in sets.items():
        record[f"{column_prefix(task)}chance_rate"] = task_of(task, tasks[task]).chance_rate(made.validation)
    write_json(output, record)


if __name__ == "__main__":
    run(evaluate_base)
