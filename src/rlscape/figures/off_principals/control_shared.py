"""Control: is the footprint RL's own? Masks of RL, SFT and of updates with nothing to learn, pair by pair.

Paper: runs of RL change the same weights; neither SFT nor an update without learning stands beside them. Here: two
seeds of each, from one base. A mask of bf16 depends on the update's size, so the fifth of the entries that moved
furthest is compared too, at equal density, beside a permutation within magnitude bins and independent rotations of
both updates. More questions about the same runs: how far AdamW took them for their rate and steps, whether they give
back what rounding took from the base, and how far they change whole rows or columns. A pair of runs from a base on a
quantised grid and from one off it, and the stripes of either, say what the grid does.
"""

from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlscape.catalogue import ARMS, arms_of, figure_of
from rlscape.figures.style import ARM_STYLES, GREY, add_note, describe_seeds, new_figure
from rlscape.figures.weights import learning_rates, seed_heights
from rlscape.results import curves, origin, pairs, weights
from rlscape.settings.scale import Config

TARGET = "off_principals_control_shared"
MEASURES = {
    "phi": "a: masks in bf16",
    "phi_less_binned": "b: less permuted in magnitude bins",
    "phi_top": "c: fifth that moved furthest",
    "phi_top_less_binned": "d: less permuted in magnitude bins",
}
OF_RUNS = {
    # column: title, value of steps in unrelated directions and of an update that restores nothing
    "step_share": ("e: norm / (rate $\\sqrt{T N}$)", 1.0),
    "cosine_to_discarded": ("f: cosine with what rounding took", 0.0),
    "row_stripes": ("g: row stripes of Q, K, V less rotated", 0.0),
    "column_stripes": ("h: column stripes of O less rotated", 0.0),
}
STRIPED = {"row": ("q", "k", "v"), "column": ("o",)}
"""Axis of stripes -> the kinds of matrices in which the paper sees them."""


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind pair (arm_a, arm_b, measure, value, lowest and highest pair) and of kind run (arm, seed, measure).

    Of a pair of arms, runs of different seeds count, each as the mean over its matrices.
    """
    arms = arms_of(config, figure_of(TARGET))
    measured = pairs.among(pairs.pairs(config, "shared"), arms)
    for name in ("phi", "phi_top"):
        measured[f"{name}_less_binned"] = measured[name] - measured[f"{name}_binned"]
    frames = []
    for arm_a, arm_b in combinations_with_replacement(arms, 2):
        by_pair = pairs.against(measured, arm_a, arm_b).groupby(["run_a", "run_b"])[list(MEASURES)].mean()
        if by_pair.empty:  # one seed has no repeat
            continue
        found = by_pair.agg(["mean", "min", "max"]).T.rename(columns={"mean": "value", "min": "low", "max": "high"})
        found = found.rename_axis("measure").reset_index()
        frames.append(found.assign(kind="pair", arm_a=arm_a, arm_b=arm_b, pairs=len(by_pair)))
    runs = of_runs(config, arms).melt(["arm", "seed"], list(OF_RUNS), var_name="measure")
    return pd.concat([*frames, runs.assign(kind="run")], ignore_index=True).assign(scale=config.scale)


def of_runs(config: Config, arms: tuple[str, ...]) -> pd.DataFrame:
    """A row per run: arm, seed and :data:`OF_RUNS`.

    After T steps that each move every entry by the learning rate, in directions that have nothing to do with each
    other, the norm of N entries is rate sqrt(T N). Stripes are the share of the variance of half of the entries that
    lies between lines, less that of a rotated update.
    """
    summaries = weights.geometry_summaries(config, arms)
    frame = summaries[summaries["part"] == origin.PART].set_index("run")
    steps = curves.metrics(config, arms).groupby("run")["step"].max()
    reach = learning_rates(frame, config) * np.sqrt(steps.reindex(frame.index))
    lost = frame["cosine_to_discarded"] if "cosine_to_discarded" in frame else np.nan  # of a base from scratch, nothing
    striped = pairs.stripes(config, "shared").query("view == 'stored'")
    for axis, kinds in STRIPED.items():
        own = striped[striped["kind"].isin(kinds)].set_index("run")
        beyond = own[f"{axis}_stripes"] - own[f"{axis}_stripes_spectrum"]
        frame[f"{axis}_stripes"] = beyond.groupby(level="run").mean()
    return frame.assign(step_share=frame["update_rms"] / reach, cosine_to_discarded=lost).reset_index()


def draw(frame: pd.DataFrame) -> Figure:
    """Above: a matrix of arms per measure. Below: a dot per run, of what is known of some."""
    runs = frame[frame["kind"] == "run"]
    arms = list(runs["arm"].unique())
    figure = new_figure(13, 0.55 * len(arms) + 4.2)
    above, below = figure.subfigures(2, 1, height_ratios=(1.5, 1), squeeze=False).flat
    for index, (ax, (measure, title)) in enumerate(zip(above.subplots(1, 4), MEASURES.items(), strict=True)):
        _draw_pairs(ax, frame[frame["measure"] == measure], arms)
        ax.set_title(title, loc="left", fontsize=9)
        labels = [ARMS[arm].label for arm in arms]
        ax.set_yticks(range(len(arms)), labels if index == 0 else [""] * len(arms), fontsize=8)
        ax.set_xticks(range(len(arms)), labels, fontsize=8, rotation=40, ha="right")
    known = [measure for measure in OF_RUNS if runs.loc[runs["measure"] == measure, "value"].notna().any()]
    row = below.subplots(1, len(known), sharey=True, squeeze=False)[0]
    for ax, measure in zip(row, known, strict=True):
        title, unrelated = OF_RUNS[measure]
        _draw_runs(ax, runs[runs["measure"] == measure], arms)
        ax.axvline(unrelated, color=GREY, linewidth=0.8)
        ax.set_title(title, loc="left", fontsize=9)
    row[0].set_yticks(range(len(arms)), [ARMS[arm].label for arm in arms], fontsize=8)
    row[0].invert_yaxis()
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(runs.groupby("arm")["seed"].nunique()),
        r"a–d: $\phi$ of masks, mean over matrices and pairs of different seeds; 0: independent",
        "grey: steps in unrelated directions, no relation",
        "paper: no such control",
    )
    return figure


def _draw_pairs(ax: Axes, frame: pd.DataFrame, arms: list[str]) -> None:
    values = np.full((len(arms), len(arms)), np.nan)
    for row in frame.itertuples():
        first, second = sorted((arms.index(row.arm_a), arms.index(row.arm_b)), reverse=True)
        values[first, second] = row.value
    ax.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (first, second), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "black" if value > 0.5 else "white"
            ax.text(second, first, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)


def _draw_runs(ax: Axes, frame: pd.DataFrame, arms: list[str]) -> None:
    for place, arm in enumerate(arms):
        rows = frame[frame["arm"] == arm]
        colour, marker = ARM_STYLES[arm]
        heights = seed_heights(rows, place)
        ax.plot(rows["value"], heights, color=colour, marker=marker, markersize=5, linestyle="")
    ax.xaxis.set_major_locator(MaxNLocator(5))
