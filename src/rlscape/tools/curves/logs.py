"""Training logs of any trainer, read into curves: one :class:`Series` per run.

The files may be of any format in :mod:`rlscape.tools.curves.log_files`.

Columns that are not named are chosen among :data:`X_NAMES` and :data:`Y_NAMES`, the first that the log has; names are
compared in lower case and with ``/``, ``.``, ``-`` and spaces as ``_``, so that ``eval/pass_rate`` is
``eval_pass_rate``. Evaluations come before training values of the same quantity, as P1 fits validation. What was
chosen, dropped, merged and sorted is said in ``Log.notes``; nothing is repaired in silence.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlscape.errors import MetricsError
from rlscape.scaling.sigmoid import FloatArray
from rlscape.tools.curves.log_files import Rows, Table, listed, open_table

X_NAMES = (
    *("compute", "flops", "total_flops", "total_flos", "gpu_hours"),
    *("num_input_tokens_seen", "tokens_seen", "num_tokens", "total_tokens", "tokens", "train_tokens"),
    *("step", "global_step", "_step", "train_global_step", "training_step", "train_step", "iteration", "epoch"),
)
"""Columns taken as x, in this order; each counts from the start of the run."""
SPLITS = ("eval_", "val_", "validation_", "")
Y_NAMES = (
    *(split + name for name in ("pass_rate", "pass@1", "accuracy", "acc", "success_rate") for split in SPLITS),
    *("eval_*pass_rate", "eval_*pass@1", "eval_*accuracy", "val_core_*"),
    *(split + name for name in ("score", "reward", "reward_mean", "mean_reward") for split in SPLITS),
    *("eval_*reward", "eval_rewards_*", "rewards_*", "*critic_score_mean", "*critic_rewards_mean"),
)
"""Columns (patterns) taken as y, in this order; a pattern that several columns match chooses none."""
NOT_Y = ("*_std", "*_std_dev", "*_se", "*_stderr", "*_min", "*_max", "*_per_second")
SAMPLES_NAME = "samples"
SEED_NAME = "seed"


@dataclass(frozen=True)
class Series:
    """One run (one seed): n evaluations in order of x."""

    name: str
    """The file's stem, the run of a Weights & Biases export, or the value of the column that tells seeds apart."""
    x: FloatArray
    """(n,), strictly increasing, at least 0."""
    y: FloatArray
    """(n,), finite, in the log's own units."""
    samples: FloatArray | None
    """(n,), the samples behind each y; None if unknown."""


@dataclass(frozen=True)
class Log:
    """The runs of one recipe."""

    series: tuple[Series, ...]
    x_column: str
    y_column: str
    notes: tuple[str, ...]
    """What was chosen, dropped, merged or sorted, per file."""


# Columns


def normal_name(column: str) -> str:
    """A column's name as :data:`X_NAMES` and :data:`Y_NAMES` spell it."""
    return re.sub(r"[/.\- ]", "_", column.strip().lower())


def _common(tables: Sequence[Table]) -> list[str]:
    """The columns that every table has."""
    return [name for name in dict.fromkeys(tables[0].columns) if all(name in table.columns for table in tables)]


def _require(tables: Sequence[Table], column: str, option: str) -> None:
    for table in tables:
        if column not in table.columns and column not in table.exported:
            raise MetricsError(
                f"{table.path}: no column {column!r} (there are {listed(table.columns)}); choose one: {option} COLUMN"
            )


