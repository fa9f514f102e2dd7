"""Where updates fall: over training, by operator, by precision, and at equal size."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution
from scipy.stats import ttest_1samp

from rlscape.catalogue import measured_arms, seeds_of
from rlscape.paths import results_dir
from rlscape.results.files import read_table, tables_of_runs
from rlscape.settings.recipe import Recipe
from rlscape.settings.scale import Config

MATCHED = {
    "matching": ("rlvr", "sft", "sft_rl_rate"),
    "matching_sgd": ("rlvr_sgd", "sft_sgd", "sft_sgd"),
}
"""RL, SFT at its own rate and SFT at RL's rate, by the name of the table in which they are compared at equal size."""
MATCHED_ARMS = MATCHED["matching"]
"""What the matchings of claims compare; see :mod:`rlscape.pipeline.measure_matching`."""
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


DIRECTIONS = {
    # quantity: column, whether its expectation divides it
    "enrichment": ("energy_enrichment_principal", False),
    "left": ("energy_left", True),
    "right": ("energy_right", True),
    "both": ("energy_both", True),
    "overlap": ("overlap_principal", False),
}
"""What runs are asked beside their margins, see :mod:`rlscape.geometry.margins`."""


def directions(config: Config) -> pd.DataFrame:
    """A row per run of plain gradient descent: run, arm, seed and every key of ``DIRECTIONS``.

    Means over the matrices in the blocks that changed, which count alike, of a statistic less its expectation or over
    it (``geometry/<run>/margins.parquet``); with ``_sd`` of what is over its expectation: the standard deviation of
    the mean under random signs.
    """
    table = tables_of_runs(config, measured_arms(config, "margins"), "geometry/{run}/margins.parquet")
    identity = ["run", "arm", "seed"]
    for quantity, (column, divides) in DIRECTIONS.items():
        expected = table[f"{column}_margins"]
        table[quantity] = table[column] / expected if divides else table[column] - expected
        table[f"{quantity}_sd"] = table[f"{column}_margins_sd"] / expected if divides else np.nan
    by_run = table.groupby(identity, sort=False)
    means = by_run[list(DIRECTIONS)].mean()
    spread = by_run[[f"{name}_sd" for name in DIRECTIONS]].agg(lambda sd: np.sqrt(sd.pow(2).sum(min_count=1)) / len(sd))
    return means.join(spread).reset_index()


