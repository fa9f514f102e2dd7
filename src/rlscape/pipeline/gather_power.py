"""Put the simulated verdicts of all claims into one table."""

from pathlib import Path

import pandas as pd

from rlscape.claims.power import read_power
from rlscape.files import atomic
from rlscape.pipeline.entry import run


def gather(claims: list[Path], output: Path) -> None:
    """Write ``power.csv``: the rows of some files, in their order."""
    table = pd.concat(map(read_power, claims))
    with atomic(output) as path:
        table.to_csv(path, index=False)


if __name__ == "__main__":
    run(gather)