def _choose_y(tables: Sequence[Table]) -> str:
    """The column of y, if it was not named."""
    columns = [name for name in _common(tables) if not any(fnmatchcase(normal_name(name), no) for no in NOT_Y)]
    for pattern in Y_NAMES:
        matches = [name for name in columns if fnmatchcase(normal_name(name), pattern)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise _no_choice(tables, f"several columns could be y ({listed(matches)})")
    raise _no_choice(tables, "no column is known as a pass rate, accuracy or reward")


def _no_choice(tables: Sequence[Table], reason: str) -> MetricsError:
    shared = "in all files there are" if len(tables) > 1 else "there are"
    columns = listed(_common(tables)) or "none"
    return MetricsError(f"{tables[0].path}: {reason}; choose: --x COLUMN --y COLUMN ({shared}: {columns})")


def _candidates_for_x(tables: Sequence[Table], y: str) -> list[str]:
    """The columns that may be x, best first."""
    known = {name: normal_name(name) for name in _common(tables) if name != y}
    candidates = [name for wanted in X_NAMES for name, normal in known.items() if normal == wanted]
    if not candidates:
        raise _no_choice(tables, "no column is known as compute, tokens or steps")
    return candidates


def _load(
    tables: Sequence[Table], x: str | None, y: str, further: Sequence[str], seeds: Mapping[Path, str]
) -> tuple[str, list[Rows]]:
    """The rows of every table, and the column of x: the first that at least half of the rows of y have."""
    for column in [x] if x else _candidates_for_x(tables, y):
        rows = [table.load([column, y, *further], seeds.get(table.path)) for table in tables]
        with_y = [~np.isnan(row.numbers[y]) for row in rows]
        has_x = (
            not some.any() or np.isfinite(row.numbers[column][some]).mean() >= 0.5
            for row, some in zip(rows, with_y, strict=True)
        )
        if x or all(has_x):
            return column, rows
    raise _no_choice(tables, f"no known column of x has values where {y!r} has")


# Cleaning


def _count(number: int, singular: str = "row") -> str:
    return f"{number} {singular}" + ("" if number == 1 else "s")


def _usable(path: Path, rows: Rows, x: str, y: str, mixed: bool) -> tuple[NDArray[np.bool_], list[str]]:
    """Which rows have finite x and y, and notes on the others."""
    of_x, of_y = rows.numbers[x], rows.numbers[y]
    has_y = ~np.isnan(of_y)
    infinite = has_y & (np.isinf(of_x) | np.isinf(of_y))
    no_x = has_y & np.isnan(of_x)
    usable = has_y & ~infinite & ~no_x
    if not usable.any():
        raise MetricsError(
            f"{path}: no row has numbers in both {x!r} and {y!r}; choose other columns: --x COLUMN --y COLUMN"
        )
    negative = usable & (of_x < 0)
    if negative.any():
        row = int(negative.argmax())
        raise MetricsError(
            f"{path}: column {x!r}, row {row + 1}: {of_x[row]:g} is negative; x counts from the start of the run: "
            "remove the row or choose another --x COLUMN"
        )
    reasons = {
        f"without a value of {y!r}": 0 if mixed else int((~has_y).sum()),
        f"without a value of {x!r}": int(no_x.sum()),
        "with infinite values": int(infinite.sum()),
    }
    dropped = [f"{path}: {_count(number)} {reason} dropped" for reason, number in reasons.items() if number]
    return usable, dropped


def _series(name: str, x: FloatArray, y: FloatArray, samples: FloatArray | None) -> tuple[Series, int, int, int]:
    """A run in order of x, the last row of each x; how many rows were merged, how many values of x occur several
    times, and how often x falls in the file."""
    falls = int((np.diff(x) < 0).sum())
    if falls:
        order = np.argsort(x, kind="stable")
        x, y, samples = x[order], y[order], None if samples is None else samples[order]
    last = np.append(np.diff(x) > 0, True)
    first = np.append(True, last[:-1])
    repeated = int((last & ~first).sum())
    merged = int((~last).sum())
    return Series(name, x[last], y[last], None if samples is None else samples[last]), merged, repeated, falls


def _label_name(column: str | None, label: str) -> str:
    """``"0"`` in the column ``seed`` -> ``"seed 0"``; other values speak for themselves."""
    try:
        value = float(label)
    except ValueError:
        return label
    return f"{column} {value:g}" if column else label


def _clean(
    table: Table, rows: Rows, x: str, y: str, samples: str | None, seeds: str | None, label: str
) -> tuple[list[Series], list[str]]:
    """The runs in one file, and notes on what was done to them."""
    path = table.path
    usable, notes = _usable(path, rows, x, y, table.mixed)
    notes = [*table.notes, *rows.notes, *notes]
    columns = [rows.numbers[name][usable] for name in (x, y, *([samples] if samples else []))]
    codes = None if rows.codes is None else rows.codes[usable]
    series, merged, falls = [], 0, 0
    for code in [0] if codes is None else np.unique(codes).tolist():
        of_x, of_y, *of_samples = columns if codes is None else [column[codes == code] for column in columns]
        name = label if codes is None else _label_name(seeds, str(rows.labels[code]))
        run, more, repeated, down = _series(name, of_x, of_y, of_samples[0] if of_samples else None)
        if repeated == len(run.x) > 1:
            raise MetricsError(
                f"{path}: every value of {x!r} occurs several times: these rows are of several runs; name the column "
                "that tells them apart: --seeds COLUMN (if a run was started anew, remove its first rows)"
            )
        series.append(run)
        merged, falls = merged + more, falls + down
    if merged:
        notes.append(f"{path}: {_count(merged)} dropped whose {x!r} occurs again later (the last row is kept)")
    if falls:
        notes.append(
            f"{path}: sorted by {x!r}, which falls {_count(falls, 'time')} in the file (if it counts per step and not "
            "from the start, choose another --x COLUMN)"
        )
    if codes is not None and seeds is None and (empty := len(set(rows.labels)) - len(series)):
        notes.append(f"{path}: {_count(empty, 'run')} without values of {y!r} left out")
    return series, notes


def _unfit_samples(series: Sequence[Series], chosen: bool) -> str:
    """Why a column does not count the samples behind each evaluation; empty if it may, as one that rises if chosen."""
    counts = [run.samples for run in series if run.samples is not None]
    if not all((count >= 1).all() for count in counts):  # also where it is NaN
        return "is missing or below 1 in some rows"
    if not chosen and all(len(count) > 2 and (np.diff(count) > 0).all() for count in counts):
        return "rises from row to row, as a running total does"
    return ""


# Names


def file_labels(paths: Sequence[Path]) -> list[str]:
    """A short name per file: the stem, or as much of the path as tells them apart."""
    parts = [path.resolve().with_suffix("").parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-depth:]) for part in parts]
        if len(set(labels)) == len(labels):
            break
    same_stem = depth > 1 and len({part[-1] for part in parts}) == 1
    return [label.rpartition("/")[0] if same_stem else label for label in labels]


