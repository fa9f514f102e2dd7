"""Record one paper of a finished scale: its figures, where they come from, and the tables behind them."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlscape.catalogue import ARMS, figures_of, with_figure
from rlscape.claims import evaluate_register
from rlscape.claims.register import Register
from rlscape.errors import ConfigError
from rlscape.figures.registry import find_target
from rlscape.files import write_json
from rlscape.gallery.claims import (
    CLAIMS,
    of_paper,
    read_claims,
    recorded_power,
    updated,
    write_claims,
    write_scoreboard,
)
from rlscape.gallery.tables import RUN, TABLES, write_tables
from rlscape.paths import figures_dir, results_dir
from rlscape.results.curves import run_records
from rlscape.results.files import recorded_reads, require
from rlscape.settings.scale import Config, Paper

SUFFIXES = ("svg", "png", "csv")


def describe_runs(config: Config, paper: Paper) -> dict[str, Any]:
    """The settings, the machine and what each run took; values that all runs share appear once."""
    records = run_records(config, [arm for arm in config.seeds if ARMS[arm].paper == paper])
    return {
        "scale": config.scale,
        "config": config.model_dump(mode="json"),
        "provenance": _distinct(record["provenance"] for record in records.values()),
        "kernels": _distinct(record.get("kernels", "torch") for record in records.values()),
        "claims_sha256": _distinct(record["claims_sha256"] for record in records.values()),
        "core_hours": sum(record["wall_seconds"] for record in records.values()) / 3600,
        "runs": {run: {"wall_seconds": record["wall_seconds"]} for run, record in records.items()},
    }


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Each different value once, in order."""
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


def record(config: Config, paper: Paper, register: Register, gallery: Path) -> None:
    """Replace what the gallery has of a paper at this scale, and update the verdicts.

    Raises:
        UserError: a figure or a result is missing; nothing has been changed then.
    """
    figures = [figure for figure in figures_of(config) if figure.paper == paper]
    if not figures:
        raise ConfigError(f"{config.scale}: the scale has no figure of {paper}; add targets to its settings")
    pictures = [
        require(figures_dir(config) / paper / f"{figure.stem}.{suffix}") for figure in figures for suffix in SUFFIXES
    ]
    summary = describe_runs(config, paper)
    with recorded_reads() as files:
        evaluated = evaluate_register(of_paper(register, paper), config, recorded_power(gallery / config.scale))
        for figure in figures:
            find_target(figure.target).assemble(with_figure(config, figure))
    scale = gallery / config.scale
    recorded = read_claims(scale / CLAIMS) if (scale / CLAIMS).exists() else None

    new = scale / f".{paper}.tmp"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for picture in pictures:
        shutil.copyfile(picture, new / picture.name)
    write_json(new / RUN, summary)
    write_tables(new / TABLES, results_dir(config), files)
    shutil.rmtree(scale / paper, ignore_errors=True)
    new.rename(scale / paper)
    write_claims(scale / CLAIMS, updated(recorded, evaluated, register))
    write_scoreboard(gallery)
