"""Choose arms by what pilots show."""

import logging
from pathlib import Path

from rlscape.catalogue import choices_of
from rlscape.claims.controls import describe_choice
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
        log.info("%s: %s", name, describe_choice(candidates))
    with atomic(output) as path:
        frame.to_csv(path, index=False)


if __name__ == "__main__":
    run(choose_pilots)
