"""Measure a base model's pass rate, R_0 of every fit: ``python -m rlscape.cli.evaluate_base --base DIR ...``."""

import argparse
from pathlib import Path

from rlscape.cli.common import add_device, fail_clearly, on_device, parse_settings, start_logging
from rlscape.config import AgentSettings, CodeSettings, EvaluationSettings, MathSettings, RLSettings
from rlscape.files import write_json
from rlscape.models.build import load_decoder
from rlscape.rl.evaluate import Evaluator
from rlscape.settings import COLUMN_PREFIX
from rlscape.tasks import code as code_task
from rlscape.tasks import math as math_task
from rlscape.tasks.agents import AGENT_TASKS, make_agent_sets
from rlscape.tasks.problems import make_task_sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True, type=Path, help="directory of the base model")
    parser.add_argument("--math", required=True, help="MathSettings as JSON")
    parser.add_argument("--code", help="CodeSettings as JSON, for a base that knows programs")
    parser.add_argument("--agents", help="AgentSettings as JSON, for a base that knows tools")
    parser.add_argument("--rl", required=True, help="RLSettings as JSON (the generation budget)")
    parser.add_argument("--evaluation", required=True, help="EvaluationSettings as JSON")
    parser.add_argument("--output", required=True, type=Path, help="JSON file")
    add_device(parser)
    arguments = parser.parse_args()

    start_logging()
    math = parse_settings(MathSettings, arguments.math)
    code = parse_settings(CodeSettings, arguments.code) if arguments.code else None
    agents = parse_settings(AgentSettings, arguments.agents) if arguments.agents else None
    evaluation = parse_settings(EvaluationSettings, arguments.evaluation)
    rl = parse_settings(RLSettings, arguments.rl)
    with on_device(arguments.device):
        model = load_decoder(arguments.base)
        sets = make_task_sets(math, code, agents)
        evaluator = Evaluator(model, sets, evaluation, rl, head="fp32", temperature=1.0)
        row = evaluator.evaluate(model, seed=(0, 3), factor=evaluation.final_factor)
    record = {name.replace("pass_rate_se", "standard_error"): value for name, value in row.items()}
    record["chance_rate"] = math_task.chance_rate(math_task.make_sets(math).validation)
    if code is not None:
        record["code_chance_rate"] = code_task.chance_rate(code_task.make_code_sets(code).validation)
    if agents is not None:
        for task, kind in AGENT_TASKS.items():
            validation = make_agent_sets(task, getattr(agents, task)).validation
            record[f"{COLUMN_PREFIX[task]}chance_rate"] = kind.chance_rate(validation)
    write_json(arguments.output, record)


if __name__ == "__main__":
    fail_clearly(main)
