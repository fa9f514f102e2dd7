"""Runs that train a mask or an adapter only: which there are, how far they stray, and whether they collapse."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from rlscape.catalogue import ARMS, first_run, resolve_run
from rlscape.results import curves
from rlscape.settings.scale import Config

DENSE = "mask_dense"
COLLAPSE = 0.5
"""A run has collapsed if it falls by more than this share of its running peak."""
COLLAPSE_DURATION = 0.1
"""And stays there for this share of its steps, in a row."""


def masked_arms(config: Config) -> list[str]:
    """Arms of the scale that train a mask."""
    return _shown(config, (arm for arm, spec in ARMS.items() if spec.mask))


def adapter_arms(config: Config, base: str | None = None) -> list[str]:
    """Arms of the scale that train an adapter of a base model (None: that of the study)."""
    return _shown(config, (arm for arm, spec in ARMS.items() if spec.adapter and spec.base == base))


def _shown(config: Config, arms: Iterable[str]) -> list[str]:
    return [arm for arm in arms if arm in config.seeds]


def evaluations_at(metrics: pd.DataFrame, share: float) -> pd.DataFrame:
    """Of every run the evaluation nearest to a share of its steps, the earlier one of two."""
    metrics = metrics.sort_values(["run", "step"])
    distance = (metrics["step"] - share * metrics.groupby("run")["step"].transform("max")).abs()
    return metrics.loc[distance.groupby(metrics["run"]).idxmin()]


def distances_to_dense(updates: pd.DataFrame, divergence: str = "kl_to_start") -> pd.DataFrame:
    """How far the KL curve of a mask lies below the dense one of the same seed.

    1 less the ratio of the areas below the two curves: 0 for equal areas, 1 for no movement, negative for a curve above
    the dense one. Paper: "tracks", "slowest". Here: not the area between the curves, which the noise of either raises.

    Args:
        updates: rows per optimiser step of some arms, ``mask_dense`` among them.
        divergence: the column.

    Returns:
        A row per run of another arm whose seed ``mask_dense`` has too: arm, seed, value.
    """
    by_step = updates.pivot_table(index=["arm", "seed"], columns="step", values=divergence)
    dense = by_step.loc[DENSE]
    rows = [
        {"arm": arm, "seed": seed, "value": (dense.loc[seed] - curve).mean() / dense.loc[seed].mean()}
        for (arm, seed), curve in by_step.iterrows()
        if arm != DENSE and seed in dense.index
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "value"])


def sustained_fall(rates: Sequence[float] | pd.Series) -> float:
    """The largest share of its running peak by which a curve stays below it for a tenth of its steps in a row."""
    curve = np.asarray(rates, float)
    peaks = np.maximum.accumulate(curve)
    falls = 1 - np.divide(curve, peaks, out=np.ones_like(curve), where=peaks > 0)
    width = max(1, round(COLLAPSE_DURATION * len(curve)))
    return float(np.lib.stride_tricks.sliding_window_view(falls, width).min(axis=1).max())


def stability(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """How stable every run is, at which learning rate and size of its steps.

    Paper: a reward of +1 or -1. Here: the training pass rate stands for it, as half of a peak has no meaning for a
    quantity that may be negative.

    Returns:
        A row per run: run, arm, seed, learning_rate; ``step_size``, the relative norm of the update per step at the
        first evaluation; ``fall`` (:func:`sustained_fall`) and ``collapsed``; ``pass_rate`` and ``relative_norm`` at
        the end.
    """
    arms = list(arms)
    training = curves.updates(config, arms).sort_values("step").groupby("run")["pass_rate"]
    metrics = curves.metrics(config, arms).sort_values("step")
    first = metrics[metrics["step"] > 0].drop_duplicates("run").set_index("run")
    rows = metrics.drop_duplicates("run", keep="last").set_index("run")
    rows = rows[["arm", "seed", "pass_rate", "relative_norm"]].sort_index()
    rows["learning_rate"] = rows["arm"].map({arm: learning_rate(config, arm) for arm in arms})
    rows["step_size"] = first["relative_norm"] / first["step"]
    rows["fall"] = training.apply(sustained_fall)
    rows["collapsed"] = rows["fall"] > COLLAPSE
    return rows.reset_index()


def learning_rate(config: Config, arm: str) -> float:
    """Of an arm of reinforcement learning."""
    return resolve_run(config, first_run(config, arm)).rl.learning_rate
