"""Make a base model: ``python -m rlscape.cli.pretrain --settings JSON --math JSON --output DIR``."""

import argparse
from pathlib import Path

from rlscape.cli.common import add_device, fail_clearly, on_device, parse_settings, start_logging
from rlscape.config import AgentSettings, BaseSettings, CodeSettings, MathSettings
from rlscape.pretrain import pretrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="BaseSettings as JSON")
    parser.add_argument("--math", required=True, help="MathSettings as JSON")
    parser.add_argument("--code", help="CodeSettings as JSON; needed if the base has a code_rate")
    parser.add_argument("--agents", help="AgentSettings as JSON; needed if the base has an agent_rate")
    parser.add_argument("--output", required=True, type=Path, help="directory of the model")
    parser.add_argument("--name", help="in progress messages; default: the directory's name")
    add_device(parser)
    arguments = parser.parse_args()

    start_logging()
    base = parse_settings(BaseSettings, arguments.settings)
    math = parse_settings(MathSettings, arguments.math)
    code = None if arguments.code is None else parse_settings(CodeSettings, arguments.code)
    agents = None if arguments.agents is None else parse_settings(AgentSettings, arguments.agents)
    with on_device(arguments.device):
        pretrain(base, math, arguments.output, arguments.name or arguments.output.name, code, agents)


if __name__ == "__main__":
    fail_clearly(main)
