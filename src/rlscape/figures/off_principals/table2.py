"""P2, Table 2: similarity of the update masks of five runs by kind of matrix, the paper's and ours.

Paper: Jaccard index against independent masks. Here: also phi, which does not grow with density, both under
permutation within magnitude bins, and phi of the largest fp32 updates at equal density.
"""

import pandas as pd
from matplotlib.figure import Figure

from rlscape.catalogue.grids import FOOTPRINT
from rlscape.figures.off_principals.paper_values import TABLE_2
from rlscape.figures.style import add_note, new_figure
from rlscape.figures.tables import draw_table
from rlscape.results import pairs
from rlscape.settings.scale import Config

QUANTITIES = (
    *("jaccard", "jaccard_chance", "jaccard_binned", "phi", "phi_binned", "phi_spectrum"),
    *("phi_top", "phi_top_binned", "phi_top_spectrum"),
)
"""Each with its mean, lowest and highest over pairs of runs."""


def assemble(config: Config) -> pd.DataFrame:
    """A row per kind of matrix in the middle layer (``layers`` middle), and per kind over all layers (all).

    Columns: quantities with ``_low`` and ``_high``, and ``paper_jaccard``, ``paper_jaccard_chance``, ``paper_phi``.
    """
    frame = pairs.footprint(config, FOOTPRINT)
    middle = pairs.middle_layer(frame)
    rows = []
    for layers, chosen in {"middle": frame[frame["layer"] == middle], "all": frame}.items():
        for kind, paper in TABLE_2.items():
            by_pair = chosen[chosen["kind"] == kind].groupby(["run_a", "run_b"])[list(QUANTITIES)].mean()
            row = {"layers": layers, "kind": kind, "pairs": len(by_pair)}
            for quantity in QUANTITIES:
                values = by_pair[quantity]
                row |= {quantity: values.mean(), f"{quantity}_low": values.min(), f"{quantity}_high": values.max()}
            row |= {"paper_jaccard": paper.jaccard, "paper_jaccard_chance": paper.chance, "paper_phi": paper.phi}
            rows.append(row)
    return pd.DataFrame(rows).assign(layer=middle, scale=config.scale)


def draw(frame: pd.DataFrame) -> Figure:
    """The middle layer, and phi over all layers."""
    middle, everywhere = (frame[frame["layers"] == layers].set_index("kind") for layers in ("middle", "all"))
    rows = [
        [
            kind,
            f"{row['paper_jaccard']:.3f}",
            f"{row['paper_jaccard_chance']:.3f}",
            f"{row['paper_phi']:.2f}",
            f"{row['jaccard']:.3f} ({row['jaccard_low']:.3f}–{row['jaccard_high']:.3f})",
            f"{row['jaccard_chance']:.3f}",
            f"{row['jaccard_binned']:.3f}",
            f"{row['phi']:.2f} ({row['phi_low']:.2f}–{row['phi_high']:.2f})",
            f"{row['phi_binned']:.2f} / {row['phi_spectrum']:.2f}",
            f"{row['phi_top']:.2f}",
            f"{row['phi_top_binned']:.2f} / {row['phi_top_spectrum']:.2f}",
            f"{everywhere.loc[kind, 'phi']:.2f} / {everywhere.loc[kind, 'phi_top']:.2f}",
        ]
        for kind, row in middle.iterrows()
    ]
    figure = new_figure(13, 0.25 * len(rows) + 1.0)
    draw_table(
        figure.subplots(),
        [
            *("matrix", "paper: J", "$J_0$", r"$\phi$", "ours: J", "$J_0$", "J, binned", r"$\phi$"),
            *(r"$\phi$, nulls", r"fp32 $\phi$", r"fp32 $\phi$, nulls", r"all layers: $\phi$ / fp32 $\phi$"),
        ],
        rows,
        widths=(0.8, 0.9, 0.7, 0.7, 2.0, 0.8, 1.0, 1.8, 1.3, 0.8, 1.5, 2.0),
    )
    add_note(
        figure,
        f"scale: {frame['scale'].iloc[0]}",
        f"layer {frame['layer'].iloc[0]}; mean and range over {frame['pairs'].iloc[0]} pairs of runs, one seed each",
        "nulls: permuted within magnitude bins / spectrum-matched rotation",
        "fp32: the fifth of the entries that moved furthest",
    )
    return figure
