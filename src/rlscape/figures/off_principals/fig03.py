"""P2, Figure 3: row densities of the query and column densities of the output projection's updates over training.

Paper: layer 13 of one run at 240, 720 and 1,200 updates. Here: the middle layer of the long run. An update mask
contains most of an earlier one, and small weights change first: similar curves alone are no bias. So the figure has
what magnitudes predict, and the rank correlation of the first densities with those of later changes.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.profiles import assemble_profiles, draw_profiles
from rlscape.settings.scale import Config

SHOWN = {"q": "row", "o": "column"}


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.profiles.assemble_profiles`."""
    return assemble_profiles(config, SHOWN)


def draw(frame: pd.DataFrame) -> Figure:
    """Left: Q by row. Right: O by column."""
    return draw_profiles(frame, "peaks persist while the density grows")
