"""Result files: where they are and how they are read, with errors that name the file and the remedy."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pandas as pd

from rlscape.catalogue import runs_of
from rlscape.errors import ResultError
from rlscape.files import read_json
from rlscape.paths import parse_run_name, results_dir
from rlscape.settings.scale import Config

Source = Callable[[Path], Any]
"""Stands for the files: a path below the results -> the table or record there.

Raises:
    ResultError: there is none.
"""

_READS: ContextVar[set[Path] | None] = ContextVar("reads", default=None)
_SOURCE: ContextVar[Source | None] = ContextVar("source", default=None)


@contextmanager
def recorded_reads() -> Iterator[set[Path]]:
    """The result files that are asked for inside the block, the missing ones included."""
    reads: set[Path] = set()
    token = _READS.set(reads)
    try:
        yield reads
    finally:
        _READS.reset(token)


@contextmanager
def read_from(source: Source) -> Iterator[None]:
    """Inside the block, results are what ``source`` says; no file is read."""
    token = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(token)


def require(path: Path) -> Path:
    """``path`` itself if it exists; every result file is asked for here before it is read.

    Raises:
        ResultError: naming the file and the command that makes it.
    """
    if (reads := _READS.get()) is not None:
        reads.add(path)
    if not path.exists():
        raise ResultError(f"{path}: no such result; `snakemake --cores 1 {path}` makes it")
    return path


def read_table(path: Path) -> pd.DataFrame:
    """A parquet file with at least one row.

    Raises:
        ResultError: the file is missing, damaged or empty.
    """
    if (source := _SOURCE.get()) is not None:
        return source(path)
    require(path)
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: not a readable parquet file ({error}); delete it and run again") from None
    if frame.empty:
        raise ResultError(f"{path}: no rows; delete it and run again")
    return frame


def read_record(path: Path) -> dict[str, Any]:
    """A JSON file.

    Raises:
        ResultError: the file is missing or damaged.
    """
    if (source := _SOURCE.get()) is not None:
        return source(path)
    require(path)
    try:
        return read_json(path)
    except ValueError as error:
        raise ResultError(f"{path}: not valid JSON ({error}); delete it and run again") from None


def read_recorded_csv(path: Path, columns: Collection[str], command: str, keep_default_na: bool = True) -> pd.DataFrame:
    """A recorded CSV file that has these columns; ``command`` writes it.

    Raises:
        ResultError: it is no table, or lacks a column.
    """
    try:
        table = pd.read_csv(path, keep_default_na=keep_default_na)
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: not a readable table ({error}); `{command}` writes it again") from None
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise ResultError(f"{path}: no column {', '.join(lacking)}; `{command}` writes it again")
    return table


def tables_of_runs(config: Config, arms: Iterable[str], pattern: str) -> pd.DataFrame:
    """The tables at ``<results>/<scale>/<pattern>`` of all runs of some arms, with run, arm and seed."""
    frames = []
    for run in runs_of(config, arms):
        arm, seed = parse_run_name(run)
        frames.append(read_table(results_dir(config) / pattern.format(run=run)).assign(run=run, arm=arm, seed=seed))
    return pd.concat(frames, ignore_index=True)


def records_of_runs(config: Config, arms: Iterable[str], pattern: str) -> dict[str, dict[str, Any]]:
    """Run -> the JSON file at ``<results>/<scale>/<pattern>``, for all runs of some arms."""
    return {run: read_record(results_dir(config) / pattern.format(run=run)) for run in runs_of(config, arms)}


def chosen_by_pilots(config: Config) -> pd.DataFrame:
    """What pilots chose (``pilots.csv``)."""
    return pd.read_csv(require(results_dir(config) / "pilots.csv"))


def claim_verdicts(config: Config) -> pd.DataFrame:
    """The evaluated register (``claims.csv``)."""
    return pd.read_csv(require(results_dir(config) / "claims.csv"))
