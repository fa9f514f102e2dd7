"""Files of rows that trainers write, recognised by how they begin: their columns, and how to read some of them.

CSV (also with tabs or semicolons), parquet, JSON lines, a JSON list of rows, a Hugging Face ``trainer_state.json``
(``log_history``: rows of training and of evaluation between one another), and the CSV that the Weights & Biases
interface exports (``Step``, then ``<run> - <metric>``, ``..__MIN`` and ``..__MAX`` for every run). Only the columns
that are asked for are parsed.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rlscape.errors import MetricsError
from rlscape.scaling.sigmoid import FloatArray

MISSING = ("", "nan", "NaN", "NAN", "na", "NA", "n/a", "N/A", "null", "NULL", "none", "None")
"""Cells that hold no value."""
DELIMITERS = (",", "\t", ";")
NUMBER_TYPES = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
SHOWN_COLUMNS = 40
"""Columns that an error lists at most."""
FORMATS = "CSV, JSON lines, parquet, trainer_state.json and the CSV export of Weights & Biases"


@dataclass(frozen=True)
class Rows:
    """Columns of numbers (rows,), NaN where there is none, and which run each row belongs to."""

    numbers: Mapping[str, FloatArray]
    labels: tuple[str | None, ...] = ("",)
    codes: NDArray[np.intp] | None = None
    """(rows,), indices into ``labels``; None: all rows are of one run."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A file that has been recognised: its columns, and how to read some of them."""

    path: Path
    columns: tuple[str, ...]
    load: Callable[[Sequence[str], str | None], Rows]
    """Numeric columns and the column of labels, if one is wanted -> rows."""
    mixed: bool = False
    """Rows of other metrics lie in between: a row without y is no defect."""
    exported: tuple[str, ...] = ()
    """The columns ``<run> - <metric>`` of a Weights & Biases export, whose rows come with their runs as labels."""
    notes: tuple[str, ...] = ()


def listed(names: Iterable[str]) -> str:
    """Names for a message, not too many of them."""
    names = list(filter(None, names))
    more = f", ... ({len(names) - SHOWN_COLUMNS} more)" if len(names) > SHOWN_COLUMNS else ""
    return ", ".join(names[:SHOWN_COLUMNS]) + more


def _number(value: object) -> float:
    """A cell as a number; ValueError if it is none."""
    if value is None:
        return np.nan
    if isinstance(value, str):
        return np.nan if value.strip() in MISSING else float(value)
    if isinstance(value, (bool, int, float)):
        return float(value)
    raise ValueError


def _numbers(path: Path, column: str, values: Iterable[object]) -> FloatArray:
    """Cells as numbers; the slow way, which can say which cell is none."""
    converted = []
    for row, value in enumerate(values, start=1):
        try:
            converted.append(_number(value))
        except ValueError:
            shown = str(value)[:40]
            raise MetricsError(
                f"{path}: column {column!r}, row {row}: {shown!r} is not a number; "
                "mend the row or choose other columns: --x COLUMN --y COLUMN"
            ) from None
    return np.array(converted, dtype=float)


def _labelled(
    numbers: Mapping[str, FloatArray], labels: pa.Array | pa.ChunkedArray | None, notes: tuple[str, ...] = ()
) -> Rows:
    if labels is None:
        return Rows(numbers, notes=notes)
    array = labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels
    encoded = array.cast(pa.string()).dictionary_encode(null_encoding="encode")
    return Rows(numbers, tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy().astype(np.intp), notes)


def _position(path: Path, columns: Sequence[str], column: str) -> int:
    """The position of a column."""
    if columns.count(column) > 1:
        raise MetricsError(f"{path}: {columns.count(column)} columns are called {column!r}; rename all but one")
    return columns.index(column)


