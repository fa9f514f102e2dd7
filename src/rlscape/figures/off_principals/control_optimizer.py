"""Control: is it AdamW's? RL against SFT at equal size once more, trained by plain gradient descent.

AdamW makes every entry's step about as large as the learning rate, whatever its gradient. What an update of plain
gradient descent prefers, its gradients prefer; where RL and SFT agree in that, it is not what RL is rewarded for.

Paper: AdamW alone. Here: gradient descent without momentum or decay, gradients of a norm above 1 scaled to 1 as for
AdamW; as both methods' gradients mostly are larger, their steps at RL's rate are of one length.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.off_principals.matched_panels import METHODS, arm_of, assemble_matched, draw_matched
from rlscape.results.bias import MATCHED
from rlscape.settings.scale import Config


def assemble(config: Config) -> pd.DataFrame:
    """The rows of :func:`assemble_matched` by ``name``, the table of matchings, of an optimiser each."""
    names = [name for name, arms in MATCHED.items() if config.seeds.keys() >= {*arms}]
    return pd.concat([assemble_matched(config, name).assign(name=name) for name in names], ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per statistic, a line per matching, RL and SFT by every optimiser."""
    return draw_matched(
        [
            (arm_of(name, method), frame[(frame["name"] == name) & (frame["method"] == method)])
            for name in frame["name"].unique()
            for method in METHODS
        ],
        [
            "bars: 95% intervals over seeds, where there are several; grey: no preference",
            "SGD: SFT has RL's learning rate, so that it is the same as run",
            "paper: AdamW alone",
        ],
    )
