"""P1, Figure 19: the clips of DAPO and CISPO. Below each sweep its ceilings, with what the paper states.

Paper: the values of panel a could not be recovered, its text names the upper clips 0.2, 0.26 and 0.28. Here:
these and 0.4, see :data:`rlscape.catalogue.ARMS`.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import first_run, resolve_run
from rlscape.figures.learning_curves import add_curve_note, assemble_curves, draw_panel, estimate
from rlscape.figures.scalerl.binding import assemble_binding, describe_binding
from rlscape.figures.scalerl.paper_values import FIG19
from rlscape.figures.style import ARM_STYLES, INK, new_figure
from rlscape.settings.scale import Config

DAPO = ("dapo_clip_020", "baseline", "dapo_clip_028", "dapo_clip_040")
CISPO = tuple(FIG19)
LEAST_RANGE = 0.1
"""Of the axes of ceilings: less would show the last digits of ceilings at one bound."""


def assemble(config: Config) -> pd.DataFrame:
    """Curves (see :mod:`rlscape.figures.learning_curves`), rows of kind clip (arm and its clip as value), and what the
    clips touch (:func:`rlscape.figures.scalerl.binding.assemble_binding`).
    """
    clips = []
    for arm in (*DAPO, *CISPO):
        recipe = resolve_run(config, first_run(config, arm)).recipe
        assert recipe is not None
        clips.append({"kind": "clip", "arm": arm, "value": recipe.clip_high if arm in DAPO else recipe.cispo_cap})
    arms = (*DAPO, *CISPO)
    frames = [assemble_curves(config, arms), pd.DataFrame(clips), assemble_binding(config, arms)]
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b, below them c and d: A against the clip."""
    figure = new_figure(10, 8)
    (dapo, cispo), below = figure.subplots(2, 2, height_ratios=(2, 1))
    cispo.sharey(dapo)
    clips = frame[frame["kind"] == "clip"].set_index("arm")["value"]
    draw_panel(dapo, frame, "a: DAPO, upper clip", DAPO, {}, {"baseline": f"upper clip {clips['baseline']:g}"})
    draw_panel(cispo, frame, "b: CISPO, cap", CISPO, FIG19, {"cispo": f"cap {clips['cispo']:g}"})
    _draw_ceilings(below[0], frame, clips, DAPO)
    below[0].set_title("c: ceiling by DAPO's upper clip", loc="left")
    below[0].set_xlabel("upper clip (ratios above 1 + clip are clipped)")
    _draw_ceilings(below[1], frame, clips, CISPO)
    below[1].plot(
        [clips[arm] for arm in CISPO],
        [FIG19[arm].A for arm in CISPO],
        color=INK,
        marker="o",
        markerfacecolor="none",
        linestyle=":",
        linewidth=0.8,
        label="paper",
    )
    below[1].legend()
    below[1].set_title("d: ceiling by CISPO's cap", loc="left")
    below[1].set_xlabel("cap on the importance ratio")
    for ax in below:
        _widen(ax)
    add_curve_note(
        figure,
        frame,
        f"a: {describe_binding(frame, 'clip', DAPO)}",
        f"b: {describe_binding(frame, 'cap', CISPO)}",
        "paper, a: no values, best inside the range",
    )
    return figure


def _draw_ceilings(ax: Axes, frame: pd.DataFrame, clips: pd.Series, arms: Sequence[str]) -> None:
    for arm in arms:
        colour, marker = ARM_STYLES[arm]
        value, low, high = estimate(frame, arm, "A")
        limits = None if pd.isna(low) else [[value - low], [high - value]]
        ax.errorbar(clips[arm], value, limits, color=colour, marker=marker, markersize=7, capsize=3, linestyle="none")
    ax.set_xticks([clips[arm] for arm in arms])
    ax.set_ylabel("ceiling A")


def _widen(ax: Axes) -> None:
    """At least :data:`LEAST_RANGE` on the y axis."""
    low, high = ax.get_ylim()
    missing = max(0.0, LEAST_RANGE - (high - low)) / 2
    ax.set_ylim(low - missing, high + missing)
