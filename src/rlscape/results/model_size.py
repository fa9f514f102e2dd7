"""What an update looks like when it has gained as much as another: size, sparsity and P2's signature at matched gains.

A gain is the pass rate less that of the first evaluation. Between evaluations everything is linear in the gain, up to
the first that reaches it; a run that never does is censored at its last evaluation.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from rlscape.errors import ResultError
from rlscape.results import bias, curves, weights
from rlscape.settings.scale import Config

QUANTITIES = ("x", "sparsity", "nss", "overlap_excess")
"""Interpolated; ``nss`` is the mean over the matrices in the blocks, ``overlap_excess`` the overlap of M_princ with
what changed less its binned null, over all changed entries."""


def signatures(config: Config, arms: Iterable[str]) -> pd.DataFrame:
    """A row per run and snapshot: run, step, nss, overlap_excess (NaN if nothing changed)."""
    table = weights.in_blocks(bias.over_time(config, arms))
    changed = table["density"] * table["m"] * table["n"]
    excess = changed * (table["overlap_principal"] - table["overlap_principal_binned"])
    by = [table["run"], table["step"]]
    shares = excess.groupby(by).sum(min_count=1) / changed.groupby(by).sum().replace(0, np.nan)
    return pd.DataFrame({"nss": table["nss"].groupby(by).mean(), "overlap_excess": shares}).reset_index()


def at_gain(run: pd.DataFrame, gain: float) -> dict[str, float | bool]:
    """:data:`QUANTITIES` and the step where a run first reaches a gain; ``censored`` if it never does.

    Args:
        run: a row per evaluation: step, pass_rate and the quantities, which may be NaN at step 0.
    """
    rows = run.sort_values("step").reset_index(drop=True)
    gains = (rows["pass_rate"] - rows["pass_rate"].iloc[0]).to_numpy()
    names = ["step", *QUANTITIES]
    values = rows[names].astype(float).bfill()
    reached = np.flatnonzero(gains >= gain)
    if not len(reached):
        return {"censored": True} | values.iloc[-1].to_dict()
    after = int(reached[0])
    share = (gain - gains[after - 1]) / (gains[after] - gains[after - 1])
    between = values.iloc[after - 1] + share * (values.iloc[after] - values.iloc[after - 1])
    return {"censored": False} | between.to_dict()


def recorded_sizes(config: Config) -> pd.DataFrame:
    """The runs that another scale recorded, as :func:`at_gains` and with that ``scale``; empty if none are to be shown.

    Raises:
        ResultError: the file is missing or no table of these.
    """
    if config.recorded_sizes is None:
        return pd.DataFrame()
    try:
        frame = pd.read_csv(config.recorded_sizes)
        columns = ["arm", "seed", "parameters", "gain", "censored", "step", *QUANTITIES, "scale"]
        return frame.loc[frame["kind"] == "run", columns]
    except (OSError, ValueError, KeyError) as error:
        raise ResultError(
            f"{config.recorded_sizes}: no table of recorded model sizes ({error}); {config.scale}: recorded_sizes "
            "names the control_model_size.csv of a scale in figures/gallery"
        ) from None


def at_gains(config: Config, arms: Sequence[str], gains: Iterable[float]) -> pd.DataFrame:
    """A row per run and gain: arm, seed, parameters, gain and the keys of :func:`at_gain`."""
    metrics = curves.metrics(config, arms).merge(signatures(config, arms), on=["run", "step"], how="left")
    metrics.loc[metrics["step"] == 0, "nss"] = 0.0
    records = curves.run_records(config, arms)
    rows = []
    for (run, arm, seed), evaluations in metrics.groupby(["run", "arm", "seed"], sort=False):
        identity = {"arm": arm, "seed": seed, "parameters": records[run]["parameters"]}
        rows += [identity | {"gain": gain} | at_gain(evaluations, gain) for gain in gains]
    return pd.DataFrame(rows)
