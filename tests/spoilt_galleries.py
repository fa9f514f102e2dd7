"""Ways in which a recorded scale, ``smoke``, cannot be used."""

import zipfile
from pathlib import Path

from rlscape.files import read_json, write_json

LEFT_OUT = "fits/scalerl-s4.json"
"""Of the last of its runs."""


def repacked(archive: Path, leave_out: str = "") -> None:
    """The archive again, without the files whose names contain ``leave_out``."""
    with zipfile.ZipFile(archive) as old:
        files = {name: old.read(name) for name in old.namelist() if not leave_out or leave_out not in name}
    with zipfile.ZipFile(archive, "w") as new:
        for name, content in files.items():
            new.writestr(name, content)


def damaged(gallery: Path) -> None:
    file = gallery / "smoke" / "scalerl" / "tables.zip"
    file.write_bytes(file.read_bytes()[:-100])


def altered(gallery: Path) -> None:
    file = gallery / "smoke" / "scalerl" / "tables.zip"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


def lacking(gallery: Path) -> None:
    repacked(gallery / "smoke" / "scalerl" / "tables.zip", leave_out=LEFT_OUT)


def outdated(gallery: Path) -> None:
    file = gallery / "smoke" / "scalerl" / "run.json"
    record = read_json(file)
    write_json(file, record | {"config": record["config"] | {"maths": {}}})


def unsaid(gallery: Path) -> None:
    (gallery / "smoke" / "scalerl" / "run.json").write_text("{}")


def no_verdicts(gallery: Path) -> None:
    (gallery / "smoke" / "claims.csv").write_text("id,verdict\nS1,replicated\n")
