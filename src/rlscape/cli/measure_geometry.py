"""Measure a model against its base: ``python -m rlscape.cli.measure_geometry --base DIR --model DIR ...``.

Writes matrices.parquet, spectra.parquet, masks.npz and summary.json; an error leaves earlier files as they are.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from rlscape.cli.common import fail_clearly, parse_settings, start_logging
from rlscape.config import GeometrySettings
from rlscape.files import atomic, write_json, write_parquet
from rlscape.geometry.measure import measure_update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True, type=Path, help="directory of the base model")
    parser.add_argument("--model", required=True, type=Path, help="directory of the fine-tuned model")
    parser.add_argument("--settings", required=True, help="GeometrySettings as JSON")
    parser.add_argument("--seed", required=True, type=int, help="of the null draws")
    parser.add_argument("--output", required=True, type=Path, help="directory")
    arguments = parser.parse_args()

    start_logging()
    torch.set_num_threads(1)
    settings = parse_settings(GeometrySettings, arguments.settings)
    random = torch.Generator().manual_seed(arguments.seed)
    measured = measure_update(arguments.base, arguments.model, settings, random)
    write_parquet(arguments.output / "matrices.parquet", measured.matrices)
    write_parquet(arguments.output / "spectra.parquet", measured.spectra)
    with atomic(arguments.output / "masks.npz") as path, path.open("wb") as file:
        np.savez_compressed(file, **measured.masks)  # type: ignore[arg-type]
    write_json(arguments.output / "summary.json", measured.summary)


if __name__ == "__main__":
    fail_clearly(main)
