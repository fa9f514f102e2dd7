"""Control: is sparsity a property of RL or of size? The update at matched gains against the number of parameters.

Paper: models of 1.5 to 30 billion parameters, at gains it does not state. Here: four widths at one learning rate, and
the base of the other figures at its own; a power law of x in the number of parameters, carried to the paper's sizes
beside the x that its Table 1 implies. A pretrained model stands beside the widths that another scale recorded; no law
is fitted through it.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from rlscape.catalogue import ARMS
from rlscape.catalogue.grids import SIZES
from rlscape.figures.off_principals.paper_values import TABLE_1
from rlscape.figures.style import BLUE, GREEN, INK, ORANGE, add_note, describe_seeds, new_figure
from rlscape.results import model_size
from rlscape.settings.scale import Config

FITTED = tuple(f"size_{size}" for size in SIZES)
ARMS_SHOWN = (*FITTED, "rlvr")  # at some scales
GAINS = {0.05: GREEN, 0.1: BLUE, 0.2: ORANGE}
"""Gain -> colour."""
PAPER_PARAMETERS = {
    "DS-Qwen-1.5B": 1.5e9,
    "Qwen3-4B": 4e9,
    "DS-Qwen-7B": 7e9,
    "Klear-SFT": 8e9,
    "Qwen3-8B-Base": 8e9,
    "Qwen3-14B-Base": 14e9,
    "Qwen3-30B-A3B": 30e9,
}
"""Base of a row of Table 1 -> parameters, by its name; Klear-SFT is a Qwen3-8B."""
QUANTITIES = {
    "x": ("a: size of the update", "x"),
    "sparsity": ("b: sparsity", "share unchanged in bf16"),
    "overlap_excess": (r"c: overlap with $M_\mathrm{princ}$", "less binned null"),
    "nss": ("d: spectral shift", "NSS"),
}
"""Column -> title and label."""
POINTS = 40
CONFIDENCE = 0.95


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind run (at a gain), fit (gain, parameters, x and its interval, slope) and paper (parameters, x)."""
    own = model_size.at_gains(config, [arm for arm in ARMS_SHOWN if arm in config.seeds], GAINS)
    runs = pd.concat([own.assign(scale=config.scale), model_size.recorded_sizes(config)], ignore_index=True)
    fits = [
        fit_power_law(rows).assign(kind="fit", gain=gain)
        for gain, rows in runs[runs["arm"].isin(FITTED)].groupby("gain")
    ]
    paper = pd.DataFrame(
        {"kind": "paper", "base": row.base, "parameters": PAPER_PARAMETERS[row.base]}
        | {"x": row.update_size, "sparsity": row.sparsity}
        for row in TABLE_1
        if row.method != "SFT"
    )
    frames = [runs.assign(kind="run"), *(fit for fit in fits if len(fit)), paper]
    return pd.concat(frames, ignore_index=True)


def fit_power_law(runs: pd.DataFrame) -> pd.DataFrame:
    """x = c N^slope by least squares on logarithms, from the smallest N to the paper's largest, with its 95% interval.

    The interval is of the fitted line, seeds of a width being points of their own; it does not know whether the law
    goes on. Empty where a run is censored, since the line would then be too low, or with fewer than three sizes.

    Returns:
        parameters, x, x_low, x_high, slope, slope_low, slope_high.
    """
    if runs["censored"].any() or runs["parameters"].nunique() < 3:
        return pd.DataFrame()
    log_n, log_x = np.log(runs["parameters"].to_numpy(float)), np.log(runs["x"].to_numpy(float))
    line = stats.linregress(log_n, log_x)
    degrees = len(runs) - 2
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, degrees)
    spread = np.sqrt(((log_x - line.intercept - line.slope * log_n) ** 2).sum() / degrees)
    sizes = np.geomspace(runs["parameters"].min(), max(PAPER_PARAMETERS.values()), POINTS)
    centred = np.log(sizes) - log_n.mean()
    margin = quantile * spread * np.sqrt(1 / len(runs) + centred**2 / ((log_n - log_n.mean()) ** 2).sum())
    fitted = line.intercept + line.slope * np.log(sizes)
    return pd.DataFrame(
        {
            "parameters": sizes,
            "x": np.exp(fitted),
            "x_low": np.exp(fitted - margin),
            "x_high": np.exp(fitted + margin),
            "slope": line.slope,
            "slope_low": line.slope - quantile * line.stderr,
            "slope_high": line.slope + quantile * line.stderr,
        }
    )


def draw(frame: pd.DataFrame) -> Figure:
    """a: x with its power law, to the paper's sizes. b to d: sparsity, overlap beyond its null and NSS."""
    figure = new_figure(12, 6.4)
    above, below = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False).flat
    axes = [above.subplots(), *below.subplots(1, len(QUANTITIES) - 1)]
    runs, paper = frame[frame["kind"] == "run"], frame[frame["kind"] == "paper"]
    for ax, (quantity, (title, label)) in zip(axes, QUANTITIES.items(), strict=True):
        _draw_runs(ax, runs, quantity)
        ax.set(xscale="log", xlabel="parameters", ylabel=label)
        ax.set_title(f"{title}, at equal gain", loc="left")
    for gain, fit in frame[frame["kind"] == "fit"].groupby("gain"):
        colour, first = GAINS[gain], fit.iloc[0]
        label = f"gain {gain:g}: slope {first['slope']:.2f} [{first['slope_low']:.2f}, {first['slope_high']:.2f}]"
        axes[0].plot(fit["parameters"], fit["x"], color=colour, label=label)
        axes[0].fill_between(fit["parameters"], fit["x_low"], fit["x_high"], color=colour, alpha=0.12, linewidth=0)
    axes[0].plot(
        paper["parameters"], paper["x"], linestyle="", marker="P", color=INK, label="paper, RL (gains unknown)"
    )
    axes[0].set_yscale("log")
    axes[0].legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    below.legend(*axes[1].get_legend_handles_labels(), loc="outside right center")
    axes[2].axhline(0, color=INK, linewidth=0.8)
    censored = runs[runs["censored"].astype(bool)].groupby("gain").size()
    add_note(
        figure,
        f"scale: {' and '.join(runs['scale'].unique())}",
        describe_seeds(runs.groupby(["scale", "arm"])["seed"].nunique()),
        f"circles: widths at one learning rate; diamonds: {ARMS['rlvr'].label}, each at its own, not fitted",
        "arrows: gain not reached" + "".join(f", {gain:g} by {count} (no fit)" for gain, count in censored.items()),
        "band: 95% of the line, which does not know whether the law goes on; paper: x from Table 1's sparsity",
    )
    return figure


def _draw_runs(ax: Axes, runs: pd.DataFrame, quantity: str) -> None:
    for gain, colour in GAINS.items():
        for fitted, marker in ((True, "o"), (False, "D")):
            rows = runs[(runs["gain"] == gain) & (runs["arm"].isin(FITTED) == fitted)]
            censored = rows["censored"].astype(bool)
            look = {"color": colour, "linestyle": "", "markersize": 5}
            reached = rows[~censored]
            label = f"gain {gain:g}" if fitted and quantity != "x" else None
            ax.plot(reached["parameters"], reached[quantity], marker=marker, label=label, **look)
            upwards = quantity in ("x", "nss")
            ax.plot(
                rows["parameters"][censored],
                rows[quantity][censored],
                marker="^" if upwards else "v",
                mfc="none",
                **look,
            )
