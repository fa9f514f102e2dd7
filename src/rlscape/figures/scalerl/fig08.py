"""P1, Figure 8a: seeds of ScaleRL and the spread of their ceilings.

Paper: three seeds, A within +-0.015, rounded to the margin of +-0.02 that all its comparisons use.
"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from rlscape.config import Config
from rlscape.figures.learning_curves import finish_axes
from rlscape.figures.scalerl.paper_values import SEED_SPREAD_A
from rlscape.figures.style import add_note, describe_seeds, new_figure
from rlscape.results import curves

ARM = "scalerl"
GRID_POINTS = 60


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind evaluation and forecast (seed, compute, value, later), A (seed, value) and base."""
    metrics = curves.metrics(config, [ARM])
    frames = []
    forecasts = curves.forecasts(config, [ARM])
    for (run, seed), rows in metrics[metrics["compute"] > 0].groupby(["run", "seed"], sort=False):
        forecast = forecasts[run]
        frames.append(
            pd.DataFrame(
                {
                    "kind": "evaluation",
                    "seed": seed,
                    "compute": rows["compute"],
                    "value": rows["pass_rate"],
                }
            )
        )
        compute = np.geomspace(rows["compute"].min(), rows["compute"].max(), GRID_POINTS)
        frames.append(
            pd.DataFrame(
                {
                    "kind": "forecast",
                    "seed": seed,
                    "compute": compute,
                    "value": forecast.fitted.fits["least_squares"].predict(compute),
                    "granted": forecast.verdict == "forecast",
                }
            )
        )
        for frame in frames[-2:]:
            frame["later"] = frame["compute"] > forecast.cutoff
    fits = curves.fits(config, [ARM])
    frames.append(pd.DataFrame({"kind": "A", "seed": [run.seed for run in fits], "value": [run.fit.A for run in fits]}))
    frames.append(pd.DataFrame({"kind": ["base"], "value": [fits[0].initial.pass_rate]}))
    return pd.concat(frames, ignore_index=True).assign(arm=ARM, scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Panel a."""
    figure = new_figure(6.4, 4.6)
    ax = figure.subplots()
    ceilings = frame[frame["kind"] == "A"].astype({"seed": int})
    colours = sns.color_palette("viridis", len(ceilings) + 1)
    for colour, (seed, A) in zip(colours, ceilings[["seed", "value"]].itertuples(index=False), strict=False):
        rows = frame[frame["seed"] == seed]
        points, curve = rows[rows["kind"] == "evaluation"], rows[rows["kind"] == "forecast"]
        for later, marker, size, dashes in ((False, "*", 36, "-"), (True, "x", 18, "--")):
            shown, line = points[points["later"].eq(later)], curve[curve["later"].eq(later)]
            ax.scatter(
                shown["compute"],
                shown["value"],
                color=[colour],
                marker=marker,
                s=size,
                linewidth=later,
                label=None if later else f"seed {seed}: A = {A:.3f}",
            )
            style = dashes if not later or line["granted"].astype(bool).all() else ":"
            ax.plot(line["compute"], line["value"], color=colour, linestyle=style, linewidth=1)
    finish_axes(ax, frame)
    ax.set_title("a: seeds of ScaleRL; stars fitted, crosses later", loc="left")
    ax.legend(loc="upper left", title=_spread(ceilings["value"]), alignment="left")
    granted = frame[frame["kind"] == "forecast"].groupby("seed")["granted"].first().astype(bool)
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds([len(ceilings)]),
        f"forecasts refused: {(~granted).sum()} of {len(granted)}" + ("" if granted.all() else " (dotted)"),
        f"paper: three seeds, A ±{SEED_SPREAD_A}",
    )
    return figure


def _spread(ceilings: pd.Series) -> str:
    if len(ceilings) < 2:
        return "one seed: no spread"
    half_range = (ceilings.max() - ceilings.min()) / 2
    return f"A ±{half_range:.3f} (half range), sd {ceilings.std():.3f}"
