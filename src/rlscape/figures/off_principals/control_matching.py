"""Control: RL against SFT at equal learning rate, update norm, KL and pass rate.

Paper: pairs as published, whose rates, lengths and bases differ. Here: one base; SFT's final model moved along its
update, or another of its snapshots. What differs at equal norm is direction, what differs only as run is size.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.off_principals.matched_panels import METHODS, arm_of, assemble_matched, draw_matched
from rlscape.settings.scale import Config

NAME = "matching"


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`assemble_matched`."""
    return assemble_matched(config, NAME)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per statistic, a line per matching."""
    return draw_matched(
        [(arm_of(NAME, method), frame[frame["method"] == method]) for method in METHODS],
        [
            "bars: 95% intervals over seeds, where there are several; grey: the null",
            "a scaled model's pass rate is not measured",
            "paper: no matched comparison",
        ],
    )
