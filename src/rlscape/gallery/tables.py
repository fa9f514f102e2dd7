"""``tables.zip``: the result files from which a paper's figures are drawn and its claims are judged."""

import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rlscape.errors import ConfigError, ResultError, UserError
from rlscape.files import atomic, read_json
from rlscape.paths import results_dir
from rlscape.results.files import recorded_reads
from rlscape.settings.reading import parse_config
from rlscape.settings.scale import Config

TABLES = "tables.zip"
RUN = "run.json"
DATE = (1980, 1, 1, 0, 0, 0)
"""Of every entry: the same files make the same archive."""
AGAIN = "record the scale again (make gallery PAPER=... CONFIG=...)"


def write_tables(archive: Path, root: Path, files: Iterable[Path]) -> None:
    """Pack files below ``root``, under their paths from there; the same files make the same bytes."""
    with atomic(archive) as temporary, zipfile.ZipFile(temporary, "w") as tables:
        for name in sorted(file.relative_to(root).as_posix() for file in files):
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, a file that all may read
            tables.writestr(entry, (root / name).read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


def _extract(archive: Path, root: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as tables:
            tables.extractall(root)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        raise ResultError(f"{archive}: not a readable zip archive ({error}); restore it from git, or {AGAIN}") from None


def read_settings(path: Path) -> Config:
    """The settings of a recorded scale, from its ``run.json``.

    Raises:
        ResultError: the file is missing or damaged.
        ConfigError: the code does not know these settings.
    """
    try:
        values = read_json(path)["config"]
    except (OSError, ValueError, KeyError) as error:
        raise ResultError(
            f"{path}: no record of a scale's settings ({error!r}); restore it from git, or {AGAIN}"
        ) from None
    try:
        return parse_config(values, str(path))
    except ConfigError as error:
        raise ConfigError(
            f"{error}\n{path}: recorded with settings that the code no longer understands; {AGAIN}"
        ) from None


@contextmanager
def recorded_results(directory: Path) -> Iterator[Config]:
    """The recorded settings of a paper, whose results are the tables; they exist as long as the block lasts.

    Raises:
        UserError: the record cannot be read, or lacks a file that is asked for inside the block.
    """
    archive = directory / TABLES
    recorded = read_settings(directory / RUN)
    with tempfile.TemporaryDirectory() as temporary, recorded_reads() as reads:
        config = recorded.changed(results=Path(temporary))
        root = results_dir(config)
        _extract(archive, root)
        try:
            yield config
        except UserError as error:
            missing = sorted(path.relative_to(root).as_posix() for path in reads if not path.exists())
            what = f"no {missing[0]}, which the code now reads" if missing else str(error).replace(f"{root}/", "")
            raise ResultError(f"{archive}: {what}; {AGAIN}") from None
