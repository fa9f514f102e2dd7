"""P2, Figure 8: spectra and principal subspaces before and after training agents.

Paper: six agents of 7B and 8B parameters; the single layer is the output projection of block 2. Here: three agents
on tasks of our own (:mod:`rlscape.tasks.tools`), all matrices of the middle layer.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.off_principals.spectra_panels import assemble_spectra, draw_spectra
from rlscape.settings.scale import Config

SHOWN = ("agent_calculator", "agent_search", "agent_planning")


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.off_principals.spectra_panels.assemble_spectra`."""
    return assemble_spectra(config, SHOWN)


def draw(frame: pd.DataFrame) -> Figure:
    """A row per arm."""
    return draw_spectra(frame, SHOWN, "near-identical spectra")
