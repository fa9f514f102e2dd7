"""Target name -> how its figure is made and where it belongs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import FIGURES
from rlscape.errors import ConfigError
from rlscape.settings.scale import Config

SCOREBOARD, PILOTS = "scoreboard", "pilots"
"""Figures of no paper: of all claims, and of what pilots chose."""


@dataclass(frozen=True)
class Target:
    """A figure: its frame from the result files, and its picture from the frame."""

    assemble: Callable[[Config], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    stem: Path
    """Path without suffix, relative to ``figures/<scale>``."""


def target_names() -> list[str]:
    """Every target: the catalogue's figures, the scoreboard and the pilots."""
    return [*(figure.target for figure in FIGURES), SCOREBOARD, PILOTS]


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        ConfigError: there is none.
    """
    stems = {figure.target: Path(figure.paper, figure.stem) for figure in FIGURES}
    stems |= {own: Path(own) for own in (SCOREBOARD, PILOTS)}
    if name not in stems:
        raise ConfigError(f"{name}: not a figure; the targets are {', '.join(stems)}")
    module = import_module(".".join(("rlscape.figures", *stems[name].parts)))
    return Target(module.assemble, module.draw, stems[name])
