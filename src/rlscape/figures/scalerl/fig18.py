"""P1, Figure 18: downstream curves; a by generations per prompt, b and c of the run on math and code.

a repeats Figure 17b, as in the paper. Paper: AIME-24 (a, c) and LiveCodeBench, January to June 2025 (b). Here:
held-out math and code problems longer than any in training.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import add_title_and_legend, assemble_downstream, draw_downstream, seed_counts
from rlscape.figures.scalerl.fig17 import SETTINGS
from rlscape.figures.scalerl.paper_values import FIG17
from rlscape.figures.style import add_note, describe_seeds, new_figure
from rlscape.settings.scale import Config

JOINT = ("math_and_code",)


def assemble(config: Config) -> pd.DataFrame:
    """See :func:`rlscape.figures.learning_curves.assemble_downstream`."""
    math = assemble_downstream(config, (*FIG17, *JOINT))
    return pd.concat([math, assemble_downstream(config, JOINT, "code")], ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a, b and c."""
    figure = new_figure(13, 4.8)
    math, code = (frame[frame["task"] == task] for task in ("math", "code"))
    generations, joint_code, joint_math = figure.subplots(1, 3)
    draw_downstream(generations, math, FIG17, SETTINGS)
    add_title_and_legend(generations, "a: math, generations per prompt")
    draw_downstream(joint_code, code, JOINT)
    add_title_and_legend(joint_code, "b: code, run on math and code")
    draw_downstream(joint_math, math, JOINT)
    add_title_and_legend(joint_math, "c: math, run on math and code")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(seed_counts(frame)),
        "band: 95% interval over seeds; of one seed, its sampling error",
        "paper: 8B, one seed, no numbers stated",
    )
    return figure
