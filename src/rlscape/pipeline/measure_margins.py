"""Measure what rows, columns and magnitudes say of where one update is."""

from pathlib import Path

from rlscape.files import write_parquet
from rlscape.geometry import margins
from rlscape.pipeline.entry import run
from rlscape.settings.measurement import GeometrySettings


def measure_margins(base: Path, model: Path, settings: GeometrySettings, output: Path) -> None:
    """Write a table, a row per matrix inside the blocks."""
    write_parquet(output, margins.measure_margins(base, model, settings))


if __name__ == "__main__":
    run(measure_margins)
