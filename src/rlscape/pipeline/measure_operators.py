"""Measure one update in many ways."""

from pathlib import Path

from rlscape.files import write_parquet
from rlscape.geometry import operators
from rlscape.pipeline.entry import run
from rlscape.settings.measurement import GeometrySettings


def measure_operators(base: Path, model: Path, settings: GeometrySettings, output: Path) -> None:
    """Write operators.parquet (masks and subspaces, over rank and density) and mantissa.parquet (by precision)."""
    measured = operators.measure_operators(base, model, settings)
    write_parquet(output / "operators.parquet", measured.operators)
    write_parquet(output / "mantissa.parquet", measured.mantissa)


if __name__ == "__main__":
    run(measure_operators)
