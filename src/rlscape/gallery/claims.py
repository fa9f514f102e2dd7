"""The verdicts of every recorded scale, ``<scale>/claims.csv``, and their scoreboard."""

import shutil
from pathlib import Path

import pandas as pd

from rlscape.claims.controls import read_pilots
from rlscape.claims.power import NOT_SIMULATED, Power, read_power
from rlscape.claims.register import Register
from rlscape.errors import ResultError
from rlscape.figures import scoreboard
from rlscape.figures.registry import PILOTS
from rlscape.figures.style import write_figure
from rlscape.files import atomic
from rlscape.results.files import require
from rlscape.settings.scale import Paper

CLAIMS = "claims.csv"
POWER = "power.csv"
RECORDED = ["id", "claim", "verdict", "measure", "effect", "low", "high", "seeds", "reason", "figure"]
"""Columns of verdicts that were recorded before criteria had power and controls."""
COLUMNS = [*RECORDED, "control", *Power._fields]


def of_paper(register: Register, paper: Paper) -> Register:
    """The register with the claims of one paper."""
    return register.changed(claims=[claim for claim in register.claims if claim.paper == paper])


def read_claims(path: Path) -> pd.DataFrame:
    """The recorded verdicts of a scale.

    Raises:
        ResultError: the file does not hold verdicts.
    """
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: not a readable table ({error}); restore it from git") from None
    if list(frame.columns) not in (RECORDED, COLUMNS):
        raise ResultError(f"{path}: its columns are not {', '.join(COLUMNS)}; restore it from git")
    return frame.reindex(columns=COLUMNS)


def recorded_power(scale: Path) -> pd.DataFrame:
    """What the criteria can decide at a recorded scale; nothing where that is not recorded (``make power``)."""
    return read_power(scale / POWER) if (scale / POWER).exists() else NOT_SIMULATED


def recorded_pilots(gallery: Path) -> pd.DataFrame | None:
    """What pilots chose; None if that is not recorded (``make pilots``)."""
    file = gallery / PILOTS / f"{PILOTS}.csv"
    return read_pilots(file) if file.exists() else None


def record_power(table: Path, scale: Path) -> None:
    """Put a scale's ``power.csv`` into the gallery.

    Raises:
        ResultError: the file is missing or lacks a column.
    """
    read_power(require(table))
    scale.mkdir(parents=True, exist_ok=True)
    with atomic(scale / POWER) as temporary:
        shutil.copyfile(table, temporary)


def write_claims(path: Path, frame: pd.DataFrame) -> None:
    """Write a scale's verdicts atomically."""
    with atomic(path) as temporary:
        frame.to_csv(temporary, index=False)


def updated(recorded: pd.DataFrame | None, evaluated: pd.DataFrame, register: Register) -> pd.DataFrame:
    """Recorded verdicts with those of some papers evaluated anew, in the order of the register.

    Claims that the register no longer has are left out.
    """
    frames = [evaluated]
    if recorded is not None:
        papers = {claim.paper for claim in register.claims if claim.id in set(evaluated["id"])}
        others = [claim.id for claim in register.claims if claim.paper not in papers]
        frames.append(recorded[recorded["id"].isin(others)])
    rows = pd.concat([frame for frame in frames if len(frame)]).set_index("id", drop=False)
    return rows.loc[[claim.id for claim in register.claims if claim.id in rows.index]].reset_index(drop=True)


def recorded_scales(gallery: Path) -> list[Path]:
    """The directories of all recorded scales, by name.

    Raises:
        ResultError: there is none.
    """
    scales = sorted(path.parent for path in gallery.glob(f"*/{CLAIMS}"))
    if not scales:
        raise ResultError(f"{gallery}: no recorded scale; make gallery PAPER=... CONFIG=... records one")
    return scales


def write_scoreboard(gallery: Path) -> None:
    """Make ``scoreboard.{svg,png,csv}`` from the verdicts of all recorded scales that measure a claim on two seeds."""
    frames = [read_claims(scale / CLAIMS).assign(scale=scale.name) for scale in recorded_scales(gallery)]
    frame = pd.concat([each for each in frames if each["seeds"].gt(1).any()] or frames, ignore_index=True)
    write_figure(scoreboard.draw(frame), frame, gallery / "scoreboard")