def _name_apart(groups: Sequence[Sequence[Series]], labels: Sequence[str]) -> tuple[Series, ...]:
    """All series, under names that occur once: with that of their file where they would not."""
    names = [run.name for group in groups for run in group]
    if len(set(names)) < len(names):
        groups = [
            [replace(run, name=f"{label}/{run.name}") for run in group]
            for group, label in zip(groups, labels, strict=True)
        ]
    return tuple(run for group in groups for run in group)


# Public


def read_logs(
    paths: Sequence[Path],
    x: str | None = None,
    y: str | None = None,
    samples: str | int | None = None,
    seeds: str | None = None,
) -> Log:
    """The runs in some files: one file per seed, or several in one file.

    Args:
        paths: the files of one recipe.
        x, y: columns; None chooses among :data:`X_NAMES` and :data:`Y_NAMES`. Of a Weights & Biases export, a metric
            (all runs) or a full column (one run).
        samples: the column of samples per evaluation, or their number; None takes the column ``samples``, if any.
        seeds: the column that tells runs apart; None takes ``seed`` where it has several values.

    Raises:
        MetricsError: a file or a column cannot be used; the message names it and the remedy.
    """
    paths = [Path(path) for path in paths]
    if not paths:
        raise MetricsError("no log files; name at least one")
    for path in paths:
        if sum(path.resolve() == other.resolve() for other in paths) > 1:
            raise MetricsError(f"{path}: given twice; a run counts once")
    number = int(samples) if samples is not None and str(samples).isdigit() else None
    if number is not None and number < 1:
        raise MetricsError(f"samples: {number} is below 1; give the samples behind each evaluation: --samples N")
    tables = [open_table(path) for path in paths]
    for column, option in ((x, "--x"), (y, "--y"), (seeds, "--seeds")):
        if column is not None:
            _require(tables, column, option)
    y_column = y or _choose_y(tables)
    of_samples = None
    if isinstance(samples, str) and number is None:
        _require(tables, samples, "--samples")
        of_samples = samples
    elif samples is None and SAMPLES_NAME in _common(tables) and SAMPLES_NAME not in (x, y_column):
        of_samples = SAMPLES_NAME

    of_seeds = {table.path: name for table in tables if (name := seeds or _seed_column(table))}
    x_column, rows = _load(tables, x, y_column, [of_samples] if of_samples else [], of_seeds)
    labels = file_labels(paths)
    rows, labels = _settle_seeds(tables, rows, y_column, labels, of_seeds, chosen=seeds is not None)
    chosen = [f"{name}: column {column!r}" for name, column in (("x", x_column), ("y", y_column))]
    notes = [", ".join(chosen) + ("" if x and y else " (--x and --y choose others)")]
    groups = []
    for table, row, label in zip(tables, rows, labels, strict=True):
        group, more = _clean(table, row, x_column, y_column, of_samples, of_seeds.get(table.path), label)
        notes += more
        if of_samples and (reason := _unfit_samples(group, chosen=isinstance(samples, str))):
            if isinstance(samples, str):
                raise MetricsError(
                    f"{table.path}: column {of_samples!r} {reason}; name a column of the samples behind each "
                    "evaluation, or their number: --samples N"
                )
            notes.append(f"{table.path}: column {of_samples!r} is not used as samples: it {reason}")
            group = [replace(run, samples=None) for run in group]
        if number is not None:
            group = [replace(run, samples=np.full(len(run.x), float(number))) for run in group]
        groups.append(group)
    return Log(_name_apart(groups, labels), x_column, y_column, tuple(notes))


def _seed_column(table: Table) -> str | None:
    return next((name for name in table.columns if normal_name(name) == SEED_NAME), None)


def _settle_seeds(
    tables: Sequence[Table],
    rows: Sequence[Rows],
    y: str,
    labels: Sequence[str],
    seeds: Mapping[Path, str],
    chosen: bool,
) -> tuple[list[Rows], list[str]]:
    """Rows whose labels are used, and names of the files.

    A column ``seed`` that the user has not named is used only where it tells rows apart. Where every file has one
    value of it, the values name the files, since they are what pairs the runs of two recipes.
    """
    settled, single = [], []
    for table, row in zip(tables, rows, strict=True):
        if row.codes is None or table.path not in seeds:
            settled.append(row)
            continue
        present = {row.labels[code] for code in np.unique(row.codes[~np.isnan(row.numbers[y])])}
        if None in present and chosen:
            raise MetricsError(f"{table.path}: column {seeds[table.path]!r} is empty in some rows; fill it")
        if len(present) == 1 and None not in present:
            single.append(_label_name(seeds[table.path], str(*present)))
        several = len(present) > 1 and None not in present
        settled.append(row if several or chosen else replace(row, codes=None))
    names = single if len(tables) > 1 and len(set(single)) == len(tables) else list(labels)
    return settled, names
