"""P2, Table 5: pass rates after 500 steps by the entries that train.

Paper: DS-Qwen-1.5B, averages of four benchmarks, one run each. Here: problems of our own, at the end of the
run that Table 4 reads earlier.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue.grids import MASK_STEPS
from rlscape.figures.masks import assemble_masks, draw_masks
from rlscape.figures.off_principals.paper_tables import TABLE_5
from rlscape.settings.scale import Config

STEPS = MASK_STEPS[1]


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.masks.assemble_masks`."""
    return assemble_masks(config, STEPS / MASK_STEPS[1], TABLE_5)


def draw(frame: pd.DataFrame) -> Figure:
    """Ours and the paper's side by side."""
    return draw_masks(frame, STEPS)
