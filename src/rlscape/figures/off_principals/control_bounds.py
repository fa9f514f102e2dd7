"""Control: the paper's perturbation bounds as checks on every measured matrix, and how often they say something.

Paper: Wedin (Thm 3.3), Weyl and Mirsky (Cor 3.4), Ky Fan (Cor 3.5). Weyl, Mirsky, Ky Fan and the safe form of Wedin
are theorems: a negative slack is an error of ours. Wedin as printed can fail, and above 1 it says nothing; a bound
that holds for every small update, of RL or not, is no evidence about RL.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS, arms_of, figure_of
from rlscape.figures.style import ARM_STYLES, INK, add_note, describe_seeds, new_figure, small_numbers_axis
from rlscape.results import weights
from rlscape.settings.scale import Config

TARGET = "off_principals_control_bounds"
SLACKS: dict[str, str] = {
    "weyl": r"Weyl: $\|\Delta W\|_2 - \max|\Delta\sigma|$",
    "mirsky": r"Mirsky: $\|\Delta W\|_F - \|\Delta\sigma\|_2$",
    "kyfan": r"Ky Fan: $\|\Delta W\|_{(k)} - \|\Delta\sigma_{1..k}\|_1$",
    "kyfan_printed": r"Ky Fan, printed: $k\|\Delta W\|_2 - |\Delta\|W\|_{(k)}|$",
    "wedin": r"Wedin, safe: bound $-\ \|\sin\Theta\|_2$",
}
PRINTED_WEDIN = {
    "wedin_bound": r"Wedin, safe: the bound; above 1 it says nothing",
    "wedin_printed_ratio": r"Wedin, printed: $\|\sin\Theta\|_2$ / bound; above 1 it fails",
}
TOLERANCE = 1e-10
"""Below minus this a slack counts as a violation, not as rounding."""


def assemble(config: Config) -> pd.DataFrame:
    """A row per run, matrix and check: arm, seed, tensor, check and value.

    Checks: the slacks ``weyl, mirsky, kyfan, kyfan_printed, wedin`` (NaN where the safe denominator is not positive),
    ``wedin_bound`` (NaN likewise) and ``wedin_printed_ratio``. Matrices that did not change are left out.
    """
    figure = figure_of(TARGET)
    matrices = weights.matrices(config, arms_of(config, figure))
    matrices = matrices[matrices["relative_norm"] > 0]
    columns = {f"{name}_slack": name for name in SLACKS} | {name: name for name in PRINTED_WEDIN}
    values = matrices.rename(columns=columns)
    frame = values.melt(["arm", "seed", "tensor"], list(columns.values()), var_name="check", value_name="value")
    return frame.assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """A panel per check: the cumulative share of an arm's matrices."""
    checks = SLACKS | PRINTED_WEDIN
    figure = new_figure(13, 6)
    axes = figure.subplots(2, 4)
    for ax, (check, label) in zip(axes.flat, checks.items(), strict=False):
        _draw_check(ax, frame[frame["check"] == check], check)
        small_numbers_axis(ax)
        ax.set_title(label, loc="left", fontsize=8)
        ax.set_ylabel("share of matrices")
    axes.flat[-1].set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    axes.flat[-1].legend(handles, labels, loc="center")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        "curves: cumulative over matrices and seeds",
        f"a slack below {-TOLERANCE:g} counts as a violation",
        "paper: no numbers printed",
    )
    return figure


def _draw_check(ax: Axes, frame: pd.DataFrame, check: str) -> None:
    for arm, rows in frame.groupby("arm", sort=False):
        values = rows["value"].dropna().sort_values()
        if len(values):
            colour, _ = ARM_STYLES[str(arm)]
            share = np.arange(1, len(values) + 1) / len(values)
            ax.plot(
                values.clip(lower=TOLERANCE), share, color=colour, label=ARMS[str(arm)].label, drawstyle="steps-post"
            )
    ax.set_ylim(0, 1.02)
    values = frame["value"].dropna()
    if check in SLACKS:
        text = f"{int((values < -TOLERANCE).sum())} violations in {len(values)}"
        ax.set_xlabel(f"slack ({text})")
        return
    ax.axvline(1, color=INK, linewidth=0.8, linestyle=":")
    undefined = int(frame["value"].isna().sum())
    if check == "wedin_bound":
        shares = frame.assign(says=frame["value"] < 1).groupby("arm", sort=False)["says"].mean()
        ax.set_xlabel(f"bound; below 1: {shares.mean():.0%} (mean of arms), none: {undefined}")
    else:
        ax.set_xlabel(f"ratio; above 1 in {(values > 1).mean():.1%} of {len(values)}")
