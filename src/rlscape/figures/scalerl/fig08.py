"""P1, Figure 8: seeds of ScaleRL and the spread of their ceilings (a), and the larger model with and without FP32 head.

Paper: a: three seeds, A within +-0.015, rounded to the margin of +-0.02 that all its comparisons use; b: Scout (17B x
16, a mixture of experts). Here: b: our mixture of experts.
"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlscape.figures.learning_curves import (
    add_curve_note,
    add_title_and_legend,
    assemble_curves,
    draw_panel,
    finish_axes,
)
from rlscape.figures.scalerl.paper_values import FIG8B, SEED_SPREAD_A
from rlscape.figures.style import new_figure
from rlscape.results import curves
from rlscape.settings.scale import Config

ARM = "scalerl"
GRID_POINTS = 60


def assemble(config: Config) -> pd.DataFrame:
    """Panel b as :func:`rlscape.figures.learning_curves.assemble_curves`; panel a as well, and its rows of kind
    seed_forecast (seed, compute, value, later, granted) and seed_A (seed, value), the fit to all of a run.
    """
    forecasts = curves.forecasts(config, [ARM])
    metrics = curves.metrics(config, [ARM])
    frames = [assemble_curves(config, [ARM]).assign(panel="a"), assemble_curves(config, FIG8B).assign(panel="b")]
    for (run, seed), rows in metrics[metrics["compute"] > 0].groupby(["run", "seed"], sort=False):
        forecast = forecasts[run]
        compute = np.geomspace(rows["compute"].min(), rows["compute"].max(), GRID_POINTS)
        line = {
            "compute": compute,
            "value": forecast.fitted.fits["least_squares"].predict(compute),
            "later": compute > forecast.cutoff,
        }
        granted = forecast.verdict == "forecast"
        frames.append(pd.DataFrame(line).assign(kind="seed_forecast", seed=seed, granted=granted, panel="a"))
    fits = curves.fits(config, [ARM])
    ceilings = pd.DataFrame({"seed": [run.seed for run in fits], "value": [run.fit.A for run in fits]})
    frames.append(ceilings.assign(kind="seed_A", panel="a"))
    return pd.concat(frames, ignore_index=True).assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """Panels a and b."""
    figure = new_figure(11, 5.4)
    left, right = figure.subplots(1, 2)
    _draw_seeds(left, frame[frame["panel"] == "a"])
    draw_panel(right, frame[frame["panel"] == "b"], "b: larger model, with and without FP32 head", list(FIG8B), FIG8B)
    add_curve_note(figure, frame, f"paper, a: three seeds, A ±{SEED_SPREAD_A}; b: Scout")
    return figure


def _draw_seeds(ax: Axes, frame: pd.DataFrame) -> None:
    ceilings = frame[frame["kind"] == "seed_A"].astype({"seed": int})
    colours = sns.color_palette("viridis", len(ceilings) + 1)
    for colour, (seed, A) in zip(colours, ceilings[["seed", "value"]].itertuples(index=False), strict=False):
        rows = frame[frame["seed"] == seed]
        points, curve = rows[rows["kind"] == "evaluation"], rows[rows["kind"] == "seed_forecast"]
        for later, marker, size, dashes in ((False, "*", 36, "-"), (True, "x", 18, "--")):
            shown, line = points[points["later"].eq(later)], curve[curve["later"].eq(later)]
            ax.scatter(
                shown["compute"],
                shown["value"],
                color=[colour],
                marker=marker,
                s=size,
                linewidth=later,
                label=None if later else f"seed {seed}: A {A:.3f}",
            )
            style = dashes if not later or line["granted"].astype(bool).all() else ":"
            ax.plot(line["compute"], line["value"], color=colour, linestyle=style, linewidth=1)
    finish_axes(ax, frame)
    add_title_and_legend(ax, f"a: seeds of ScaleRL; {_spread(ceilings['value'])}")


def _spread(ceilings: pd.Series) -> str:
    if len(ceilings) < 2:
        return "one seed: no spread"
    half_range = (ceilings.max() - ceilings.min()) / 2
    return f"A ±{half_range:.3f} (half range), sd {ceilings.std():.3f}"
