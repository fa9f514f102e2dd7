"""P2, Figure 14: the other axes of Figure 3, columns of the query and rows of the output projection's updates.

Paper and here: as Figure 3.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.profiles import assemble_profiles, draw_profiles
from rlscape.settings.scale import Config

SHOWN = {"q": "column", "o": "row"}


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.profiles.assemble_profiles`."""
    return assemble_profiles(config, SHOWN)


def draw(frame: pd.DataFrame) -> Figure:
    """Left: Q by column. Right: O by row."""
    return draw_profiles(frame, "weaker structure than on the axes of Figure 3")
