"""The loss around a base model, as measured: a slice through two trained models, and curvature."""

import numpy as np
import pandas as pd

from rlscape.catalogue import curved_bases
from rlscape.paths import results_dir
from rlscape.results.files import read_table
from rlscape.settings.scale import Config

WHOLE = "all"
"""The tensor of directions in all weights at once."""


def landscape(config: Config) -> pd.DataFrame:
    """Rows of kind grid and path (``geometry/landscape.parquet``, by :mod:`rlscape.pipeline.measure_landscape`)."""
    return read_table(results_dir(config) / "geometry" / "landscape.parquet")


def curvature(config: Config) -> pd.DataFrame:
    """A row per base, direction and batch (``geometry/curvature-<base>.parquet``), with the kind of ``matrix``."""
    table = pd.concat(
        (
            read_table(results_dir(config) / "geometry" / f"curvature-{base}.parquet").assign(base=base)
            for base in curved_bases(config)
        ),
        ignore_index=True,
    )
    return table.assign(matrix=table["tensor"].str.extract(r"\.(\w+?)_proj\.", expand=False))


def relative_quotients(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean quotient of each group over that of isotropic directions (tr G / N) in the same tensor and batch, as log2.

    Returns:
        A row per base, tensor, batch and group: base, tensor, matrix, batch, the columns of ``by``, ``value``.
    """
    identity = ["base", "tensor", "matrix", "batch"]
    isotropic = table[table["direction"] == "isotropic"].groupby(["base", "tensor", "batch"])["quotient"].mean()
    means = table[table["direction"] != "isotropic"].groupby([*identity, *by], dropna=False)["quotient"].mean()
    frame = means.reset_index()
    reference = isotropic.reindex(pd.MultiIndex.from_frame(frame[["base", "tensor", "batch"]])).to_numpy()
    return frame.assign(value=np.log2(frame["quotient"].to_numpy() / reference)).drop(columns="quotient")


def block_contrast(table: pd.DataFrame, direction: str) -> pd.Series:
    """log2 of the mean quotient in the principal block over that off it, mean over matrices; by base and batch.

    ``coordinate`` directions are compared within magnitude bins. Bins or matrices that lack one side are left out.
    """
    rows = table[table["direction"] == direction]
    by = ["base", "batch", "tensor", *(["bin"] if direction == "coordinate" else [])]
    blocks = rows.groupby([*by, "block"])["quotient"].mean().unstack("block")
    return np.log2(blocks["principal"] / blocks["off"]).groupby(["base", "batch"]).mean()


def index_correlation(table: pd.DataFrame) -> pd.Series:
    """Spearman correlation of the quotient of ``u_i v_j^T`` with i + j, mean over matrices; by base and batch."""
    rows = table[table["direction"] == "singular"].astype({"i": float, "j": float})
    rows["position"] = rows["i"] + rows["j"]
    matrices = rows.groupby(["base", "batch", "tensor"])[["position", "quotient"]]
    correlations = matrices.apply(lambda of: of["position"].corr(of["quotient"], method="spearman"))
    return correlations.groupby(["base", "batch"]).mean()
