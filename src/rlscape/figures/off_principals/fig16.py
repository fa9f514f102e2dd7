"""P2, Figure 16: spectra and principal subspaces after SFT, and after long RL from the SFT model.

Paper: Qwen-1.5B -> DS-R1-Distill-Qwen-1.5B -> an RL checkpoint of it that is not named. Here: RL of
four times the usual length from our SFT model.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.off_principals.spectra_panels import assemble_spectra, draw_spectra
from rlscape.settings.scale import Config

SHOWN = ("sft", "sft_then_long_rl")


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.off_principals.spectra_panels.assemble_spectra`."""
    return assemble_spectra(config, SHOWN)


def draw(frame: pd.DataFrame) -> Figure:
    """SFT above, long RL below, and once more on axes of its own."""
    return draw_spectra(frame, SHOWN, "as Figure 4", zoomed=SHOWN[1])
