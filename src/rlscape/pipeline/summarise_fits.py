"""The table of arms from the fits of runs."""

from pathlib import Path

from rlscape.files import read_json, write_parquet
from rlscape.pipeline.entry import run
from rlscape.scaling.arms import RunFit, read_ends, summarise_arms
from rlscape.settings.measurement import FitSettings


def summarise_fits(
    fits: list[Path], metrics: list[Path], settings: FitSettings, output: Path, reference_arm: str | None = None
) -> None:
    """Write a row per arm; ``reference_arm`` is the one whose A sets the level of C_tau, without it there is none."""
    runs = [RunFit.from_record(read_json(path)) for path in fits]
    write_parquet(output, summarise_arms(runs, read_ends(metrics), reference_arm, settings.confidence))


if __name__ == "__main__":
    run(summarise_fits)
