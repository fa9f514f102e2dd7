"""P2, Figure 17: spectra and principal subspaces after SFT and after RL, each from the same base.

Paper: Qwen3-14B-Base -> UniReason-SFT and -> UniReason-RL, of matched accuracy in math. Here: both as run; checkpoints
of matched accuracy are compared in ``control_matching``.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.off_principals.spectra_panels import assemble_spectra, draw_spectra
from rlscape.settings.scale import Config

SHOWN = ("sft", "rlvr")


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.off_principals.spectra_panels.assemble_spectra`."""
    return assemble_spectra(config, SHOWN)


def draw(frame: pd.DataFrame) -> Figure:
    """SFT above, RL below, and once more on axes of its own."""
    return draw_spectra(frame, SHOWN, "RL near zero, SFT large", zoomed=SHOWN[1])
