"""P2, Figure 18: spectra and principal subspaces before and after preference tuning.

Paper: Meta-Llama-3-8B-Instruct -> its DPO and SimPO versions. Here: DPO and SimPO on pairs of a correct and an
incorrect completion of our base.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.off_principals.spectra_panels import assemble_spectra, draw_spectra
from rlscape.settings.scale import Config

SHOWN = ("dpo", "simpo")


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.off_principals.spectra_panels.assemble_spectra`."""
    return assemble_spectra(config, SHOWN)


def draw(frame: pd.DataFrame) -> Figure:
    """A row per arm."""
    return draw_spectra(frame, SHOWN, "near-identical spectra, as Figure 8")
