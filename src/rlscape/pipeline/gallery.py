"""Record one paper's figures for git: ``python -m rlscape.pipeline.gallery --config FILE --paper scalerl``.

Copies the figures of a finished run to ``figures/gallery/<paper>/`` with a ``run.json`` that says where
they come from, and the scoreboard to ``figures/gallery/``. No rule writes there.
"""

import argparse
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from rlscape.catalogue import ARMS, FIGURES, load_scale
from rlscape.errors import fail_clearly
from rlscape.files import write_json
from rlscape.paths import figures_dir
from rlscape.results.curves import run_records
from rlscape.results.files import require
from rlscape.settings.scale import Config, Paper

SUFFIXES = ("svg", "png", "csv")


def describe_runs(config: Config, paper: str) -> dict[str, Any]:
    """The settings, the machine and what each run took; values that all runs share appear once."""
    records = run_records(config, [arm for arm in config.seeds if ARMS[arm].paper == paper])
    return {
        "scale": config.scale,
        "config": config.model_dump(mode="json"),
        "provenance": _distinct(record["provenance"] for record in records.values()),
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


def record(config: Config, paper: str, gallery: Path) -> None:
    """Copy a paper's figures and the scoreboard.

    Raises:
        ResultError: a figure or a run is missing; nothing has been copied then.
    """
    stems = [figure.stem for figure in FIGURES if figure.paper == paper]
    copies = {Path(paper) / f"{stem}.{suffix}" for stem in stems for suffix in SUFFIXES}
    copies |= {Path(f"scoreboard.{suffix}") for suffix in SUFFIXES}
    for name in copies:
        require(figures_dir(config) / name)
    summary = describe_runs(config, paper)
    (gallery / paper).mkdir(parents=True, exist_ok=True)
    for name in copies:
        shutil.copyfile(figures_dir(config) / name, gallery / name)
    write_json(gallery / paper / "run.json", summary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=Path, help="the scale's YAML file")
    parser.add_argument("--paper", required=True, choices=get_args(Paper))
    parser.add_argument("--gallery", default=Path("figures/gallery"), type=Path)
    arguments = parser.parse_args()
    record(load_scale(arguments.config), arguments.paper, arguments.gallery)


if __name__ == "__main__":
    fail_clearly(main)
