"""The table of arms: every quantity with its interval over seeds, from the fits of single runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import ndtri

from rlscape.scaling.arm_comparison import Reached, common_level, reach_level, summarise_reached
from rlscape.scaling.curves import Initial, MetricsError, read_table
from rlscape.scaling.sigmoid_fit import SigmoidFit
from rlscape.scaling.uncertainty import Interval, log_t_interval, t_interval


@dataclass(frozen=True)
class RunFit:
    """The least-squares fit to all of a run on one task, R_0 fixed at its measured value."""

    arm: str
    seed: int
    fit: SigmoidFit
    initial: Initial
    total_compute: float

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> Self:
        """The reference fit among the values that ``rlscape.pipeline.fit_curve`` writes."""
        return cls(
            values["arm"],
            values["seed"],
            SigmoidFit.from_dict(values["fitted"]["fits"]["least_squares"]),
            Initial(**values["initial"]),
            values["total_compute"],
        )


def read_ends(paths: Sequence[str | Path]) -> pd.DataFrame:
    """A row per run: arm, seed, final_pass_rate and gain, the last evaluation less that at step 0.

    Raises:
        MetricsError: a file is missing, is empty or lacks a column.
    """
    rows = []
    for path in paths:
        table = read_table(path, ("arm", "seed", "compute", "pass_rate"))
        if table.empty:
            raise MetricsError(f"{path}: no evaluations; train the run again")
        first, last = table.loc[table["compute"].idxmin()], table.loc[table["compute"].idxmax()]
        gain = last["pass_rate"] - first["pass_rate"]
        rows.append((last["arm"], last["seed"], last["pass_rate"], gain))
    return pd.DataFrame(rows, columns=["arm", "seed", "final_pass_rate", "gain"])


def reference_level(runs: Sequence[RunFit], reference_arm: str) -> float:
    """tau, from the mean A and R_0 of an arm's fits; NaN if none of them succeeded.

    Raises:
        MetricsError: the arm is not among the fits.
    """
    fits = [run.fit for run in runs if run.arm == reference_arm]
    if not fits:
        arms = ", ".join(sorted({run.arm for run in runs}))
        raise MetricsError(f"no fit of the reference arm {reference_arm!r}; add its fits (there are: {arms})")
    A, R_0 = (t_interval(getattr(fit, name) for fit in fits).estimate for name in ("A", "R_0"))
    return common_level(A, R_0)


def reached_by_seed(runs: Sequence[RunFit], arm: str, level: float) -> dict[int, Reached]:
    """C_tau of every seed of an arm whose fit succeeded."""
    reached = {run.seed: reach_level(run.fit, level, run.total_compute) for run in runs if run.arm == arm}
    return {seed: run for seed, run in reached.items() if not np.isnan(run.compute)}


def reached_in(unit: str, reached: Mapping[int, Reached], metrics: pd.DataFrame) -> dict[int, Reached]:
    """Where the runs of an arm were by then in another unit: a column of their ``metrics``, such as step or flops."""
    runs = {seed: rows.sort_values("compute") for seed, rows in metrics.groupby("seed")}
    return {
        seed: Reached(float(np.interp(run.compute, runs[seed]["compute"], runs[seed][unit])), run.censored)
        for seed, run in reached.items()
    }


def _row(arm: str, quantity: str, interval: Interval, method: str) -> dict[str, object]:
    method += ", t interval over seeds" if interval.seeds > 1 else ", no interval from one seed"
    method = method if interval.seeds else "no fit succeeded"
    return {"arm": arm, "quantity": quantity, **asdict(interval), "method": method}


def summarise_arms(
    runs: Sequence[RunFit], ends: pd.DataFrame, reference_arm: str | None, confidence: float = 0.95
) -> pd.DataFrame:
    """A row per arm and quantity: arm, quantity, estimate, low, high, seeds, method.

    A, B, C_mid and C_tau come from the fits, final_pass_rate and gain from :func:`read_ends`. C_mid and C_tau
    are averaged on the logarithm. R_0 is one measurement of the base model: its interval is that of the
    measurement. ``seeds`` counts the runs that entered. C_tau is left out without a reference arm.

    tau lies between R_0 and A of the reference arm. Arms that start from another base, hence from another R_0,
    have another part of that way to go: their C_tau is not comparable and is NaN. Runs from one base share one
    measurement of R_0 (``Initial``), by which they are known.

    Raises:
        MetricsError: the reference arm is not among the fits.
    """
    rows = []
    level = reference_level(runs, reference_arm) if reference_arm else np.nan
    same_base = {run.initial for run in runs if run.arm == reference_arm}
    for arm in dict.fromkeys(run.arm for run in runs):
        of_arm = [run for run in runs if run.arm == arm]
        for name in ("A", "B"):
            values = (getattr(run.fit, name) for run in of_arm)
            rows.append(_row(arm, name, t_interval(values, confidence), "mean of least-squares fits"))
        midpoints = log_t_interval((run.fit.C_mid for run in of_arm), confidence)
        rows.append(_row(arm, "C_mid", midpoints, "geometric mean of least-squares fits"))
        initial = of_arm[0].initial
        half = float(ndtri((1 + confidence) / 2)) * initial.standard_error
        rate = initial.pass_rate
        measured = Interval(rate, rate - half, rate + half, len(of_arm))
        method = "measured once on the base model, normal interval"
        rows.append(_row(arm, "R_0", measured, "") | {"method": method})
        if reference_arm and initial not in same_base:
            unknown = _row(arm, "C_tau", t_interval([]), "")
            rows.append(unknown | {"method": f"not comparable: {arm} starts from another base than {reference_arm}"})
        elif reference_arm:
            reached = [] if np.isnan(level) else list(reached_by_seed(runs, arm, level).values())
            censored = sum(run.censored for run in reached)
            interval = summarise_reached(reached, confidence)
            row = _row(arm, "C_tau", interval, "geometric mean of least-squares fits")
            bound = {"method": f"lower bound: {censored} of {len(reached)} seeds do not reach {level:.3f}"}
            rows.append(row | (bound if censored else {}))
    for arm, table in ends.groupby("arm", sort=False):
        for name in ("final_pass_rate", "gain"):
            rows.append(_row(str(arm), name, t_interval(table[name], confidence), "mean of last evaluations"))
    return pd.DataFrame(rows)
