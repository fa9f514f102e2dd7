"""Record one paper of a finished scale: its figures, where they come from, and the tables behind them.

Of pilots, which decide no claim: what they chose, its picture and their figures.
"""

import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from rlscape.catalogue import ARMS, choices_of, figures_of, with_figure
from rlscape.catalogue.arms import Figure
from rlscape.claims import evaluate_register
from rlscape.claims.register import Register
from rlscape.errors import ConfigError
from rlscape.figures.registry import PILOTS, find_target
from rlscape.files import write_json
from rlscape.gallery.claims import (
    CLAIMS,
    of_paper,
    read_claims,
    recorded_pilots,
    recorded_power,
    updated,
    write_claims,
    write_scoreboard,
)
from rlscape.gallery.tables import write_tables
from rlscape.paths import figures_dir, results_dir
from rlscape.results import needed
from rlscape.results.archive import RUN, TABLES
from rlscape.results.curves import run_records
from rlscape.results.files import recorded_reads, require
from rlscape.settings.scale import Config, Paper

SUFFIXES = ("svg", "png", "csv")


def describe_runs(config: Config, papers: Collection[Paper]) -> dict[str, Any]:
    """The settings, the machine and what each run of some papers took; values that all runs share appear once."""
    records = run_records(config, [arm for arm in config.seeds if ARMS[arm].paper in papers])
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
    if choices_of(config):
        raise ConfigError(f"{config.scale}: pilots decide no claim; make pilots records what they chose")
    figures = [figure for figure in figures_of(config) if figure.paper == paper]
    if not figures:
        raise ConfigError(f"{config.scale}: the scale has no figure of {paper}; add targets to its settings")
    pictures = _pictures(config, figures)
    with recorded_reads() as files:
        summary = describe_runs(config, [paper])
        power = recorded_power(gallery / config.scale)
        evaluated = evaluate_register(of_paper(register, paper), config, power, recorded_pilots(gallery))
        for figure in figures:
            find_target(figure.target).assemble(with_figure(config, figure))
    # And what else the figures' rules ask for, so that a scale that has grown can go on from the record.
    asked = {results_dir(config) / name for figure in figures for name in needed.of_figure(config, figure)}
    files |= {file for file in asked if file.exists()}
    scale = gallery / config.scale
    recorded = read_claims(scale / CLAIMS) if (scale / CLAIMS).exists() else None

    with _replaced(scale / paper) as new:
        _copy(pictures, new)
        write_json(new / RUN, summary)
        write_tables(new / TABLES, results_dir(config), files)
    write_claims(scale / CLAIMS, updated(recorded, evaluated, register))
    write_scoreboard(gallery)


def record_pilots(config: Config, gallery: Path) -> None:
    """Replace what the gallery has of a scale of pilots; every verdict shows what ``config/pilots.yaml`` chose.

    Raises:
        UserError: it is no scale of pilots, or a figure or a result is missing; nothing has been changed then.
    """
    if not choices_of(config):
        raise ConfigError(f"{config.scale}: seeds.pilots: needs a number of seeds; config/pilots.yaml has one")
    pictures = [*_files(figures_dir(config) / PILOTS), *_pictures(config, figures_of(config))]
    summary = describe_runs(config, get_args(Paper))
    with _replaced(gallery / config.scale) as new:
        _copy(pictures, new)
        write_json(new / RUN, summary)


def _pictures(config: Config, figures: Iterable[Figure]) -> list[Path]:
    return [file for figure in figures for file in _files(figures_dir(config) / figure.paper / figure.stem)]


def _files(stem: Path) -> list[Path]:
    """A figure's files, all of which there must be."""
    return [require(stem.with_name(f"{stem.name}.{suffix}")) for suffix in SUFFIXES]


def _copy(pictures: Iterable[Path], directory: Path) -> None:
    for picture in pictures:
        shutil.copyfile(picture, directory / picture.name)


@contextmanager
def _replaced(directory: Path) -> Iterator[Path]:
    """An empty directory beside one, which takes its place at the end of the block."""
    new = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    yield new
    shutil.rmtree(directory, ignore_errors=True)
    new.rename(directory)
