"""Results put back from their record: a scale that has grown trains what is new, on this machine or another one."""

import os
import shutil
import time
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
    measurement that compares a new run with a restored one trains the latter again. A start that is made anew on
    another kind of processor may differ in the last digits from the one that recorded runs had.

    Returns:
        A line per paper.

    Raises:
        ConfigError: a run was recorded with other settings.
        ResultError: nothing of the scale is recorded, or the record cannot be used.
    """
    papers = [gallery / config.scale / paper for paper in get_args(Paper)]
    papers = [directory for directory in papers if (directory / TABLES).exists()]
    if not papers:
        raise ResultError(f"{gallery / config.scale}: no {TABLES} of this scale; make gallery PAPER=... records one")
    runs = {directory: _checked(config, directory) for directory in papers}
    lines, now = [], time.time()
    for directory in papers:
        with recorded_results(directory) as recorded:
            count = _copy(results_dir(recorded), results_dir(config), now)
        lines.append(f"{directory}: {len(runs[directory])} runs, {count} files restored")
    return lines


def _checked(config: Config, directory: Path) -> list[str]:
    """The recorded runs of a paper that the scale still has, with the settings that it has now."""
    with recorded_results(directory) as recorded:
        arms = [arm for arm in recorded.seeds if arm in config.seeds and ARMS[arm].paper == directory.name]
        records = run_records(recorded, arms)
    for key in ("fit", "geometry"):
        if getattr(recorded, key) != getattr(config, key):
            raise ConfigError(f"{directory}: recorded with other settings of {key}; {AGAIN}")
    for task in recorded.tasks.keys() & config.tasks.keys():
        if recorded.tasks[task] != config.tasks[task]:
            raise ConfigError(f"{directory}: recorded with other settings of tasks.{task}; {AGAIN}")
    for run, record in records.items():
        now, then = resolve_run(config, run).model_dump(mode="json"), record["settings"]
        changed = [key for key in {**now, **then} if now.get(key) != then.get(key)]
        if changed:
            raise ConfigError(f"{directory}: {run} was recorded with other settings of {', '.join(changed)}; {AGAIN}")
    return list(records)


def _copy(source: Path, target: Path, now: float) -> int:
    """Copy every file below ``source`` that ``target`` lacks, all as of one time; returns how many."""
    places = {file: target / file.relative_to(source) for file in sorted(source.rglob("*")) if file.is_file()}
    lacking = {file: place for file, place in places.items() if not place.exists()}
    for file, place in lacking.items():
        with atomic(place) as temporary:
            shutil.copyfile(file, temporary)
            os.utime(temporary, (now, now))
    return len(lacking)
