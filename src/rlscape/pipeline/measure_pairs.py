"""Compare the updates of several runs."""

from pathlib import Path

import torch

from rlscape.files import write_parquet
from rlscape.geometry.pairs import ComparedRun, compare_runs
from rlscape.pipeline.entry import run
from rlscape.settings.measurement import GeometrySettings


def measure_pairs(
    runs: tuple[ComparedRun, ...], settings: GeometrySettings, seed: int, pairs: Path, stripes: Path
) -> None:
    """Write similarities of every pair of runs, and how far each run's changes cluster in rows and columns.

    Args:
        seed: of the null draws.
    """
    measured = compare_runs(runs, settings, torch.Generator().manual_seed(seed))
    write_parquet(pairs, measured.pairs)
    write_parquet(stripes, measured.stripes)


if __name__ == "__main__":
    run(measure_pairs)
