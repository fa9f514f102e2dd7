"""What the simulators of P2's claims share.

Every claim has a planted effect per world. Paper: where it has a number, that one. Here: elsewhere twice what
the criterion calls negligible, the smallest effect that its words mean.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from rlscape.catalogue import seeds_of
from rlscape.errors import ResultError
from rlscape.paths import results_dir, run_name
from rlscape.power.worlds import Simulation, Simulator, Worlds
from rlscape.results.files import Source
from rlscape.settings.scale import Config

TWICE = 2.0
"""An effect in negligible ones."""
LIMIT = math.nan
"""In place of an effect: the largest that the criterion does not grant."""
Tables = dict[str, Any]
"""Path below the results -> what evaluators read there, as far as they read it."""
Truth = TypeVar("Truth")
Maker = Callable[[np.random.Generator], Tables]
"""One draw."""


def simulator(prepare: Callable[[Simulation, Truth], Maker], worlds: Mapping[str, Truth]) -> Simulator:
    """The simulator of a claim, from what is true in each of its worlds and what makes the tables of a draw then."""

    def simulate(simulation: Simulation) -> Worlds:
        root = results_dir(simulation.config)
        return {world: _draws(prepare(simulation, truth), root) for world, truth in worlds.items()}

    return simulate


def _draws(make: Maker, root: Path) -> Callable[[int], Source]:
    return lambda number: _source(make(np.random.default_rng(number)), root)


def _source(tables: Tables, root: Path) -> Source:
    def read(path: Path) -> Any:
        name = path.relative_to(root).as_posix()
        if name not in tables:
            raise ResultError(f"{path}: not simulated")
        return tables[name]

    return read


def runs(config: Config, arms: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Run, arm and seed of all runs of some arms."""
    return ((run_name(arm, seed), arm, seed) for arm in arms for seed in seeds_of(config, arm))


def rows(**columns: Any) -> pd.DataFrame:
    """A table; a scalar fills its column."""
    return pd.DataFrame(columns if any(np.ndim(values) for values in columns.values()) else [columns])
