"""P1, Figure 15: the leave-one-out arms of Figure 7 as learning curves, ScaleRL in each panel.

Paper: three panels of the same arms, under the codes plan (prompt-level norm), lp (length penalty), batch
(zero-variance kept), 8op (PPO-off-policy-8), fp32 (without), savg, dapo and npr (uniform sampling). Here: by what the
arms change.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import add_curve_note, assemble_curves, draw_panel
from rlscape.figures.scalerl.paper_values import FIG7
from rlscape.figures.style import new_figure
from rlscape.settings.scale import Config

PANELS = {
    "a: the objective": ("scalerl", "loo_dapo", "loo_sample_average", "loo_prompt_norm"),
    "b: prompts and length": ("scalerl", "loo_batch", "loo_uniform", "loo_length_penalty"),
    "c: staleness and precision": ("scalerl", "loo_ppo8", "loo_bf16_head"),
}


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_curves`."""
    return assemble_curves(config, FIG7)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a, b and c."""
    figure = new_figure(13.5, 5.6)
    paper = {arm: row.free for arm, row in FIG7.items()}
    for ax, (title, arms) in zip(figure.subplots(1, 3, sharey=True), PANELS.items(), strict=True):
        draw_panel(ax, frame, title, arms, paper)
    add_curve_note(figure, frame)
    return figure
