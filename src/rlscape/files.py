"""Files that are either complete or absent, and the record that every run leaves."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

RECORDED_PACKAGES = ("rlscape", "torch", "transformers", "trl", "peft", "numpy", "scipy", "pandas")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it into place if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, default=str) + "\n")


def write_parquet(path: str | Path, frame: "pd.DataFrame") -> None:
    """Write a table atomically."""
    with atomic(path) as temporary:
        frame.to_parquet(temporary, index=False)


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that all have the same keys as a parquet table, atomically; without pandas, which is slow to import.

    Raises:
        ValueError: there are no rows, or they do not have the same keys.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError(f"{path}: rows need the same keys, and one row at least")
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows)), temporary)


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file written by :func:`write_json`."""
    return json.loads(Path(path).read_text())


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, with ``+`` if it has been edited."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def provenance() -> dict[str, Any]:
    """Commit, package versions and machine: what a number depends on besides its settings."""
    versions: dict[str, str | None] = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": versions,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
    }
