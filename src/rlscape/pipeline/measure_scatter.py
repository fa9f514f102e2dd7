"""Measure what recorded learning curves look like and scatter by."""

from pathlib import Path

from rlscape.files import write_json
from rlscape.pipeline.entry import run
from rlscape.power.recorded import measure_scatter


def measure(gallery: Path, reference_arm: str, output: Path) -> None:
    """Write a JSON file; see :class:`rlscape.power.recorded.Recorded`."""
    write_json(output, measure_scatter(gallery, reference_arm).to_dict())


if __name__ == "__main__":
    run(measure)
