"""``tables.zip`` of a recorded scale: the result files from which its figures are drawn and its claims are judged."""

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlscape.errors import ConfigError, ResultError, UserError
from rlscape.files import read_json
from rlscape.paths import results_dir
from rlscape.results.files import recorded_reads
from rlscape.settings.reading import parse_config
from rlscape.settings.scale import Config

TABLES = "tables.zip"
RUN = "run.json"
AGAIN = "record the scale again (make gallery PAPER=... CONFIG=...)"


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
