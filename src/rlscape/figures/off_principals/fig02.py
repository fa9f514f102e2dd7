"""P2, Figure 2: in how many of five runs each entry changed, one layer.

Paper: five public checkpoints of one base, layer 13 of DS-R1-Distill-Qwen-1.5B. Here: five recipes on disjoint
fifths of the data, the middle layer. Rows and columns stand out in any update of low rank: the share of the variance
that lies between them is given beside that of permuted and of randomly rotated updates.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from rlscape.catalogue import first_run
from rlscape.catalogue.grids import FOOTPRINT
from rlscape.figures.style import add_note, new_figure
from rlscape.paths import results_dir
from rlscape.results import pairs
from rlscape.results.files import require
from rlscape.settings.scale import Config

SHOWN = {"q": "Q", "k": "K", "v": "V", "o": "O", "down": "down"}
LARGEST = 256
"""Larger matrices are shown by their upper left corner of this many rows and columns."""
COLOURS = "magma"
MATRICES_WIDTH = 11.5
"""Inches of all matrices beside each other, at most."""


def assemble(config: Config) -> pd.DataFrame:
    """Rows of kind counts (a matrix row each: how many runs changed each of its entries) and statistic.

    The statistics of a matrix: ``in_all``, the share of entries that every run changed, with ``in_all_chance`` for
    independent runs; and the mean over runs of its stripe shares (rows, columns) with both nulls, at one density.
    """
    from rlscape.geometry.measure import load_mask  # imports torch

    profiles = pairs.stripes(config, "footprint")
    profiles = profiles[profiles["arm"].isin(FOOTPRINT) & (profiles["seed"] == config.first_seed)]
    layer = pairs.middle_layer(profiles)
    frames = []
    for kind in SHOWN:
        matrix = profiles[(profiles["layer"] == layer) & (profiles["kind"] == kind)]
        directories = [results_dir(config) / "geometry" / first_run(config, arm) for arm in FOOTPRINT]
        tensor = matrix["tensor"].iloc[0]
        masks = np.array([load_mask(require(directory / "masks.npz"), tensor) for directory in directories])
        statistics = {"in_all": masks.all(0).mean(), "in_all_chance": masks.mean((1, 2)).prod()}
        for axis in ("row", "column"):
            for null in ("", "_binned", "_spectrum"):
                statistics[f"{axis}{null}"] = matrix[f"{axis}_stripes{null}"].mean()
        counts = masks.sum(0)[:LARGEST, :LARGEST]
        frames += [
            pd.DataFrame({"row": range(len(counts)), "counts": [" ".join(map(str, row)) for row in counts]}),
            pd.DataFrame({"statistic": list(statistics), "value": list(statistics.values())}),
        ]
        frames[-2:] = [frame.assign(matrix=kind) for frame in frames[-2:]]
    frame = pd.concat(frames, ignore_index=True).astype({"row": "Int64"})
    return frame.assign(layer=layer, runs=len(FOOTPRINT), scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """A heatmap per matrix, all at one scale of entries; the statistics below it."""
    runs = int(frame["runs"].iloc[0])
    images = {kind: _image(frame[frame["matrix"] == kind]) for kind in SHOWN}
    columns = [image.shape[1] for image in images.values()]
    height = MATRICES_WIDTH * max(len(image) for image in images.values()) / sum(columns)
    figure = new_figure(13.5, height + 1.9)
    axes = figure.subplots(1, len(SHOWN), width_ratios=columns)
    for ax, (kind, label) in zip(axes, SHOWN.items(), strict=True):
        _draw_matrix(ax, images[kind], frame[frame["matrix"] == kind], runs)
        ax.set_title(label)
    scale = ScalarMappable(BoundaryNorm(np.arange(runs + 2) - 0.5, 256), COLOURS)
    figure.colorbar(scale, ax=axes, label="runs that changed the entry", ticks=range(runs + 1), shrink=0.7, panchor="N")
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        f"layer {frame['layer'].iloc[0]}; {runs} runs of one base, one seed each",
        "between rows, columns: share of the entries' variance, every update scaled until half change, mean over runs",
        "nulls: permuted within magnitude strata, spectrum-matched rotation",
        "paper (no numbers): row stripes in Q, K, V, column stripes in O",
    )
    return figure


def _image(frame: pd.DataFrame) -> np.ndarray:
    """How many runs changed each entry of a matrix."""
    return np.array([row.split(" ") for row in frame.dropna(subset="counts").sort_values("row")["counts"]], dtype=int)


def _draw_matrix(ax: Axes, image: np.ndarray, frame: pd.DataFrame, runs: int) -> None:
    ax.imshow(image, cmap=COLOURS, vmin=0, vmax=runs, interpolation="none", rasterized=True)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    value = frame.dropna(subset="statistic").set_index("statistic")["value"]
    lines = [f"in all runs {value['in_all']:.3f}", f"(independent {value['in_all_chance']:.3f})"]
    for axis in ("row", "column"):
        nulls = ", ".join(f"{value[f'{axis}_{null}']:.3f}" for null in ("binned", "spectrum"))
        lines += [f"between {axis}s {value[axis]:.3f}", f"(nulls {nulls})"]
    ax.set_xlabel("\n".join(lines), fontsize=7)
