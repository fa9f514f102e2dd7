"""Control: is it AdamW's? RL against SFT at equal size once more, trained by plain gradient descent.

AdamW makes every entry's step about as large as the learning rate, whatever its gradient. What an update of plain
gradient descent prefers, its gradients prefer. The rule by which it is read, fixed before any matching was: gradients
have a preference where the intervals of both methods lie on one side of its neutral value, as trained at equal norm and
at equal pass rate; it is RL's where RL's intervals do and those of RL less SFT, seed by seed, too; else it stays open.

Paper: AdamW alone. Here: gradient descent without momentum or decay, gradients of a norm above 1 scaled to 1 as for
AdamW; as both methods' gradients mostly are larger, their steps at RL's rate are of one length.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.off_principals.matched_panels import (
    METHODS,
    STATISTICS,
    arm_of,
    assemble_matched,
    draw_matched,
)
from rlscape.figures.tables import interval_columns
from rlscape.results import bias
from rlscape.results.bias import MATCHED
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

DIFFERENCE = "difference"


def assemble(config: Config) -> pd.DataFrame:
    """The rows of :func:`assemble_matched` by ``name``, the table of matchings, of an optimiser each; and those of
    method ``difference``, RL less SFT of a seed."""
    names = [name for name, arms in MATCHED.items() if config.seeds.keys() >= {*arms}]
    frames = [
        assembled.assign(name=name)
        for name in names
        for assembled in (assemble_matched(config, name), _differences(config, name))
    ]
    return pd.concat(frames, ignore_index=True)


def _differences(config: Config, name: str) -> pd.DataFrame:
    table = bias.matching(config, name)
    rows = []
    for matching, runs in table.groupby("matching", sort=False):
        rl, sft = (runs[runs["method"] == method].set_index("seed") for method in METHODS)
        for statistic in STATISTICS:
            differences = (rl[statistic] - sft[statistic]).dropna()
            row = {"matching": matching, "method": DIFFERENCE, "statistic": statistic, "seeds": len(differences)}
            rows.append(row | interval_columns("value", t_interval(differences)))
    return pd.DataFrame(rows).assign(scale=config.scale)


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
            "RL less SFT, seed by seed: in the csv",
            "paper: AdamW alone",
        ],
    )
