"""P2, Figure 4: spectra and principal subspaces as a base model is fine-tuned by SFT, and the result by RL.

Paper: Qwen3-8B-Base -> Klear-SFT -> Klear-RL. Here: the same two steps on our own base; RL is compared with the SFT
model that it started from.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.off_principals.spectra_panels import assemble_spectra, draw_spectra
from rlscape.settings.scale import Config

SHOWN = ("sft", "sft_then_rl")


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.off_principals.spectra_panels.assemble_spectra`."""
    return assemble_spectra(config, SHOWN)


def draw(frame: pd.DataFrame) -> Figure:
    """SFT above, RL below, and once more on axes of its own."""
    return draw_spectra(frame, SHOWN, "RL near zero, SFT large", zoomed=SHOWN[1])
