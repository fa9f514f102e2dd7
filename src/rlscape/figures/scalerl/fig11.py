"""P1, Figure 11: ScaleRL on math alone, and on math and code together.

Paper: one axes, Polaris and DeepCoder. Here: an axes per task; both runs start from a base model that has seen
programs, so that their math curves compare.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import add_curve_note, assemble_curves, draw_panel
from rlscape.figures.scalerl.paper_values import FIG11
from rlscape.figures.style import new_figure
from rlscape.settings.scale import Config

PANELS: dict[str, str] = {"math problems": "math", "code problems": "code"}


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_curves`; a frame per task."""
    return pd.concat([assemble_curves(config, _arms(task), task) for task in PANELS.values()], ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per task."""
    figure = new_figure(10, 5)
    for ax, (title, task) in zip(figure.subplots(1, 2, sharey=True), PANELS.items(), strict=True):
        paper = {arm: FIG11[arm, task] for arm in _arms(task)}
        draw_panel(ax, frame[frame["task"] == task], title, _arms(task), paper)
    add_curve_note(figure, frame)
    return figure


def _arms(task: str) -> list[str]:
    return [arm for arm, of_task in FIG11 if of_task == task]
