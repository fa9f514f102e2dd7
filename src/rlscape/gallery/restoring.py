"""Results put back from their record: a scale that has grown trains what is new, on this machine or another one."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from rlscape.catalogue import ARMS, resolve_run
from rlscape.errors import ConfigError, ResultError
from rlscape.files import atomic
from rlscape.paths import results_dir
from rlscape.results.archive import AGAIN, TABLES, recorded_results
from rlscape.results.curves import run_records
from rlscape.settings.scale import Config, Paper


def restore(config: Config, gallery: Path) -> list[str]:
    """Put the recorded tables of a scale where the pipeline expects them; what is there already stays.

    Snakemake takes a result for finished that is no older than what it is made of and whose makers have not run again.
    Therefore all that runs start from is made first (`snakemake starts`). Models and snapshots are in no record: a
    measurement that compares a new run with a restored one trains the latter again.

    Returns:
        A line per paper.

    Raises:
        ConfigError: a run was recorded with other settings.
        ResultError: nothing of the scale is recorded, or the record cannot be used.
    """
    lines = []
    for paper in get_args(Paper):
        directory = gallery / config.scale / paper
        if not (directory / TABLES).exists():
            continue
        with recorded_results(directory) as recorded:
            runs = _checked(config, recorded, paper, directory)
            restored = list(_copied(results_dir(recorded), results_dir(config)))
        now = time.time()
        for file in restored:
            os.utime(file, (now, now))
        lines.append(f"{directory}: {len(runs)} recorded runs, {len(restored)} files restored")
    if not lines:
        raise ResultError(f"{gallery / config.scale}: no {TABLES} of this scale; make gallery PAPER=... records one")
    return lines


def _checked(config: Config, recorded: Config, paper: Paper, directory: Path) -> list[str]:
    """The recorded runs of a paper, whose settings are the scale's."""
    of_paper = [arm for arm in recorded.seeds if ARMS[arm].paper == paper]
    for key in ("fit", "geometry"):
        if getattr(recorded, key) != getattr(config, key):
            raise ConfigError(f"{directory}: recorded with other settings of {key}; {AGAIN}")
    records = run_records(recorded, of_paper)
    for run, record in records.items():
        now = resolve_run(config, run).model_dump(mode="json")
        changed = [key for key in now if now[key] != record["settings"].get(key)]
        if changed:
            raise ConfigError(f"{directory}: {run} was recorded with other settings of {', '.join(changed)}; {AGAIN}")
    return list(records)


def _copied(source: Path, target: Path) -> Iterator[Path]:
    """Every file below ``source`` that ``target`` lacks, once it is there."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        if not place.exists():
            with atomic(place) as temporary:
                shutil.copyfile(file, temporary)
            yield place
