"""Measure by how much recorded learning curves and updates scatter."""

from pathlib import Path

import numpy as np

from rlscape.files import write_json
from rlscape.pipeline.entry import run
from rlscape.power.recorded import measure_scatter
from rlscape.power.recorded_weights import measure_weights
from rlscape.power.worlds import Scatter

SEED = 0
"""Of the bootstrap."""


def measure(gallery: Path, reference_arm: str, output: Path) -> None:
    """Write a JSON file; see :class:`rlscape.power.worlds.Scatter`."""
    curves = measure_scatter(gallery, reference_arm, np.random.default_rng(SEED))
    write_json(output, Scatter(curves, measure_weights(gallery)).to_dict())


if __name__ == "__main__":
    run(measure)
