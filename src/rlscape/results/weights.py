"""Weight geometry, as measured and averaged over matrices."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from rlscape.paths import parse_run_name
from rlscape.results.files import records_of_runs, tables_of_runs
from rlscape.settings.scale import Config

NULLS = ("isotropic", "shuffled", "spectrum", "binned")
"""The nulls of an overlap; see :mod:`rlscape.geometry.nulls`."""
NULLS_AT_HALF = ("shuffled", "spectrum", "binned")
"""Those of an overlap where half of the entries change."""


def matrices(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Weight geometry, a row per matrix of every run (``geometry/<run>/matrices.parquet``)."""
    return tables_of_runs(config, arms, "geometry/{run}/matrices.parquet")


def spectra(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Singular values and angles, a row per matrix and index (``geometry/<run>/spectra.parquet``)."""
    return tables_of_runs(config, arms, "geometry/{run}/spectra.parquet")


def geometry_summaries(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Sparsity, x and sizes, a row per run and part of the model (``geometry/<run>/summary.json``)."""
    rows = []
    for run, record in records_of_runs(config, arms, "geometry/{run}/summary.json").items():
        arm, seed = parse_run_name(run)
        rows += [{"run": run, "arm": arm, "seed": seed, "part": part} | values for part, values in record.items()]
    return pd.DataFrame(rows)


def in_blocks(matrices: pd.DataFrame) -> pd.DataFrame:
    """The rows inside transformer blocks (no embedding, no head), by integer layer: names have 10 before 2."""
    return matrices[matrices["layer"].notna()].astype({"layer": int}).sort_values("layer", kind="stable")


def pooled_overlaps(matrices: pd.DataFrame, mask: str, by: list[str], *, half: bool = False) -> pd.DataFrame:
    """Overlap with a mask over all matrices of a group: shares of the group's changed entries.

    With ``half`` every update is scaled until half of the entries of its matrix change, and so are the nulls.

    A group's overlap is the mean over its matrices, weighted by their changed entries; so are chance and
    the nulls. Half-widths of null ranges add in quadrature (independent draws).
    A group without any change is NaN.

    Returns:
        A row per group: the columns of ``by``, ``value, chance`` and ``<null>, <null>_low, <null>_high``.
    """
    at, names = ("_half", NULLS_AT_HALF) if half else ("", NULLS)
    column, density = f"overlap{at}_{mask}", f"density{at}"

    def pool(group: pd.DataFrame) -> pd.Series:
        changed = group[density] * group["m"] * group["n"]
        measured = changed > 0
        group, share = group[measured], (changed / changed.sum())[measured]

        def mean_of(name: str) -> float:
            return (share * group[name]).sum(min_count=1)

        pooled = {"value": mean_of(column), "chance": mean_of(f"{column}_chance")}
        for null in names:
            mean = mean_of(f"{column}_{null}")
            half_width = (group[f"{column}_{null}_high"] - group[f"{column}_{null}_low"]) / 2
            margin = float(np.sqrt(((share * half_width) ** 2).sum()))
            pooled |= {null: mean, f"{null}_low": mean - margin, f"{null}_high": mean + margin}
        return pd.Series(pooled)

    return in_blocks(matrices).groupby(by, sort=False)[list(matrices.columns)].apply(pool).reset_index()
