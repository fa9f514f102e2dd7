"""Writes ``tables.zip``, which :mod:`rlscape.results.archive` reads."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

from rlscape.files import atomic

DATE = (1980, 1, 1, 0, 0, 0)
"""Of every entry: the same files make the same archive."""


def write_tables(archive: Path, root: Path, files: Iterable[Path]) -> None:
    """Pack files below ``root``, under their paths from there; the same files make the same bytes."""
    with atomic(archive) as temporary, zipfile.ZipFile(temporary, "w") as tables:
        for name in sorted(file.relative_to(root).as_posix() for file in files):
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, a file that all may read
            tables.writestr(entry, (root / name).read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