def profiles(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Row and column densities by step (``geometry/<run>/profiles.parquet``)."""
    return tables_of_runs(config, arms, "geometry/{run}/profiles.parquet")


def operators(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Masks and subspaces over rank and density (``geometry/<run>/operators.parquet``)."""
    return tables_of_runs(config, arms, "geometry/{run}/operators.parquet")


def energy_by_cell(table: pd.DataFrame, mask: str) -> pd.Series:
    """By rank, density and seed, energy over chance in a mask less 1, and less what magnitudes predict.

    M_low is a union of magnitude bins, whose energy the binned null reproduces: there chance alone is subtracted.

    Args:
        table: as :func:`operators` returns it, of one arm.
    """
    rows = table[table["operator"] == mask]
    null = rows["chance"] if mask == "low" else rows["energy_binned"]
    excess = rows.assign(excess=(rows["energy"] - null) / rows["chance"])
    return excess.groupby(["rank_fraction", "alpha", "seed"], dropna=False)["excess"].mean()


def mantissa(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """Sparsity by mantissa bits, a row per matrix (``geometry/<run>/mantissa.parquet``)."""
    return tables_of_runs(config, arms, "geometry/{run}/mantissa.parquet")


def matching(config: Config, name: str = "matching") -> pd.DataFrame:
    """RL and SFT at equal size, a row per seed, matching and method (``geometry/<name>-s<seed>.parquet``)."""
    seeds = seeds_of(config, *MATCHED[name])
    tables = [read_table(results_dir(config) / "geometry" / f"{name}-s{seed}.parquet") for seed in seeds]
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


BEND, DEGREE = 4.0, 3
"""A run's pass rates are read from a polynomial of this degree in log(1 + BEND t), t the share of its steps. Like
learning curves, that can be steep at first and flat later, without being of one form.

Chosen on concave curves that gain 0.25 (straight, saturating at rates of up to 3, powers, logarithms), of 21
evaluations of 1,024 samples, at levels from 0.07 above the start on. KL is off by at most 2% (margin: 10%), with noise
and without; sparsity by at most 0.003 without it and 0.005 with it (margin: 0.01). At a level of 0.09 standard
deviations are 7 to 15% and 0.011 to 0.025. Local parabolas over seven evaluations are off by up to 3% and 0.004, and
scatter by a sixth to two thirds more; means of five, which lie below the middle of what is concave, are off by up to
15% and 0.018; one saturating exponential, where the curve is another one, by up to 13% and 0.02. Curves that bend more
than these, rise late or dip are misread, one that saturates at a rate of 20 by up to 40%; :func:`misread` finds them.
"""
FURTHER, MISFIT, SHIFT = 5, 0.01, 0.03
"""Runs are misread where a polynomial of the degree ``FURTHER`` has them reach a level at steps that differ by at least
the share ``SHIFT`` on average, and fits their pass rates better or differs in one direction from run to run, each at
this level of significance."""
GRID = 1001
"""Steps at which that polynomial is looked at."""


def step_at_pass_rate(metrics: pd.DataFrame, pass_rate: float) -> Reading:
    """The step at which a run's pass rate first reaches a level, of a smooth curve through all of its evaluations.

    With the noise of single evaluations a run seems to reach a level before it does.

    Args:
        metrics: of one run, with the start.
    """
    steps, rates = metrics["step"].to_numpy(float), metrics["pass_rate"].to_numpy(float)
    if np.isnan(rates).any():
        return Reading(np.nan)
    return _first_at(steps, rates, min(DEGREE, len(steps) - 1), pass_rate)


def _first_at(steps: np.ndarray, rates: np.ndarray, degree: int, level: float) -> Reading:
    """The step at which a smooth curve through pass rates first reaches a level."""
    grid = np.linspace(0, steps.max(), GRID)
    smooth = pd.DataFrame({"step": grid, "pass_rate": _smooth(steps, rates, degree)(grid)})
    return read_at(smooth, "pass_rate", level, "step")


def _smooth(steps: np.ndarray, rates: np.ndarray, degree: int) -> Callable[[np.ndarray], np.ndarray]:
    """A polynomial in log(1 + BEND t), t the share of the last step, as a function of steps."""
    last = steps.max()
    curve = np.polynomial.Polynomial.fit(np.log1p(BEND * steps / last), rates, degree)
    return lambda at: curve(np.log1p(BEND * at / last))


def misread(runs: Iterable[tuple[pd.DataFrame, float]]) -> bool:
    """Whether the runs' pass rates follow other curves than :func:`step_at_pass_rate` takes them for.

    An F test of a curve per run, of all runs together, as single ones have too few evaluations, and a t test of how far
    the steps differ: a curve that saturates early is told by few of its evaluations, but in every run alike. What
    scatters beyond the sampling of evaluations is scatter on either side. Where all runs have six evaluations or fewer
    nothing is known of their curves, and they are taken to be misread.

    Args:
        runs: metrics of each, with the start, and the level that is read.
    """
    squares, freedom, shifts = np.zeros(2), np.zeros(2), []
    for metrics, level in runs:
        steps, rates = metrics["step"].to_numpy(float), metrics["pass_rate"].to_numpy(float)
        if len(steps) <= FURTHER + 1 or np.isnan([level, *rates]).any():
            continue
        degrees = DEGREE, FURTHER
        squares += [((rates - _smooth(steps, rates, degree)(steps)) ** 2).sum() for degree in degrees]
        freedom += [len(steps) - 1 - degree for degree in degrees]
        near, far = (_first_at(steps, rates, degree, level).value for degree in degrees)
        shifts.append((far - near) / max(near, steps[steps > 0].min()))
    if not shifts:
        return True
    if abs(np.mean(shifts)) < SHIFT:
        return False
    explained, left = (squares[0] - squares[1]) / (freedom[0] - freedom[1]), squares[1] / freedom[1]
    fits_better = f_distribution.sf(explained / left, freedom[0] - freedom[1], freedom[1]) < MISFIT
    return bool(fits_better or (len(shifts) > 1 and ttest_1samp(shifts, 0).pvalue < MISFIT))


def kl_at_pass_rate(metrics: pd.DataFrame, updates: pd.DataFrame, pass_rate: float) -> Reading:
    """KL(pi_0 || pi), 0 at the start, at the step where a run first reaches a pass rate (:func:`step_at_pass_rate`).

    Args:
        metrics, updates: of one run.
    """
    kl = updates.set_index("step")["kl_from_start"].sort_index()
    found = step_at_pass_rate(metrics, pass_rate)
    return found._replace(value=float(np.interp(found.value, [0, *kl.index], [0, *kl])))


def sparsity_at_size(metrics: pd.DataFrame, x: float) -> Reading:
    """Sparsity of a run's update where its size is x, between two of the models that it went through.

    Paper: compares final models of unequal size.
    """
    return _sparsity_where(_trained(metrics), "x", x)


def sparsity_at_pass_rate(metrics: pd.DataFrame, pass_rate: float) -> Reading:
    """Sparsity of a run's update where it first has the pass rate, between two of the models that it went through.

    That is at the step of :func:`step_at_pass_rate`.
    """
    found = step_at_pass_rate(metrics, pass_rate)
    return _sparsity_where(_trained(metrics), "step", found.value)._replace(late=found.late)


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
