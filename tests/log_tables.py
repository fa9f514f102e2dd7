"""A training log of one run as a table, its files, and what is said of them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.errors import MetricsError
from rlscape.tools.curves.logs import Log, read_logs

STEPS = np.arange(0, 50, 10)
REWARDS = np.array([0.1, 0.2, 0.4, 0.5, 0.55])


def written(path: Path, text: str) -> Path:
    """A file with this text; its directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def table(**columns: object) -> pd.DataFrame:
    """``step`` and ``reward``, and further columns."""
    return pd.DataFrame({"step": STEPS, "reward": REWARDS} | columns)


def rows_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    return json.loads(frame.to_json(orient="records"))


def assert_expected(log: Log, name: str = "log") -> None:
    """One run, of :func:`table`."""
    (run,) = log.series
    assert run.name == name
    assert np.array_equal(run.x, STEPS) and np.allclose(run.y, REWARDS)


def refused(*paths: Path, **options: object) -> str:
    """The message with which the files are refused."""
    with pytest.raises(MetricsError) as error:
        read_logs(paths, **options)  # type: ignore[arg-type]
    return str(error.value)


def write(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
