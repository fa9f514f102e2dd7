"""Learning curves and their fits."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from rlscape.catalogue import runs_of, tasks_of
from rlscape.paths import curve_name, results_dir
from rlscape.results.files import read_record, read_table, records_of_runs, tables_of_runs
from rlscape.scaling.arm_comparison import PairedComparison, compare_reached
from rlscape.scaling.arms import RunFit, reached_by_seed, reached_in
from rlscape.scaling.forecast import Forecast
from rlscape.scaling.windows import WindowFit
from rlscape.settings.scale import Config


def metrics(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Learning curves: a row per evaluation of every run (``runs/<run>/metrics.parquet``)."""
    return tables_of_runs(config, arms, "runs/{run}/metrics.parquet")


def updates(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """A row per optimiser step of every run (``runs/<run>/updates.parquet``)."""
    return tables_of_runs(config, arms, "runs/{run}/updates.parquet")


def run_records(config: Config, arms: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``run.json`` of every run."""
    return records_of_runs(config, arms, "runs/{run}/run.json")


def arms_with(arms: Iterable[str], task: str) -> list[str]:
    """Those of some arms that have a task, in order."""
    return [arm for arm in arms if task in tasks_of(arm)]


def curve_names(config: Config, arms: Iterable[str], task: str) -> dict[str, str]:
    """Run -> what its forecast and fit on a task are called, for the arms that have the task."""
    names: dict[str, str] = {}
    for arm in arms_with(arms, task):
        names |= {run: curve_name(run, task, tasks_of(arm)[0]) for run in runs_of(config, [arm])}
    return names


def _records(config: Config, arms: Iterable[str], kind: str, task: str) -> dict[str, dict[str, Any]]:
    """Run -> the file of a task in ``forecasts`` or ``fits``, for the arms that have the task."""
    directory = results_dir(config) / kind
    return {run: read_record(directory / f"{name}.json") for run, name in curve_names(config, arms, task).items()}


def forecasts(config: Config, arms: Iterable[str], task: str = "math") -> dict[str, Forecast]:
    """The forecast from the first half of every run of the arms that have the task (``forecasts/<run>.json``)."""
    return {run: Forecast.from_dict(record) for run, record in _records(config, arms, "forecasts", task).items()}


def fits(config: Config, arms: Iterable[str], task: str = "math") -> list[RunFit]:
    """The fit to all of every run of the arms that have the task (``fits/<run>.json``)."""
    return [RunFit.from_record(record) for record in _records(config, arms, "fits", task).values()]


def forecast_scores(config: Config, arms: Iterable[str], task: str = "math") -> dict[str, dict[str, Any]]:
    """How every run's forecast did on the evaluations after it (``score`` in ``fits/<run>.json``)."""
    return {run: record["score"] for run, record in _records(config, arms, "fits", task).items()}


def windows(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """A row per run, form and window (``windows`` in ``fits/<run>.json``), on math problems.

    Columns: run, arm, seed and the fields of :class:`rlscape.scaling.windows.WindowFit` (form, low, high, points,
    A, B, C_mid, D, sse, at_edge, reason) and ``end``, what the form says of the end of the run.
    """
    rows = []
    for run, record in _records(config, arms, "fits", "math").items():
        identity = {"run": run, "arm": record["arm"], "seed": record["seed"]}
        for fit in map(WindowFit.from_dict, record["windows"]):
            end = fit.predict(record["total_compute"], record["initial"]["pass_rate"])
            rows.append(identity | asdict(fit) | {"end": end})
    return pd.DataFrame(rows)


def reached_ratio(
    unit: str, config: Config, runs: Sequence[RunFit], slow: str, fast: str, level: float
) -> PairedComparison:
    """What a slow arm needs to reach a level over what a fast one needs, in a column of the metrics; paired by seed."""
    first, second = (
        reached_in(unit, reached_by_seed(runs, arm, level), metrics(config, [arm])) for arm in (slow, fast)
    )
    return compare_reached(first, second)


def base_evaluation(config: Config, base: str) -> dict[str, Any]:
    """The base model's pass rates (``bases/<base>/evaluation.json``)."""
    return read_record(results_dir(config) / "bases" / base / "evaluation.json")


def first_log_probs(config: Config, arm: str) -> pd.DataFrame:
    """A row per token of an arm's first batch: log-probabilities of both sides (``ratios/<arm>.parquet``, by
    :mod:`rlscape.pipeline.measure_ratios`).
    """
    return read_table(results_dir(config) / "ratios" / f"{arm}.parquet")
