"""Choose arms by what pilots show."""

import logging
from pathlib import Path

import pandas as pd

from rlscape.catalogue import choices_of
from rlscape.errors import ConfigError
from rlscape.files import atomic
from rlscape.pipeline.entry import run
from rlscape.results.pilots import choices
from rlscape.settings.scale import Config

log = logging.getLogger(__name__)


def choose_pilots(settings: Config, output: Path) -> None:
    """Write a CSV file, a row per candidate of every choice; the log says what was chosen.

    Raises:
        ConfigError: the scale does not run the arms of any choice.
    """
    if not choices_of(settings):
        raise ConfigError(f"{settings.scale}: seeds.pilots: needs a number of seeds; config/pilots.yaml has one")
    frame = choices(settings)
    for name, candidates in frame.groupby("choice", sort=False):
        log.info("%s: %s", name, describe(candidates))
    with atomic(output) as path:
        frame.to_csv(path, index=False)


def describe(candidates: pd.DataFrame) -> str:
    """What a choice chose, with the effect and its interval; or what none of its candidates showed."""
    chosen = [
        f"{row['arm']} ({row['quantity']} {row['value']:.3g}), end {row['end']:.3f}, less {row['against']} "
        f"{row['effect']:+.3f} [{row['effect_low']:+.3f}, {row['effect_high']:+.3f}]"
        + (", at an end of the range" if row["outermost"] else "")
        for row in candidates[candidates["chosen"]].to_dict("records")
    ]
    values = [f"{row['arm']} {row['value']:.3g}" for row in candidates.to_dict("records")]
    return "; ".join(chosen) or f"none ({candidates['quantity'].iloc[0]}: {', '.join(values)})"


if __name__ == "__main__":
    run(choose_pilots)
