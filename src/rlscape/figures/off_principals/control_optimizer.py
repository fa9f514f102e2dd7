"""Control: is it AdamW's? RL, SFT and RL with random rewards by plain gradient descent, alone and at equal size.

AdamW makes every entry's step about as large as the learning rate, whatever its gradient; a step of plain gradient
descent is its gradient. Two statistics decide, each for itself, fixed with this rule before they were measured: the
update's fp32 energy in M_princ over chance less what its rows, columns and the weights' magnitudes say, and its energy
in U_k over what its rows say (:mod:`rlscape.geometry.margins`). They are means over the matrices.

- Such updates have a preference where the intervals of RL and of SFT lie on one side of the null's value and so does
  every run with random rewards (of energy in U_k, beyond the null's own range); on a second task, every run of all
  three on the same side.
- If so, it is RL's more than SFT's where the interval of RL less SFT, seed by seed, lies on the same side of 0, and
  more than random rewards' where each of RL's runs is further on that side; on a second task likewise, run by run.
- RL and SFT coincide where that interval lies within 0.03 of energy in M_princ over chance, 0.05 of that in U_k.
- Else it stays open. All else that is shown describes.

Paper: AdamW alone. Here: gradient descent without momentum or decay, gradients of a norm above 1 scaled to 1 as for
AdamW, so that sums of such steps are seen, not gradients. Warm-up starts at half the rate for RL, at none for SFT; a
step of RL has four times as many sequences.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from rlscape.catalogue import ARMS
from rlscape.figures.off_principals.matched_panels import (
    METHODS,
    arm_of,
    assemble_matched,
    draw_statistics,
    height_of,
)
from rlscape.figures.style import ARM_STYLES, GREY, add_note, describe_interval, describe_seeds, new_figure
from rlscape.figures.tables import error_bars, interval_columns
from rlscape.figures.weights import seed_heights
from rlscape.results import bias
from rlscape.results.bias import MATCHED
from rlscape.results.curves import updates
from rlscape.scaling.uncertainty import paired_differences, t_interval
from rlscape.settings.scale import Config

RL, SFT, _ = MATCHED["matching_sgd"]
LABELS = {
    "enrichment": (r"energy in $M_\mathrm{princ}$, less margins", 0.0),
    "left": (r"energy in $U_k$ / margins", 1.0),
    "right": (r"energy in $V_k$ / margins", 1.0),
    "both": (r"energy in both / margins", 1.0),
    "overlap": (r"$M_\mathrm{princ}$ less margins", 0.0),
}
DECIDE = ("enrichment", "left")
NORMAL_95 = 1.96


def assemble(config: Config) -> pd.DataFrame:
    """Rows of four kinds: ``run`` (arm, seed, statistic, value), ``arm`` (its mean with t limits), ``less`` (RL less
    another arm of the same seed, likewise), and ``matched``, the rows of :func:`assemble_matched` by ``name``.

    ``clipped`` is a run's share of steps whose gradient was clipped; ``<statistic>_sd`` see :func:`bias.directions`.
    """
    runs = bias.directions(config)
    steps = updates(config, runs["arm"].unique())
    steps = steps[steps["gradient_norm"] > 0]  # without a gradient there is no step
    clipped = (steps["gradient_norm"] > config.off_principals.rl.max_gradient_norm).groupby(steps["run"]).mean()
    runs = runs.assign(clipped=runs["run"].map(clipped))
    by_run = runs.melt(["run", "arm", "seed"], var_name="statistic").drop(columns="run")
    frames = [by_run.assign(kind="run"), pd.DataFrame(_intervals(runs))]
    for name, arms in MATCHED.items():
        if config.seeds.keys() >= {*arms}:
            frames.append(assemble_matched(config, name).assign(name=name, kind="matched"))
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def _intervals(runs: pd.DataFrame) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    values = {arm: table.set_index("seed") for arm, table in runs.groupby("arm", sort=False)}
    for statistic in runs.columns.drop(["run", "arm", "seed"]):
        for arm, table in values.items():
            means = {"arm": t_interval(table[statistic])}
            if arm != RL:
                pairs = paired_differences(values[RL][statistic].to_dict(), table[statistic].to_dict())
                means["less"] = t_interval(pairs)
            for kind, interval in means.items():
                row = {"kind": kind, "arm": arm, "statistic": statistic, "seeds": interval.seeds}
                rows.append(row | interval_columns("value", interval))
    return rows


def draw(frame: pd.DataFrame) -> Figure:
    """Above, what decides and its kin, a line per arm, a dot per seed; below, RL and SFT by every optimiser at equal
    size, a panel per statistic, a line per matching."""
    matched = frame[frame["kind"] == "matched"]
    series = [
        (arm_of(name, method), matched[(matched["name"] == name) & (matched["method"] == method)])
        for name in matched["name"].unique()
        for method in METHODS
    ]
    figure = new_figure(13, 2.6 + height_of(series))
    heights = (2.4, height_of(series))
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False).flat
    _draw_directions(above, frame)
    draw_statistics(below, series)
    means = frame[(frame["kind"] == "arm") & (frame["statistic"] == "clipped")]
    shares = ", ".join(f"{ARMS[row['arm']].label} {row['value']:.0%}" for _, row in means.iterrows())
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds([*means["seeds"].astype(int), *matched["seeds"].astype(int)]),
        f"*: decides; RL less SFT: {_describe_difference(frame)}",
        f"steps with clipped gradients: {shares}",
        "margins, grey: what the update's rows and columns and the sizes of weights say, shaded: 95% of random signs",
        "above: a dot per seed; bars: 95% intervals over seeds",
        "SGD: SFT has RL's learning rate, so that it is the same as run; paper: AdamW alone",
    )
    return figure


def _describe_difference(frame: pd.DataFrame) -> str:
    less = frame[(frame["kind"] == "less") & (frame["arm"] == SFT)].set_index("statistic")
    names = {"value": "value", "value_low": "low", "value_high": "high"}
    return ", ".join(
        f"{LABELS[statistic][0].partition(',')[0].partition(' /')[0]} "
        f"{describe_interval(less.loc[statistic, list(names)].rename(names))}"
        for statistic in DECIDE
    )


def _draw_directions(figure: SubFigure, frame: pd.DataFrame) -> None:
    arms = list(frame.loc[frame["kind"] == "arm", "arm"].unique())
    axes = figure.subplots(1, len(LABELS), sharey=True)
    for ax, (statistic, (label, neutral)) in zip(axes, LABELS.items(), strict=True):
        _draw_direction(ax, frame[frame["statistic"] == statistic], arms)
        ax.axvline(neutral, color=GREY, linewidth=0.8)
        spread = frame[(frame["kind"] == "run") & (frame["statistic"] == f"{statistic}_sd")]
        if (half := NORMAL_95 * spread["value"].max()) > 0:
            ax.axvspan(neutral - half, neutral + half, color=GREY, alpha=0.2, linewidth=0)
        ax.set_title(f"{label}{' *' if statistic in DECIDE else ''}", loc="left", fontsize=9)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    axes[0].set_yticks(range(len(arms)), [ARMS[arm].label for arm in arms])
    axes[0].set_ylim(len(arms) - 0.4, -0.6)


def _draw_direction(ax: Axes, frame: pd.DataFrame, arms: list[str]) -> None:
    for place, arm in enumerate(arms):
        colour, marker = ARM_STYLES[arm]
        of_arm = frame[frame["arm"] == arm]
        runs, mean = of_arm[of_arm["kind"] == "run"], of_arm[of_arm["kind"] == "arm"]
        ax.plot(runs["value"], seed_heights(runs, place), color=colour, marker=marker, markersize=4, linestyle="")
        ax.errorbar(mean["value"], [place], xerr=error_bars(mean, "value"), color=colour, marker="|", elinewidth=0.8)
