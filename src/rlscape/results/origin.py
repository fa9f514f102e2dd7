"""One number per run of what P2 says about RL's updates, beside what an update without preference would have."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from rlscape.results import curves, weights
from rlscape.settings.scale import Config

PART = "linear"
"""Sparsity counts the matrices inside the blocks."""
SUBSPACES = ("left", "right", "both")


def gains(config: Config, arms: Iterable[str]) -> pd.Series:
    """Pass rate at the last evaluation less that at the first, by run."""
    metrics = curves.metrics(config, arms).sort_values("step")
    by_run = metrics.groupby("run")["pass_rate"]
    return (by_run.last() - by_run.first()).rename("gain")


def sizes(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """A row per run: arm, seed, sparsity, x, isotropic_sparsity (at this x) and exact_zero_share."""
    summaries = weights.geometry_summaries(config, arms)
    columns = ["run", "arm", "seed", "sparsity", "x", "isotropic_sparsity", "exact_zero_share"]
    return summaries.loc[summaries["part"] == PART, columns].reset_index(drop=True)


def statistics(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """A row per run and quantity: arm, seed, quantity, value and null.

    Angles (degrees), NSS, e and energies are means over the matrices in the blocks; overlaps are pooled over them.
    ``null`` is the mean under an isotropic update of the same norm, or what any update has in expectation.
    M_princ is compared with a permutation within magnitude bins, as run and with every update scaled until half of the
    entries change (``principal_half``), and with a rotated update of the same entries, rank and density
    (``principal_rotated``). None of these keeps which rows and columns change most; see
    :mod:`rlscape.geometry.margins`. M_low, a union of such bins, is compared with updates of the same entries and
    density whose places are random.
    """
    arms = tuple(arms)
    matrices = weights.matrices(config, arms)
    blocks = weights.in_blocks(matrices).copy()
    for side in SUBSPACES:
        blocks[f"energy_{side}"] /= blocks[f"energy_{side}_chance"]
    means = blocks.groupby("run").mean(numeric_only=True)
    runs = sizes(config, arms).set_index("run")
    overlaps = {
        mask: weights.pooled_overlaps(matrices, mask, ["run"]).set_index("run") for mask in ("principal", "low")
    }
    half = weights.pooled_overlaps(matrices, "principal", ["run"], half=True).set_index("run")
    columns: dict[str, tuple[pd.Series, pd.Series | float]] = {
        "gain": (gains(config, arms), np.nan),
        "x": (runs["x"], np.nan),
        "sparsity": (runs["sparsity"], runs["isotropic_sparsity"]),
        "nss": (means["nss"], np.nan),
        "angle": (means["max_angle"], means["max_angle_isotropic"]),
        "efficiency": (means["efficiency"], means["efficiency_isotropic"]),
        "principal": (overlaps["principal"]["value"] - overlaps["principal"]["binned"], 0.0),
        "principal_half": (half["value"] - half["binned"], 0.0),
        "principal_rotated": (overlaps["principal"]["value"] - overlaps["principal"]["spectrum"], 0.0),
        "low": (overlaps["low"]["value"] - overlaps["low"]["shuffled"], 0.0),
        **{f"energy_{side}": (means[f"energy_{side}"], 1.0) for side in SUBSPACES},
    }
    frames = [
        runs[["arm", "seed"]].assign(quantity=quantity, value=value, null=null)
        for quantity, (value, null) in columns.items()
    ]
    return pd.concat(frames).reset_index()
