"""Measure what recorded learning curves and updates look like and scatter by."""

from pathlib import Path

from rlscape.files import write_json
from rlscape.pipeline.entry import run
from rlscape.power.recorded import measure_scatter
from rlscape.power.recorded_weights import measure_weights
from rlscape.power.worlds import Scatter


def measure(gallery: Path, reference_arm: str, output: Path) -> None:
    """Write a JSON file; see :class:`rlscape.power.worlds.Scatter`."""
    write_json(output, Scatter(measure_scatter(gallery, reference_arm), measure_weights(gallery)).to_dict())


if __name__ == "__main__":
    run(measure)
