"""Control: is the footprint RL's own? Masks of RL, SFT and of updates with nothing to learn, pair by pair.

Paper: runs of RL change the same weights; neither SFT nor an update without learning stands beside them. Here: two
seeds of each. A mask of bf16 depends on the update's size, so the fifth of the entries that moved furthest is compared
too, at equal density; both beside a permutation within magnitude bins. Seeds draw other batches and samples of one
pool of problems, so runs of SFT, which pass over all of it, share more data than runs of RL.

More questions about the same runs: how far AdamW took them for their rate and steps, whether they give back what
rounding took from the base, and whether their changes lie in rows, columns or the blocks of a quantised grid. Both
nulls of these keep the base, so a run from a base on a grid and one from a base off it are compared in the shares
themselves; what is beyond the nulls is the update's own.
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
    # column: title, value of steps in unrelated directions, of an update that restores nothing, without clusters
    "step_share": ("e: norm / (rate $\\sqrt{T N}$)", 1.0),
    "cosine_to_discarded": ("f: cosine with what rounding took", 0.0),
    "row_stripes": ("g: between rows of Q, K, V", 0.0),
    "column_stripes": ("h: between columns of O", 0.0),
    "segment_share": ("i: between blocks of 32", 0.0),
}
CLUSTERED = {
    "row_stripes": ("q", "k", "v"),
    "column_stripes": ("o",),
    "segment_share": ("q", "k", "v", "o", "gate", "up", "down"),
}
"""Column of the measured stripes -> the kinds of matrices that count: those in which the paper sees them, or all."""
NULLS = {"binned": ("|", "permuted in magnitude bins"), "spectrum": ("x", "update rotated")}
"""Null -> its marker, and what it is."""


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind pair (arm_a, arm_b, measure, value, lowest and highest pair) and of kind run (:func:`of_runs`).

    Of a pair of arms, runs of different seeds count, each as the mean over its matrices.
    """
    arms = arms_of(config, figure_of(TARGET))
    measured = pairs.among(pairs.pairs(config, "shared"), arms)
    for name in ("phi", "phi_top"):
        measured[f"{name}_less_binned"] = measured[name] - measured[f"{name}_binned"]
    frames = []
    for arm_a, arm_b in combinations_with_replacement(arms, 2):
        chosen = pairs.against(measured, arm_a, arm_b)
        if arm_a == arm_b:  # both ways round, a pair is one
            chosen = chosen[chosen["seed_a"] < chosen["seed_b"]]
        by_pair = chosen.groupby(["run_a", "run_b"])[list(MEASURES)].mean()
        if by_pair.empty:  # one seed has no repeat
            continue
        found = by_pair.agg(["mean", "min", "max"]).T.rename(columns={"mean": "value", "min": "low", "max": "high"})
        found = found.rename_axis("measure").reset_index()
        frames.append(found.assign(kind="pair", arm_a=arm_a, arm_b=arm_b, pairs=len(by_pair)))
    return pd.concat([*frames, of_runs(config, arms)], ignore_index=True).assign(scale=config.scale)


def of_runs(config: Config, arms: tuple[str, ...]) -> pd.DataFrame:
    """A row per run and one of :data:`OF_RUNS`: kind, arm, seed, measure, value and, of shares, :data:`NULLS`.

    After T steps that each move every entry by the learning rate, in directions that have nothing to do with each
    other, the norm of N entries is rate sqrt(T N); momentum and warm-up are not in this, so noise through AdamW is not
    at one. Shares are of the variance of a mask, mean over matrices: for rows and columns of the entries that change
    first when the update is scaled until half of all do, for blocks of those that do change, in the matrices whose rows
    are whole blocks. The runs are those that are compared pair by pair.
    """
    striped = pairs.stripes(config, "shared").query("view == 'stored'")
    summaries = weights.geometry_summaries(config, arms)
    frame = summaries[(summaries["part"] == origin.PART) & summaries["run"].isin(striped["run"])].set_index("run")
    steps = curves.metrics(config, arms).groupby("run")["step"].max()
    reach = learning_rates(frame, config) * np.sqrt(steps.reindex(frame.index))
    lost = frame["cosine_to_discarded"] if "cosine_to_discarded" in frame else np.nan  # of a base from scratch, nothing
    measured = {
        "step_share": pd.DataFrame({"value": frame["update_rms"] / reach}),
        "cosine_to_discarded": pd.DataFrame({"value": lost}, frame.index),
    }
    for measure, kinds in CLUSTERED.items():
        columns = {measure: "value"} | {f"{measure}_{null}": null for null in NULLS}
        own = striped[striped["kind"].isin(kinds)].groupby("run")[list(columns)].mean()
        measured[measure] = own.rename(columns=columns).reindex(frame.index)
    rows = [frame[["arm", "seed"]].join(values).assign(measure=measure) for measure, values in measured.items()]
    return pd.concat(rows, ignore_index=True).assign(kind="run")


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
        r"a–d: $\phi$ of masks, mean over matrices and pairs of different seeds; 0: independent (b, d: as permuted)",
        "e: 1 is steps of the whole rate in unrelated directions; the reference is noise",
        "g–i: share of a mask's variance; " + ", ".join(f"{marker}: {name}" for marker, name in NULLS.values()),
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
        for null, (sign, _) in NULLS.items():
            ax.plot(rows[null], heights, color=GREY, marker=sign, markersize=5, linestyle="")
    ax.xaxis.set_major_locator(MaxNLocator(5))
