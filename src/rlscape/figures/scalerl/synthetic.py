"""What the synthetic Figures 12 and 13 share: families of curves of Eq 1."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from rlscape.figures.scalerl.paper_values import R_0, Fit
from rlscape.figures.style import log_compute_axis
from rlscape.scaling.sigmoid import FloatArray, crossings, sigmoid

COMPUTE = np.geomspace(100, 100_000, 200)
"""GPU-hours."""


def curve(fit: Fit, compute: FloatArray) -> FloatArray:
    """Eq 1 with published parameters."""
    return sigmoid(compute, fit.A, fit.B, fit.C_mid, R_0)


def family(panel: str, fits: Mapping[str, Fit]) -> pd.DataFrame:
    """panel, label, compute, value: one curve per entry."""
    return pd.concat(
        [
            pd.DataFrame({"panel": panel, "label": label, "compute": COMPUTE, "value": curve(fit, COMPUTE)})
            for label, fit in fits.items()
        ]
    )


def last_crossing(first: Fit, second: Fit) -> float:
    """The highest compute at which two curves cross."""
    found = crossings(lambda c: curve(first, c), lambda c: curve(second, c), COMPUTE[0], COMPUTE[-1])
    return float(found[-1])


def draw_family(ax: Axes, frame: pd.DataFrame, title: str) -> None:
    """One panel; shades go with the order of the labels."""
    labels = list(frame["label"].unique())
    for label, colour in zip(labels, sns.color_palette("viridis", len(labels) + 1), strict=False):
        rows = frame[frame["label"] == label]
        ax.plot(rows["compute"], rows["value"], color=colour, label=label.replace("C_mid", "$C_{mid}$"))
    ax.set_title(title.replace("C_mid", "$C_{mid}$"), loc="left")
    ax.set_ylabel("pass rate")
    ax.legend(loc="upper left")
    log_compute_axis(ax, "compute (GPU-hours)")
