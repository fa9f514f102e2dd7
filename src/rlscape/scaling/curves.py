"""A learning curve, read from a metrics table, with errors that name the file, the column and the remedy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from rlscape.errors import MetricsError
from rlscape.files import read_json
from rlscape.scaling.sigmoid import FloatArray


def positive_error(pass_rate: ArrayLike, error: ArrayLike, samples: ArrayLike) -> FloatArray:
    """Standard errors; where they are zero (all samples agree) or unknown, that of ``(k + 1) / (n + 2)``."""
    pass_rate, error, samples = np.asarray(pass_rate), np.asarray(error), np.asarray(samples)
    smoothed = (pass_rate * samples + 1) / (samples + 2)
    return np.where(error > 0, error, np.sqrt(smoothed * (1 - smoothed) / samples))


@dataclass(frozen=True)
class Curve:
    """Evaluations of a run in order of compute; three arrays of shape (n,). Errors are positive."""

    compute: FloatArray
    pass_rate: FloatArray
    standard_error: FloatArray

    def __len__(self) -> int:
        return len(self.compute)

    def between(self, lowest: float, highest: float = np.inf) -> Self:
        """The evaluations with compute in [lowest, highest], without those at zero compute."""
        kept = (self.compute > 0) & (self.compute >= lowest) & (self.compute <= highest)
        return type(self)(self.compute[kept], self.pass_rate[kept], self.standard_error[kept])


@dataclass(frozen=True)
class Initial:
    """The base model's pass rate, R_0, and its (positive) standard error."""

    pass_rate: float
    standard_error: float


def read_table(
    path: str | Path, columns: tuple[str, ...], filters: list[tuple[str, str, float]] | None = None
) -> pd.DataFrame:
    """Some columns of a parquet file, of the rows that pass the filters only.

    Raises:
        MetricsError: the file is missing, is not parquet, or lacks a column.
    """
    try:
        present = pq.read_schema(path).names
    except FileNotFoundError:
        raise MetricsError(f"{path}: no such file; train the run first") from None
    except pa.ArrowInvalid as error:
        raise MetricsError(f"{path}: not a parquet file ({error}); train the run again") from None
    for column in columns:
        if column not in present:
            raise MetricsError(f"{path}: no column {column!r} (there are {', '.join(present)}); add it")
    return pd.read_parquet(path, columns=list(columns), filters=filters)


def total_compute(path: str | Path) -> float:
    """The compute of the last evaluation; reads no other column.

    Raises:
        MetricsError: there are fewer than two evaluations after step 0.
    """
    compute = read_table(path, ("compute",))["compute"]
    later = int((compute > 0).sum())
    if later < 2:
        raise MetricsError(
            f"{path}: column 'compute' has {later} evaluations after step 0, at least 2 are needed; "
            "run longer or evaluate more often"
        )
    return float(compute.max())


def read_curve(path: str | Path, prefix: str = "", up_to: float | None = None) -> Curve:
    """The run's evaluations, only those up to some compute if it is given: later rows are then not read.

    Args:
        prefix: of the columns of a task other than the run's first.

    Raises:
        MetricsError: a column is missing or holds values that are not finite, or pass rates outside [0, 1].
    """
    of_rate, of_error, of_samples = (prefix + name for name in ("pass_rate", "pass_rate_se", "samples"))
    columns = ("compute", of_rate, of_error, of_samples)
    table = read_table(path, columns, None if up_to is None else [("compute", "<=", up_to)])
    table = table.sort_values("compute", kind="stable")
    for column in ("compute", of_rate, of_samples):
        bad = int((~np.isfinite(table[column].to_numpy(float))).sum())
        if bad:
            raise MetricsError(f"{path}: column {column!r} is not finite in {bad} rows; remove these rows")
    compute, rate, error, samples = (table[column].to_numpy(float) for column in columns)
    if ((rate < 0) | (rate > 1)).any():
        raise MetricsError(f"{path}: column {of_rate!r} leaves [0, 1]; record the fraction of passes")
    if (samples < 1).any():
        raise MetricsError(f"{path}: column {of_samples!r} has values below 1; record the samples per evaluation")
    return Curve(compute, rate, positive_error(rate, error, samples))


def read_identity(path: str | Path) -> dict[str, Any]:
    """``{run, arm, seed}`` of a metrics table."""
    first = read_table(path, ("run", "arm", "seed"), [("compute", "<=", 0)]).head(1)
    if first.empty:
        raise MetricsError(f"{path}: no evaluation at step 0 (compute 0); add the base model's row")
    run, arm, seed = (first[column].item() for column in ("run", "arm", "seed"))
    return {"run": str(run), "arm": str(arm), "seed": int(seed)}


def read_initial(path: str | Path, prefix: str) -> Initial:
    """R_0 of a task from a base model's evaluation file, where its keys have this prefix.

    Raises:
        MetricsError: the file is missing or lacks a key.
    """
    try:
        values: Mapping[str, Any] = read_json(path)
        rate, error, samples = (values[prefix + name] for name in ("pass_rate", "standard_error", "samples"))
    except FileNotFoundError:
        raise MetricsError(f"{path}: no such file; evaluate the base model first") from None
    except KeyError as key:
        raise MetricsError(f"{path}: key {key} is missing; evaluate the base model again") from None
    return Initial(rate, float(positive_error(rate, error, samples)))
