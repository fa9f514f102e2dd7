"""Compare the updates of several runs."""

from pathlib import Path

import pandas as pd
import torch

from rlscape.files import write_parquet
from rlscape.geometry.pairs import ComparedRun, compare_runs
from rlscape.pipeline.entry import run
from rlscape.settings.measurement import GeometrySettings


def measure_pairs(
    sets: tuple[tuple[ComparedRun, ...], ...], settings: GeometrySettings, seed: int, pairs: Path, stripes: Path
) -> None:
    """Write similarities of every pair of runs in each set, and how far each run's changes cluster in rows and columns.

    Args:
        seed: of the null draws.
    """
    generator = torch.Generator().manual_seed(seed)
    measured = [compare_runs(runs, settings, generator) for runs in sets]
    write_parquet(pairs, pd.concat([each.pairs for each in measured], ignore_index=True))
    write_parquet(stripes, pd.concat([each.stripes for each in measured], ignore_index=True))


if __name__ == "__main__":
    run(measure_pairs)
