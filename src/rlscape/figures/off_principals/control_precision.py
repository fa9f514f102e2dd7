"""Control for Gate III: is sparsity the size of the update in units of rounding, and nothing else?

Paper: bf16 storage hides changes below half a unit in the last place; one precision. Here: the same updates read with
5 to 12 mantissa bits (bf16 has 7), each on a base snapped to that lattice. If rounding suffices, sparsity depends on
the rescaled size x alone, and is that of an isotropic update on the same weights.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlscape.catalogue import ARMS
from rlscape.figures.style import ARM_STYLES, GREY, INK, add_note, describe_seeds, new_figure
from rlscape.results import bias
from rlscape.settings.scale import Config

METHODS = ("rlvr", "sft")
BF16_BITS = 7
CURVE_POINTS = 200


def assemble(config: Config) -> pd.DataFrame:
    """A row per arm, seed, kind of matrix and number of bits: means over layers.

    x (rescaled by 2^(bits - 7)), sparsity, isotropic_sparsity (at this x, Gaussian weights) and expected_sparsity
    (of an isotropic update of this size on these weights).
    """
    table = bias.mantissa(config, METHODS)
    values = ["x", "sparsity", "isotropic_sparsity", "expected_sparsity"]
    frame = table.groupby(["arm", "seed", "kind", "bits"], sort=False)[values].mean().reset_index()
    return frame.assign(scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """a: sparsity against the rescaled size, with the isotropic curve. b: what rounding alone does not explain."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    x = np.geomspace(frame["x"].min() / 2, frame["x"].max() * 2, CURVE_POINTS)
    curve = r"isotropic: $1 - \frac{2}{\pi} \arctan x$"
    left.plot(x, 1 - 2 / np.pi * np.arctan(x), color=INK, linewidth=1, label=curve)
    for index, arm in enumerate(METHODS):
        rows = frame[frame["arm"] == arm]
        colour, marker = ARM_STYLES[arm]
        own = rows["bits"] == BF16_BITS
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": ""}
        label = f"{ARMS[arm].label}; faint: not bf16"
        left.plot(rows["x"][~own], rows["sparsity"][~own], markersize=3, alpha=0.4, **look)
        left.plot(rows["x"][own], rows["sparsity"][own], markersize=5, label=label, **look)
        excess = rows.assign(excess=rows["sparsity"] - rows["expected_sparsity"])
        of_kind = excess.groupby(["bits", "kind"])["excess"].mean().reset_index()
        by_bits = of_kind.groupby("bits")["excess"].mean()
        right.plot(of_kind["bits"] + 0.1 * (2 * index - 1), of_kind["excess"], markersize=3, alpha=0.4, **look)
        right.plot(by_bits.index, by_bits, color=colour, marker=marker, markersize=5, label=ARMS[arm].label)
    left.set(xscale="log", xlabel="x (rescaled by $2^{bits - 7}$)", ylabel="share unchanged")
    left.set_title("a: sparsity of one update at 5 to 12 mantissa bits", loc="left")
    left.legend(loc="upper right")
    right.axhline(0, color=GREY, linewidth=0.8)
    right.set(xlabel="mantissa bits", ylabel="sparsity less expected")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_title("b: less an isotropic update on the same weights", loc="left")
    right.legend(loc="best")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        describe_seeds(frame.groupby("arm")["seed"].nunique()),
        "small: kinds of matrix (a: of every seed); large in b: their mean",
        "paper: bf16 only (no numbers printed)",
    )
    return figure
