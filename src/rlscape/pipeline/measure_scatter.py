"""Measure by how much recorded learning curves scatter."""

from pathlib import Path

import numpy as np

from rlscape.files import write_json
from rlscape.pipeline.entry import run
from rlscape.power.recorded import measure_scatter

SEED = 0
"""Of the bootstrap."""


def measure(gallery: Path, reference_arm: str, output: Path) -> None:
    """Write a JSON file; see :class:`rlscape.power.recorded.Recorded`."""
    write_json(output, measure_scatter(gallery, reference_arm, np.random.default_rng(SEED)).to_dict())


if __name__ == "__main__":
    run(measure)
