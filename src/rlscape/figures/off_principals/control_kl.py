"""Control for Gate I: how far one step moves the policy, by learning rate, and what a gain costs in KL.

Paper (Prop 3.2, Lemma F.9): each on-policy step stays close in KL even without a KL term, because ratios stay within
[1 - eps, 1 + eps]; then KL = O(eps^2) per token. Here: the second-order value eps^2 / 2 with eps the wider clip. The
clip does not strictly bound ratios, and any optimiser that takes small steps moves KL by their square (slope 2), with
or without RL; so SFT stands beside it.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS, first_run, resolve_run
from rlscape.catalogue.grids import RATES, SFT_RATES
from rlscape.figures.learning_curves import add_title_and_legend
from rlscape.figures.style import ARM_STYLES, GREY, INK, add_note, describe_seeds, new_figure, small_numbers_axis
from rlscape.figures.tables import error_bars, interval_columns
from rlscape.figures.weights import learning_rates
from rlscape.results import bias, curves
from rlscape.scaling.uncertainty import log_t_interval, t_interval
from rlscape.settings.scale import Config

FAMILIES: dict[str, tuple[str, ...]] = {
    # the arm at its own rate -> all its rates
    "rlvr": ("rlvr", *(f"rlvr_lr_{rate}" for rate in RATES)),
    "sft": ("sft", "sft_rl_rate", *(f"sft_lr_{rate}" for rate in SFT_RATES)),
}
CLIPPED = "rlvr"
"""Where the clip of the bound comes from."""


def assemble(config: Config) -> pd.DataFrame:
    """Rows of three kinds.

    step: a row per arm: family, learning_rate, seeds; with limits over seeds the geometric mean ``kl_step`` and the
    mean ``clip_fraction`` (RL only) over the steps; ``largest``, the largest step's KL of any seed; ``bound``.
    slope: a row per family, of log kl_step on log learning_rate over its arms: value.
    path: a row per run and evaluation: gain in pass rate since step 0 and ``kl``, KL(pi_0 || pi).
    """
    arms = [arm for family in FAMILIES.values() for arm in family]
    steps = _steps(config, arms)
    return pd.concat([steps, _slopes(steps), _paths(config, arms)], ignore_index=True).assign(scale=config.scale)


def _steps(config: Config, arms: list[str]) -> pd.DataFrame:
    recipe = resolve_run(config, first_run(config, CLIPPED)).recipe
    assert recipe is not None, "an RL arm"
    family = {arm: name for name, members in FAMILIES.items() for arm in members}
    updates = curves.updates(config, arms)
    rows = []
    for arm, of_arm in updates[updates["kl_step"] > 0].groupby("arm", sort=False):
        runs = of_arm.groupby("run")
        row = {"kind": "step", "arm": arm, "family": family[str(arm)], "seeds": runs.ngroups}
        row |= interval_columns("kl_step", log_t_interval(runs["kl_step"].mean()))
        row["largest"] = of_arm["kl_step"].max()
        if "clip_fraction" in of_arm:
            row |= interval_columns("clip_fraction", t_interval(runs["clip_fraction"].mean()))
        rows.append(row)
    steps = pd.DataFrame(rows)
    return steps.assign(learning_rate=learning_rates(steps, config), bound=bias.step_bound(recipe))


def _slopes(steps: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for family, arms in steps.groupby("family", sort=False):
        slope = np.polyfit(np.log(arms["learning_rate"]), np.log(arms["kl_step"]), 1)[0]
        rows.append({"kind": "slope", "family": family, "value": slope})
    return pd.DataFrame(rows)


def _paths(config: Config, arms: list[str]) -> pd.DataFrame:
    metrics = curves.metrics(config, arms).sort_values(["run", "step"])
    metrics["gain"] = metrics["pass_rate"] - metrics.groupby("run")["pass_rate"].transform("first")
    drift = curves.updates(config, arms).set_index(["run", "step"])["kl_from_start"].rename("kl")
    paths = metrics[["run", "arm", "seed", "step", "gain"]].join(drift, on=["run", "step"], how="inner")
    return paths.assign(kind="path")


def draw(frame: pd.DataFrame) -> Figure:
    """a: KL of one step by learning rate. b: tokens that the clip stops. c: KL at equal gains."""
    figure = new_figure(12, 4.8)
    axes = figure.subplots(1, 3)
    steps, slopes = frame[frame["kind"] == "step"], frame[frame["kind"] == "slope"].set_index("family")["value"]
    for family in FAMILIES:
        _draw_steps(axes[0], steps[steps["family"] == family], family, float(slopes[family]))
    axes[0].axhline(steps["bound"].iloc[0], color=INK, linestyle=":", linewidth=1, label=r"$\varepsilon^2/2$")
    axes[0].set(yscale="log", xlabel="learning rate", ylabel="KL of one step (nats per token)")
    add_title_and_legend(axes[0], "a: one step; dots: the largest")
    clipped = steps[steps["family"] == "rlvr"].sort_values("learning_rate")
    colour, marker = ARM_STYLES["rlvr"]
    bars = error_bars(clipped, "clip_fraction")
    axes[1].errorbar(clipped["learning_rate"], clipped["clip_fraction"], bars, color=colour, marker=marker)
    axes[1].set(xlabel="learning rate", ylabel="share of tokens")
    axes[1].set_ylim(bottom=0)
    axes[1].set_title(f"b: {ARMS['rlvr'].label}, ratios outside the clip", loc="left")
    for ax in axes[:2]:
        small_numbers_axis(ax)
    _draw_paths(axes[2], frame[frame["kind"] == "path"])
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(steps["seeds"].astype(int)),
        "a, b: 95% intervals over seeds, where there are several",
        "b: ratios whose gradient the clip stops, mean over steps",
        "paper: no numbers printed",
    )
    return figure


def _draw_steps(ax: Axes, steps: pd.DataFrame, family: str, slope: float) -> None:
    steps = steps.sort_values("learning_rate")
    colour, marker = ARM_STYLES[family]
    label = f"{ARMS[family].label}: slope {slope:.2f}"
    bars = error_bars(steps, "kl_step")
    ax.errorbar(steps["learning_rate"], steps["kl_step"], bars, color=colour, marker=marker, label=label)
    ax.plot(steps["learning_rate"], steps["largest"], color=colour, marker=".", linestyle="", alpha=0.6)


def _draw_paths(ax: Axes, paths: pd.DataFrame) -> None:
    for family, arms in FAMILIES.items():
        colour, marker = ARM_STYLES[family]
        labelled = paths.loc[paths["arm"] == family, "run"].iloc[0]
        for run, rows in paths[paths["arm"].isin(arms)].groupby("run", sort=False):
            own = rows["arm"].iloc[0] == family
            look: dict[str, Any] = {
                "color": colour,
                "alpha": 1.0 if own else 0.35,
                "markersize": 4 if own else 2,
                "linewidth": 0.8,
            }
            label = ARMS[family].label if run == labelled else None
            ax.plot(rows["gain"], rows["kl"], marker=marker, label=label, **look)
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set(yscale="log", xlabel="gain in pass rate", ylabel=r"KL$(\pi_0\,\|\,\pi)$ (nats per token)")
    add_title_and_legend(ax, "c: cost of a gain; faint: other rates")
