"""Where updates fall: over training, by operator, by precision, and at equal size."""

from collections.abc import Iterable
from typing import NamedTuple

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


class Reading(NamedTuple):
    """What a run had when something first reached a level."""

    value: float
    early: bool = False
    """It was beyond the level at its first evaluation, whose value stands here: a bound."""
    late: bool = False
    """It never reached the level; the value of its last evaluation stands here: a bound."""


def read_at(curve: pd.DataFrame, rising: str, level: float, read: str) -> Reading:
    """The column ``read`` where ``rising`` first reaches a level, linear between two evaluations.

    NaN, and no bound, where the level or a value of ``rising`` is.

    Args:
        curve: of one run, a row per evaluation, with ``step``.
    """
    curve = curve.sort_values("step")
    x, y = curve[rising].to_numpy(float), curve[read].to_numpy(float)
    if np.isnan([level, *x]).any():
        return Reading(np.nan)
    reached = np.flatnonzero(x >= level)
    if not len(reached):
        return Reading(float(y[-1]), late=True)
    first = reached[0]
    if first == 0:
        return Reading(float(y[0]), early=bool(x[0] > level))
    return Reading(float(np.interp(level, x[first - 1 : first + 1], y[first - 1 : first + 1])))


SMOOTHED = 5
"""Evaluations whose mean is a pass rate on the way. With the noise of one, a run seems to reach a level before it does:
read so, sparsity is 0.01 too high and KL 2 to 3% too low."""


def _smoothed(curve: pd.DataFrame) -> pd.DataFrame:
    """Every column's means over :data:`SMOOTHED` evaluations in a row, of a run with fewer over all."""
    width = min(SMOOTHED, len(curve))
    return curve.sort_values("step").rolling(width).mean().iloc[width - 1 :]


def kl_at_pass_rate(metrics: pd.DataFrame, updates: pd.DataFrame, pass_rate: float) -> Reading:
    """KL(pi_0 || pi), 0 at the start, at the step where a run first reaches a pass rate.

    Pass rates and their steps are means over :data:`SMOOTHED` evaluations in a row, the start's among them. KL is not:
    it is measured at every step with little noise, and the mean of what grows ever faster is not that of the middle.

    Args:
        metrics, updates: of one run.
    """
    kl = updates.set_index("step")["kl_from_start"].sort_index()
    found = read_at(_smoothed(metrics[["step", "pass_rate"]]), "pass_rate", pass_rate, "step")
    return found._replace(value=float(np.interp(found.value, [0, *kl.index], [0, *kl])))


def sparsity_at_size(metrics: pd.DataFrame, x: float) -> Reading:
    """Sparsity of a run's update where its size is x, between two of the models that it went through.

    Paper: compares final models of unequal size.
    """
    return _sparsity_where(_trained(metrics), "x", x)


def sparsity_at_pass_rate(metrics: pd.DataFrame, pass_rate: float) -> Reading:
    """Sparsity of a run's update where it first has the pass rate, between two of the models that it went through.

    Pass rates and sizes are means over :data:`SMOOTHED` evaluations in a row.
    """
    return _sparsity_where(_smoothed(_trained(metrics)[["step", "pass_rate", "as_if"]]), "pass_rate", pass_rate)


def _trained(metrics: pd.DataFrame) -> pd.DataFrame:
    """A run's evaluations after its start, with ``as_if``: the x of an isotropic update of the same sparsity."""
    trained = metrics[metrics["step"] > 0].sort_values("step")
    return trained.assign(as_if=np.tan(np.pi / 2 * (1 - trained["sparsity"])))


def _sparsity_where(trained: pd.DataFrame, rising: str, level: float) -> Reading:
    """Linear in ``as_if``: exact in x for isotropic updates, whose sparsity is no line in anything that rises."""
    found = read_at(trained, rising, level, "as_if")
    return found._replace(value=1 - 2 / np.pi * float(np.arctan(found.value)))


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
