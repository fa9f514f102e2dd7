"""Learning curves and their fits."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from rlscape.catalogue import runs_of
from rlscape.config import Config
from rlscape.results.files import read_record, records_of_runs, require, tables_of_runs
from rlscape.scaling.arms import RunFit, read_fit
from rlscape.scaling.forecast import Forecast


def metrics(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Learning curves: a row per evaluation of every run (``runs/<run>/metrics.parquet``)."""
    return tables_of_runs(config, arms, "runs/{run}/metrics.parquet")


def updates(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """A row per optimiser step of every run (``runs/<run>/updates.parquet``)."""
    return tables_of_runs(config, arms, "runs/{run}/updates.parquet")


def run_records(config: Config, arms: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``run.json`` of every run."""
    return records_of_runs(config, arms, "runs/{run}/run.json")


def forecasts(config: Config, arms: Iterable[str]) -> dict[str, Forecast]:
    """The forecast from the first half of every run (``forecasts/<run>.json``)."""
    return {
        run: Forecast.from_dict(record) for run, record in records_of_runs(config, arms, "forecasts/{run}.json").items()
    }


def fits(config: Config, arms: Iterable[str]) -> list[RunFit]:
    """The fit to all of every run (``fits/<run>.json``)."""
    return [read_fit(require(config.results_dir / "fits" / f"{run}.json")) for run in runs_of(config, arms)]


def forecast_scores(config: Config, arms: Iterable[str]) -> dict[str, dict[str, Any]]:
    """How every run's forecast did on the evaluations after it (``score`` in ``fits/<run>.json``)."""
    return {run: record["score"] for run, record in records_of_runs(config, arms, "fits/{run}.json").items()}


def base_evaluation(config: Config, base: str) -> dict[str, Any]:
    """The base model's pass rates (``bases/<base>/evaluation.json``)."""
    return read_record(config.results_dir / "bases" / base / "evaluation.json")
