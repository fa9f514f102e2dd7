"""Measure every snapshot of a run."""

from pathlib import Path

from rlscape.files import write_parquet
from rlscape.geometry import profiles
from rlscape.pipeline.entry import run
from rlscape.settings.measurement import GeometrySettings


def measure_over_time(base: Path, snapshots: Path, settings: GeometrySettings, output: Path) -> None:
    """Write over_time.parquet and profiles.parquet."""
    measured = profiles.measure_over_time(base, snapshots, settings)
    write_parquet(output / "over_time.parquet", measured.over_time)
    write_parquet(output / "profiles.parquet", measured.profiles)


if __name__ == "__main__":
    run(measure_over_time)
