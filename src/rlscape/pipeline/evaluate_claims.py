"""Evaluate the register of claims."""

from pathlib import Path

from rlscape.claims import evaluate_register, load_register
from rlscape.claims.controls import read_pilots
from rlscape.claims.power import NOT_SIMULATED, read_power
from rlscape.files import atomic
from rlscape.pipeline.entry import run
from rlscape.settings.scale import Config


def evaluate_claims(
    claims: Path, settings: Config, output: Path, power: Path | None = None, pilots: Path | None = None
) -> None:
    """Write a CSV file, a row per claim; what cannot decide by ``power`` is not testable; ``pilots`` are shown."""
    known = read_power(power) if power else NOT_SIMULATED
    shown = read_pilots(pilots) if pilots else None
    verdicts = evaluate_register(load_register(claims), settings, known, shown)
    with atomic(output) as path:
        verdicts.to_csv(path, index=False)


if __name__ == "__main__":
    run(evaluate_claims)
