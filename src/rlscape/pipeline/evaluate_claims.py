"""Evaluate the register of claims."""

from pathlib import Path

from rlscape.claims import evaluate_register, load_register
from rlscape.files import atomic
from rlscape.pipeline.entry import run
from rlscape.settings.scale import Config


def evaluate_claims(claims: Path, settings: Config, output: Path) -> None:
    """Write a CSV file, a row per claim."""
    verdicts = evaluate_register(load_register(claims), settings)
    with atomic(output) as path:
        verdicts.to_csv(path, index=False)


if __name__ == "__main__":
    run(evaluate_claims)
