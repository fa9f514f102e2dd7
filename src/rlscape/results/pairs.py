"""Similarities between the updates of runs, as measured, and pooled over matrices."""

from collections.abc import Collection
from typing import Literal

import numpy as np
import pandas as pd

from rlscape.paths import parse_run_name, results_dir
from rlscape.results.files import read_table
from rlscape.settings.scale import Config

Group = Literal["footprint", "intervened", "shared"]


def pairs(config: Config, group: Group) -> pd.DataFrame:
    """A row per pair of runs, view and tensor (``geometry/pairs_<group>.parquet``), with arms and seeds."""
    frame = read_table(results_dir(config) / "geometry" / f"pairs_{group}.parquet")
    for side in "ab":
        frame[[f"arm_{side}", f"seed_{side}"]] = [parse_run_name(run) for run in frame[f"run_{side}"]]
    return frame


def footprint(config: Config, arms: Collection[str]) -> pd.DataFrame:
    """The footprint's :func:`pairs` of some arms, of the first seed: the paper has one run of each."""
    frame = among(pairs(config, "footprint"), arms)
    return frame[frame["seed_a"] == config.first_seed]


def stripes(config: Config, group: Group) -> pd.DataFrame:
    """A row per run, view and tensor (``geometry/stripes_<group>.parquet``), with arm and seed."""
    frame = read_table(results_dir(config) / "geometry" / f"stripes_{group}.parquet")
    frame[["arm", "seed"]] = [parse_run_name(run) for run in frame["run"]]
    return frame


def among(pairs: pd.DataFrame, arms: Collection[str]) -> pd.DataFrame:
    """The pairs whose runs both belong to some arms."""
    return pairs[pairs["arm_a"].isin(arms) & pairs["arm_b"].isin(arms)]


def middle_layer(frame: pd.DataFrame) -> int:
    """Paper: block 13 of 28. Here: the middle one of those that were measured."""
    layers = np.unique(frame["layer"])
    return int(layers[len(layers) // 2])


def both_ways(pairs: pd.DataFrame) -> pd.DataFrame:
    """Every pair twice: as it is, and with a and b in each other's place.

    The overlap ``|A & B| / |B|`` and its null change with the reference; Jaccard index and phi do not.
    """
    swapped = {
        f"{name}_{side}": f"{name}_{other}"
        for name in ("run", "arm", "seed", "density")
        for side, other in ("ab", "ba")
    }
    mirrored = pairs.rename(columns=swapped)
    for column in [name for name in pairs if name == "overlap" or name.startswith("overlap_binned")]:
        mirrored[column] = pairs[column] * pairs["density_b"] / pairs["density_a"]
    mirrored["overlap_chance"] = mirrored["density_a"]
    return pd.concat([pairs, mirrored], ignore_index=True)


def against(pairs: pd.DataFrame, reference: str, arm: str) -> pd.DataFrame:
    """The runs of ``arm`` (b) against those of ``reference`` (a).

    Runs of one number have the same data in the same order, which repeats of other data have not: only pairs of
    different seeds count. Where there is one seed, two arms are compared at that seed.
    """
    chosen = both_ways(pairs)
    chosen = chosen[(chosen["arm_a"] == reference) & (chosen["arm_b"] == arm)]
    independent = chosen[chosen["seed_a"] != chosen["seed_b"]]
    return chosen if independent.empty else independent


def pooled_overlap(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Overlap ``|A & B| / |B|`` over all matrices of a group: shares of B's changed entries.

    Half-widths of the null's ranges add in quadrature, as in :func:`rlscape.results.weights.pooled_overlaps`.

    Returns:
        A row per group: the columns of ``by``, ``value, chance, binned, binned_low, binned_high``.
    """

    def pool(group: pd.DataFrame) -> pd.Series:
        changed = group["density_b"] * group["size"]
        group, share = group[changed > 0], (changed / changed.sum())[changed > 0]
        value, chance, binned = (
            (share * group[f"overlap{name}"]).sum(min_count=1) for name in ("", "_chance", "_binned")
        )
        half_width = (group["overlap_binned_high"] - group["overlap_binned_low"]) / 2
        margin = float(np.sqrt(((share * half_width) ** 2).sum()))
        return pd.Series(
            {
                "value": value,
                "chance": chance,
                "binned": binned,
                "binned_low": binned - margin,
                "binned_high": binned + margin,
            }
        )

    return pairs.groupby(by, sort=False)[list(pairs.columns)].apply(pool).reset_index()
