"""Measure a model against its base."""

from pathlib import Path

import numpy as np
import torch

from rlscape.files import atomic, write_json, write_parquet
from rlscape.geometry.discarded import cosine_to_discarded
from rlscape.geometry.measure import measure_update
from rlscape.pipeline.entry import run
from rlscape.settings.measurement import GeometrySettings


def measure_geometry(
    base: Path, model: Path, settings: GeometrySettings, seed: int, output: Path, discarded: Path | None = None
) -> None:
    """Write matrices.parquet, spectra.parquet, masks.npz and summary.json; an error leaves earlier files as they are.

    Args:
        seed: of the null draws.
        discarded: directory of what rounding took from the base, if it was rounded.
    """
    measured = measure_update(base, model, settings, torch.Generator().manual_seed(seed))
    if discarded:
        measured.summary["linear"]["cosine_to_discarded"] = cosine_to_discarded(base, model, discarded)
    write_parquet(output / "matrices.parquet", measured.matrices)
    write_parquet(output / "spectra.parquet", measured.spectra)
    with atomic(output / "masks.npz") as path, path.open("wb") as file:
        np.savez_compressed(file, **measured.masks)  # type: ignore[arg-type]
    write_json(output / "summary.json", measured.summary)


if __name__ == "__main__":
    run(measure_geometry)
