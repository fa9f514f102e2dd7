"""P1, Figure 7: ScaleRL and eight arms that each revert one of its choices, on axes where Eq 1 is a straight line.

log F(R_C) against log C, F(R_C) = C_mid^B / ((A - R_0) / (R_C - R_0) - 1) = C^B, with B and C_mid fitted again at one
ceiling for all arms. Every line passes through (1, 1), so that the vertical order of the arms is the order of B and no
second piece of evidence. F is undefined for points at or above A and at or below R_0; these are left out.

Paper: A = 0.605, fits up to 8,000 of 16,000 GPU-hours. Here: A is the mean over the arms, the fits use all of each run.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS
from rlscape.figures.scalerl.paper_values import FIG7, SHARED_A
from rlscape.figures.style import ARM_STYLES, add_note, describe_interval, describe_seeds, log_compute_axis, new_figure
from rlscape.results import curves
from rlscape.scaling.ceilings import fit_at_ceilings
from rlscape.scaling.sigmoid import linearised
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config

REFERENCE = "scalerl"


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind point (arm, seed, compute, value: F, NaN if undefined) and B (arm, A, value, low, high, seeds)."""
    runs, metrics = curves.fits(config, FIG7), curves.metrics(config, FIG7)
    fits = fit_at_ceilings(runs, metrics, config.fit)
    fits = fits[fits["ceiling"] == "mean"].set_index(["arm", "seed"])
    frames = []
    for run in runs:
        fit = fits.loc[(run.arm, run.seed)]
        points = metrics[(metrics["arm"] == run.arm) & (metrics["seed"] == run.seed) & (metrics["compute"] > 0)]
        value = linearised(points["pass_rate"], fit["A"], fit["B"], fit["C_mid"], run.initial.pass_rate)
        frames.append(points[["arm", "seed", "compute"]].assign(kind="point", value=value))
    for arm, of_arm in fits.groupby("arm", sort=False):
        B = t_interval(of_arm["B"])
        row = {"kind": "B", "arm": arm, "A": of_arm["A"].mean(), "value": B.estimate, "low": B.low, "high": B.high}
        frames.append(pd.DataFrame(row | {"seeds": len(of_arm)}, index=[0]))
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """A line and the points of all seeds per arm."""
    figure = new_figure(9.4, 5.2)
    ax = figure.subplots()
    points = frame[frame["kind"] == "point"]
    slopes = frame[frame["kind"] == "B"].set_index("arm")
    for arm, paper in FIG7.items():
        colour, marker = ARM_STYLES[arm]
        of_arm, B = points[points["arm"] == arm], slopes.loc[arm]
        ax.scatter(of_arm["compute"], of_arm["value"], color=colour, marker=marker, s=10, alpha=0.5, linewidth=0)
        ends = np.array([of_arm["compute"].min(), of_arm["compute"].max()])
        label = f"{ARMS[arm].label}: B {describe_interval(B, digits=2)}, paper {paper.shared_A_B:.2f}"
        ax.plot(ends, ends ** B["value"], color=colour, marker=marker, markersize=5, linewidth=1.2, label=label)
    log_compute_axis(ax)
    if not points["value"].notna().any():
        ax.text(0.5, 0.5, "no fit at the shared ceiling", transform=ax.transAxes, ha="center")
        ax.set(xlim=(points["compute"].min(), points["compute"].max()), ylim=(1, 10))
    ax.set_yscale("log")
    ax.set_ylabel(r"$C_{mid}^B\,/\,((A - R_0)/(R_C - R_0) - 1)$")
    ax.set_title("ScaleRL and eight arms that revert one choice each, at one ceiling", loc="left")
    handles, labels = ax.get_legend_handles_labels()
    order = np.argsort(-slopes.loc[list(FIG7), "value"].fillna(-np.inf).to_numpy(), kind="stable")
    ax.legend(
        [handles[index] for index in order],
        [labels[index] for index in order],
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        title="slope, in order",
        alignment="left",
    )
    undefined = points["value"].isna()
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(slopes["seeds"].astype(int)),
        f"shared A {slopes['A'].iloc[0]:.3f}, paper {SHARED_A}",
        f"{undefined.sum()} of {len(points)} points undefined, left out",
        "every line passes through (1, 1): the vertical order is that of B",
        _rank(slopes["value"]),
    )
    return figure


def _rank(slopes: pd.Series) -> str:
    """Where ScaleRL stands among the arms whose slope is known; nowhere without its own."""
    fitted = slopes.dropna()
    if REFERENCE not in fitted:
        return ""
    ours = int((fitted > fitted[REFERENCE]).sum()) + 1
    theirs = pd.Series({arm: row.shared_A_B for arm, row in FIG7.items()})
    paper = int((theirs > theirs[REFERENCE]).sum()) + 1
    return f"ScaleRL is number {ours} of {len(fitted)} by slope (paper: number {paper} of {len(theirs)})"
