"""Count the verdicts of one claim on results that are simulated at a scale's design."""

from pathlib import Path

from rlscape.claims import load_register
from rlscape.files import atomic, read_json
from rlscape.pipeline.entry import run
from rlscape.power.estimate import estimate_power
from rlscape.power.worlds import Scatter, Simulation
from rlscape.settings.scale import Config


def estimate(claims: Path, claim: str, scatter: Path, settings: Config, draws: int, output: Path) -> None:
    """Write a CSV file; see :func:`rlscape.power.estimate.estimate_power`."""
    register = load_register(claims)
    recorded = Scatter.from_dict(read_json(scatter))
    table = estimate_power(Simulation(register.claim(claim), register.conventions, settings, recorded), draws)
    with atomic(output) as path:
        table.to_csv(path, index=False)


if __name__ == "__main__":
    run(estimate)