def _open_parquet(path: Path) -> Table:
    try:
        columns = tuple(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise MetricsError(f"{path}: not a complete parquet file ({error}); write it again") from None

    def load(numeric: Sequence[str], label: str | None) -> Rows:
        table = pq.read_table(path, columns=[*dict.fromkeys([*numeric, *([label] if label else [])])])
        numbers = {}
        for column in numeric:
            values = table[column]
            plain = any(is_kind(values.type) for is_kind in NUMBER_TYPES)
            numbers[column] = (
                values.cast(pa.float64(), safe=False).to_numpy().astype(float)
                if plain
                else _numbers(path, column, values.to_pylist())
            )
        return _labelled(numbers, table[label] if label else None)

    return Table(path, columns, load)


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one: ``{"eval": {"reward": 1}}`` -> ``{"eval.reward": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _of_objects(path: Path, rows: Sequence[object], notes: tuple[str, ...] = ()) -> Table:
    """Rows that are JSON objects, not all with the same keys."""
    flat = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise MetricsError(f"{path}: row {number} is not a JSON object; each row is one, such as {{'step': 1}}")
        flat.append(_flat(row))
    if not flat:
        raise MetricsError(f"{path}: no rows; the run has logged nothing yet, or this is not its log")

    def load(numeric: Sequence[str], label: str | None) -> Rows:
        numbers = {column: _numbers(path, column, (row.get(column) for row in flat)) for column in numeric}
        labels = None
        if label:
            cells = (row.get(label) for row in flat)
            labels = pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
        return _labelled(numbers, labels)

    return Table(path, tuple(dict.fromkeys(key for row in flat for key in row)), load, mixed=True, notes=notes)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _open_json(path: Path) -> Table:
    """A ``trainer_state.json``, a list of rows, or one row per line."""
    text = path.read_text(encoding="utf-8-sig").strip()
    first, _, further = text.partition("\n")
    if further and _is_json(first):
        return _open_json_lines(path, text)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise MetricsError(f"{path}: not complete JSON ({error}); copy the file again") from None
    if isinstance(values, Mapping) and "log_history" in values:
        values = values["log_history"]
    elif isinstance(values, Mapping) and path.suffix == ".jsonl":
        values = [values]
    if isinstance(values, list):
        return _of_objects(path, values)
    there = f" (there are {listed(values)})" if isinstance(values, Mapping) else ""
    raise MetricsError(f"{path}: neither 'log_history' nor a list of rows{there}; readable are {FORMATS}")


def _open_json_lines(path: Path, text: str) -> Table:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    rows: list[object] = []
    notes: tuple[str, ...] = ()
    for number, line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number != lines[-1][0]:
                raise MetricsError(f"{path}: line {number} is not JSON ({error.msg}); mend or remove it") from None
            notes = (f"{path}: the last line is cut off and was dropped",)
    return _of_objects(path, rows, notes)


def _header(path: Path) -> tuple[tuple[str, ...], str]:
    """The names in the first line of a CSV file, and its delimiter."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
    if "\0" in first:
        raise MetricsError(f"{path}: not a text file; readable are {FORMATS}")
    delimiter = max(DELIMITERS, key=first.count)
    columns = tuple(name.strip() for name in next(csv.reader([first], delimiter=delimiter, skipinitialspace=True), []))
    if len(columns) < 2:
        raise MetricsError(
            f"{path}: the first line names no two columns ({first.strip()[:60]!r}); readable are {FORMATS}"
        )
    try:
        [_number(name) for name in columns]
    except ValueError:
        return columns, delimiter
    raise MetricsError(f"{path}: the first line holds numbers ({first.strip()[:60]!r}); add a line with column names")


def _read_csv(
    path: Path, positions: Sequence[int], kind: pa.DataType, columns: int, delimiter: str
) -> tuple[pa.Table, tuple[str, ...]]:
    """Some columns of a CSV file, named by their positions and all of one type (labels: strings); and notes."""
    bad: list[pa_csv.InvalidRow] = []

    def note_bad(row: pa_csv.InvalidRow) -> str:
        bad.append(row)
        return "skip"

    def read(threads: bool) -> pa.Table:
        bad.clear()
        return pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(
                column_names=[str(position) for position in range(columns)], skip_rows=1, use_threads=threads
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note_bad
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={str(position): kind for position in positions},
                include_columns=[str(position) for position in positions],
                null_values=list(MISSING),
                strings_can_be_null=True,
            ),
        )

    table = read(threads=True)
    if not bad:
        return table, ()
    table = read(threads=False)  # with threads, rows have no numbers
    row = (bad[0].number or 0) - 1
    if len(bad) == 1 and row == len(table) + 1 and bad[0].actual_columns < columns:
        return table, (f"{path}: the last row is cut off and was dropped",)
    raise MetricsError(
        f"{path}: row {row} has {bad[0].actual_columns} cells where the first line names {columns} columns; mend it"
    )


def _csv_numbers(
    path: Path, positions: Mapping[str, int], columns: int, delimiter: str
) -> tuple[dict[str, FloatArray], tuple[str, ...]]:
    """Columns of a CSV file as numbers, and notes."""
    try:
        at = [*dict.fromkeys(positions.values())]
        try:
            table, notes = _read_csv(path, at, pa.float64(), columns, delimiter)
            return {name: table[str(at)].to_numpy().astype(float) for name, at in positions.items()}, notes
        except pa.ArrowInvalid:
            table, notes = _read_csv(path, at, pa.string(), columns, delimiter)
            return {name: _numbers(path, name, table[str(at)].to_pylist()) for name, at in positions.items()}, notes
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise MetricsError(f"{path}: cannot be read as CSV ({error}); readable are {FORMATS}") from None


def _open_csv(path: Path) -> Table:
    columns, delimiter = _header(path)
    runs = _exported_runs(columns)
    if runs:
        return _open_export(path, columns, delimiter, runs)

    def load(numeric: Sequence[str], label: str | None) -> Rows:
        positions = {name: _position(path, columns, name) for name in numeric}
        numbers, notes = _csv_numbers(path, positions, len(columns), delimiter)
        if label is None:
            return Rows(numbers, notes=notes)
        at = _position(path, columns, label)
        return _labelled(numbers, _read_csv(path, [at], pa.string(), len(columns), delimiter)[0][str(at)], notes)

    return Table(path, columns, load)


def _exported_runs(columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Column -> (run, metric) of a Weights & Biases export; empty if it is none."""
    values = [name for name in columns[1:] if " - " in name and not name.endswith(("__MIN", "__MAX"))]
    if not values or not (columns[0] == "Step" or any(f"{name}__MIN" in columns for name in values)):
        return {}
    parts = {name: name.rsplit(" - ", 1) for name in values}
    return {name: (run, metric) for name, (run, metric) in parts.items()}


def _open_export(
    path: Path, columns: tuple[str, ...], delimiter: str, exported: Mapping[str, tuple[str, str]]
) -> Table:
    """A Weights & Biases export as rows of (run, metrics): the runs lie below one another."""
    runs = tuple(dict.fromkeys(run for run, _ in exported.values()))
    plain = [name for name in columns if " - " not in name]

    def column_of(run: str, name: str) -> str | None:
        if name in plain or name in exported and exported[name][0] == run:
            return name
        full = f"{run} - {name}"
        return full if full in exported else None

    def load(numeric: Sequence[str], label: str | None) -> Rows:
        found = {run: [column_of(run, name) for name in numeric] for run in runs}
        complete = {run: [name for name in names if name] for run, names in found.items() if all(names)}
        if not complete:
            return Rows(dict.fromkeys(numeric, np.empty(0)))
        wanted = dict.fromkeys(name for names in complete.values() for name in names)
        positions = {name: _position(path, columns, name) for name in wanted}
        numbers, notes = _csv_numbers(path, positions, len(columns), delimiter)
        stacked = {
            name: np.concatenate([numbers[names[index]] for names in complete.values()])
            for index, name in enumerate(numeric)
        }
        codes = np.repeat(np.arange(len(complete)), len(next(iter(numbers.values()))))
        return Rows(stacked, tuple(complete), codes, notes)

    metrics = dict.fromkeys(metric for _, metric in exported.values())
    return Table(path, (*plain, *metrics), load, mixed=True, exported=tuple(exported))


def open_table(path: Path) -> Table:
    """Recognise a file by what it begins with.

    Raises:
        MetricsError: it cannot be read, or is of no known format.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096)
        if start.startswith(b"PAR1") or path.suffix == ".parquet":
            return _open_parquet(path)
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if not text:
            raise MetricsError(f"{path}: the file is empty; the run has logged nothing yet")
        if text[:1] in (b"{", b"[") or path.suffix in (".json", ".jsonl"):
            return _open_json(path)
        return _open_csv(path)
    except FileNotFoundError:
        raise MetricsError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        state = path / "trainer_state.json"
        remedy = f"did you mean {state}?" if state.exists() else "name a file in it"
        raise MetricsError(f"{path}: a directory; {remedy}") from None
    except UnicodeDecodeError:
        raise MetricsError(f"{path}: not a text file; readable are {FORMATS}") from None
    except OSError as error:
        raise MetricsError(f"{path}: cannot be read ({error.strerror or error})") from None
