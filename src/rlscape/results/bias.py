"""Where updates fall: over training, by operator, by precision, and at equal size."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from rlscape.catalogue import seeds_of
from rlscape.paths import results_dir
from rlscape.results.files import read_table, tables_of_runs
from rlscape.settings.recipe import Recipe
from rlscape.settings.scale import Config

MATCHED_ARMS = ("rlvr", "sft", "sft_lr_thirtieth")
"""What the matchings compare; see :mod:`rlscape.pipeline.measure_matching`."""
MATCHINGS: dict[str, str] = {
    "as_run": "as run",
    "rate": "equal learning rate",
    "norm": "equal norm (scaled)",
    "norm_snapshot": "equal norm (snapshot)",
    "kl": "equal KL (scaled)",
    "accuracy": "equal pass rate (snapshot)",
}


def over_time(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Weight geometry by step, a row per step and matrix (``geometry/<run>/over_time.parquet``)."""
    return tables_of_runs(config, arms, "geometry/{run}/over_time.parquet")


def profiles(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Row and column densities by step (``geometry/<run>/profiles.parquet``)."""
    return tables_of_runs(config, arms, "geometry/{run}/profiles.parquet")


def operators(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Masks and subspaces over rank and density (``geometry/<run>/operators.parquet``)."""
    return tables_of_runs(config, arms, "geometry/{run}/operators.parquet")


def mantissa(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Sparsity by mantissa bits, a row per matrix (``geometry/<run>/mantissa.parquet``)."""
    return tables_of_runs(config, arms, "geometry/{run}/mantissa.parquet")


def matching(config: Config) -> pd.DataFrame:
    """RL and SFT at equal size, a row per seed, matching and method (``geometry/matching-s<seed>.parquet``)."""
    seeds = seeds_of(config, *MATCHED_ARMS)
    tables = [read_table(results_dir(config) / "geometry" / f"matching-s{seed}.parquet") for seed in seeds]
    return pd.concat(tables, ignore_index=True)


def kl_at_pass_rate(metrics: pd.DataFrame, updates: pd.DataFrame, pass_rate: float) -> float:
    """KL(pi_0 || pi) where a run first reaches a pass rate, interpolated between its evaluations; NaN if it never does.

    Args:
        metrics, updates: of one run.
    """
    rates = metrics.set_index("step")["pass_rate"].sort_index()
    kl = updates.set_index("step")["kl_from_start"].reindex(rates.index).fillna({0: 0.0})
    reached = np.flatnonzero(rates >= pass_rate)
    if not len(reached) or reached[0] == 0:
        return np.nan if not len(reached) else 0.0
    between = slice(reached[0] - 1, reached[0] + 1)
    return float(np.interp(pass_rate, rates.iloc[between], kl.iloc[between]))


def rank_stability(profiles: pd.DataFrame, shown: dict[str, str]) -> pd.DataFrame:
    """Rank correlations of the first and the last snapshot's profiles, a row per run, layer and kind.

    Args:
        profiles: as :func:`profiles` returns them.
        shown: kind of matrix -> axis.

    Columns: run, arm, seed, layer, kind; ``share``: of the densities as they are, which nesting of the masks raises;
    ``new``: of the first densities and those of entries that changed later, each less what magnitudes predict: zero
    in expectation for an update without preference. NaN where a profile is constant or there is one snapshot.
    """
    rows = []
    for (run, layer, kind), matrix in profiles.groupby(["run", "layer", "kind"], sort=False):
        if kind not in shown:
            continue
        of_axis = matrix[matrix["axis"] == shown[kind]].set_index("index")
        first, last = (of_axis[of_axis["step"] == step] for step in (of_axis["step"].min(), of_axis["step"].max()))
        early = first["share"] - first["share_by_magnitude"]
        late = last["new"] - last["new_by_magnitude"]
        found = np.nan, np.nan
        if first["step"].iloc[0] < last["step"].iloc[0]:
            found = first["share"].corr(last["share"], method="spearman"), early.corr(late, method="spearman")
        identity = {"run": run, "arm": matrix["arm"].iloc[0], "seed": matrix["seed"].iloc[0], "layer": layer}
        rows.append(identity | {"kind": kind} | dict(zip(("share", "new"), found, strict=True)))
    return pd.DataFrame(rows)


def step_bound(recipe: Recipe) -> float:
    """KL per token of one step, nats, if every ratio stays within the wider clip: ``eps^2 / 2`` to second order.

    Paper (Lemma F.9): O(eps), said to tighten to O(eps^2); no constant. Here: of ratios r, KL is about
    ``E (r - 1)^2 / 2``.
    """
    return max(recipe.clip_low, recipe.clip_high) ** 2 / 2
