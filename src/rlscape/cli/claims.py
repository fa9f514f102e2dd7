"""Evaluate the register: ``python -m rlscape.cli.claims --claims config/claims.yaml ... --output FILE``."""

import argparse
from pathlib import Path

from rlscape.catalogue import load_scale
from rlscape.claims import evaluate_claims, load_register
from rlscape.cli.common import fail_clearly, parse_settings
from rlscape.config import Config
from rlscape.files import atomic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", required=True, type=Path, help="the register, config/claims.yaml")
    config_source = parser.add_mutually_exclusive_group(required=True)
    config_source.add_argument("--config", type=Path, help="a scale's YAML file")
    config_source.add_argument("--settings", help="Config as JSON")
    parser.add_argument("--output", required=True, type=Path, help="CSV file, a row per claim")
    arguments = parser.parse_args()

    config = load_scale(arguments.config) if arguments.config else parse_settings(Config, arguments.settings)
    verdicts = evaluate_claims(load_register(arguments.claims), config)
    with atomic(arguments.output) as path:
        verdicts.to_csv(path, index=False)


if __name__ == "__main__":
    fail_clearly(main)
