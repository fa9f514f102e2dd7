"""Files are complete or absent."""

from pathlib import Path

import pandas as pd
import pytest

from rlscape.files import write_rows


def test_rows_come_back_as_a_table(tmp_path: Path) -> None:
    rows = [{"run": "a", "step": 0, "rate": 0, "done": False}, {"run": "b", "step": 2, "rate": 0.5, "done": True}]
    write_rows(tmp_path / "rows.parquet", rows)
    frame = pd.read_parquet(tmp_path / "rows.parquet")
    assert frame.to_dict("records") == rows
    assert [str(dtype) for dtype in frame.dtypes[1:]] == ["int64", "float64", "bool"]


@pytest.mark.parametrize("rows", [[], [{"step": 0}, {"step": 1, "rate": 0.5}]])
def test_rows_of_other_keys_are_no_table(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="rows.parquet: rows need the same keys"):
        write_rows(tmp_path / "rows.parquet", rows)
    assert not list(tmp_path.iterdir())
