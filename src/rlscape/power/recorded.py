"""What recorded learning curves look like and scatter by, from the tables of a gallery's figures."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.stats import chi2

from rlscape.errors import ResultError
from rlscape.files import read_json
from rlscape.scaling.curves import positive_error
from rlscape.scaling.records import plain, restored
from rlscape.scaling.sigmoid import FloatArray
from rlscape.scaling.sigmoid_fit import SigmoidFit, fit_fixed_ceiling, fit_least_squares
from rlscape.settings.training import EvaluationSettings

UPPER = 0.8
"""Confidence of the limits that stand for the scatter: a standard deviation from five seeds is uncertain by a third."""


class ArmRecord(NamedTuple):
    """An arm's mean curve, and what else its runs recorded."""

    R_0: float
    B: float
    C_mid: float
    """As fitted with ScaleRL's A where A lies on its bound: an A of 1 drags the midpoint along."""
    compute_per_step: float
    mismatch: float
    """Mean |log rho| at equal weights; NaN where no table has it."""
    truncation: float
    """Share of truncated completions; NaN where no table has it."""


@dataclass(frozen=True)
class Recorded:
    """Recorded curves of one scale; every spread is an upper limit, pooled over arms."""

    rise: float
    """A less R_0 of the reference arm."""
    dispersion: float
    """Variance of an evaluation over the binomial one."""
    spread: dict[str, float]
    """Standard deviations over seeds of A and of log C_mid."""
    downstream: float
    """Downstream pass rate at the start."""
    transfer: float
    """Its gain over a run of the reference arm, over the gain of the validation pass rate."""
    downstream_spread: float
    """Standard deviation over seeds of a run's downstream pass rate, beyond sampling."""
    entropy: tuple[float, float]
    """Of the reference arm at the start and at the end, nats per token."""
    entropy_spread: tuple[float, float]
    """Its standard deviation over seeds, of a run's mean and of a single evaluation."""
    arms: dict[str, ArmRecord]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, null for NaN."""
        return plain(asdict(self) | {"arms": {arm: record._asdict() for arm, record in self.arms.items()}})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        own = restored(values)
        return cls(**{**own, "arms": {arm: ArmRecord(**row) for arm, row in own["arms"].items()}})


def upper_variance(squares: float, degrees: int) -> float:
    """Upper limit of a variance of which ``squares`` are the summed squares about so many fewer means."""
    return float(squares / chi2.ppf(1 - UPPER, degrees))


def measure_scatter(gallery: Path, reference_arm: str) -> Recorded:
    """The curves of P1 in a recorded scale, and their scatter.

    Seeds scatter by A and by log C_mid around their arm's mean curve, to first order and independently; B is the
    arm's. The deviations are estimated together and evaluations' part of their variance is subtracted.

    Args:
        gallery: such as ``figures/gallery/default``.

    Raises:
        ResultError: it holds no curve of the reference arm.
    """
    directory = gallery / "scalerl"
    evaluations, starts = _evaluations(directory, reference_arm)
    settings = EvaluationSettings(**read_json(directory / "run.json")["config"]["scalerl"]["evaluation"])
    tables = {arm: _with_errors(rows, settings) for arm, rows in evaluations.groupby("arm")}
    reference = _mean_fit(tables[reference_arm], starts[reference_arm])
    fits = {arm: _mean_fit(rows, starts[str(arm)], reference.A) for arm, rows in tables.items()}
    dispersion = _dispersion(tables.values(), starts)
    columns = {
        "mismatch": _by_arm(directory / "control_head_precision.csv", "mismatch"),
        "truncation": _by_arm(directory / "table_truncation.csv", "mean_truncation"),
    }
    downstream, gain, downstream_spread = _downstream(directory / "fig10.csv", reference_arm)
    ends = tables[reference_arm].groupby("seed")["value"].last()
    return Recorded(
        rise=reference.A - starts[reference_arm],
        dispersion=dispersion,
        spread=_spread(tables, fits, dispersion),
        downstream=downstream,
        transfer=gain / float(ends.mean() - starts[reference_arm]),
        downstream_spread=downstream_spread,
        **_entropy(directory / "fig16.csv", reference_arm),
        arms={
            str(arm): ArmRecord(
                R_0=starts[str(arm)],
                B=fit.B,
                C_mid=fit.C_mid,
                compute_per_step=float((tables[arm]["compute"] / tables[arm]["step"]).iloc[-1]),
                **{name: column.get(arm, np.nan) for name, column in columns.items()},
            )
            for arm, fit in fits.items()
        },
    )


# Curves


def _evaluations(directory: Path, reference_arm: str) -> tuple[pd.DataFrame, dict[str, float]]:
    """Every recorded evaluation of a math curve (arm, seed, step, compute, value), and R_0 by arm."""
    wanted = ["arm", "seed", "step", "compute", "value"]
    evaluations, starts = [], []
    for path in sorted(directory.glob("*.csv")):
        table = pd.read_csv(path)
        if not {*wanted, "kind", "task"} <= set(table.columns):
            continue
        of_math = table[table["task"] == "math"]
        evaluations.append(of_math.loc[(of_math["kind"] == "evaluation") & (of_math["step"] > 0), wanted])
        starts.append(of_math[of_math["kind"] == "base"].set_index("arm")["value"])
    rows = pd.concat(evaluations or [pd.DataFrame(columns=wanted)])
    if reference_arm not in set(rows["arm"]):
        raise ResultError(f"{directory}: no recorded curve of {reference_arm}; `make gallery PAPER=scalerl` records it")
    rows = rows.drop_duplicates(["arm", "seed", "step"]).sort_values(["arm", "seed", "step"])
    return rows, pd.concat(starts).to_dict()


def _with_errors(rows: pd.DataFrame, settings: EvaluationSettings) -> pd.DataFrame:
    """An arm's evaluations with their binomial standard error, ``error``."""
    samples = np.full(len(rows), settings.prompts * settings.samples_per_prompt)
    samples[rows["step"] == rows["step"].max()] *= settings.final_factor
    rates = rows["value"].to_numpy()
    return rows.assign(error=positive_error(rates, np.sqrt(rates * (1 - rates) / samples), samples))


def _mean_fit(rows: pd.DataFrame, R_0: float, A: float = np.nan) -> SigmoidFit:
    """The fit to all seeds of an arm at once; with ``A`` as its ceiling where that lies on its bound."""
    columns = rows["compute"].to_numpy(), rows["value"].to_numpy(), R_0
    fit = fit_least_squares(*columns, rows["error"].to_numpy())
    return fit_fixed_ceiling(*columns, A, rows["error"].to_numpy()) if "A" in fit.at_edge else fit


def _dispersion(tables: Iterable[pd.DataFrame], starts: Mapping[str, float]) -> float:
    """Squared residuals of every run's own fit over their binomial variance; at least 1."""
    fits = [
        fit_least_squares(run["compute"], run["value"], starts[str(run["arm"].iloc[0])], run["error"])
        for rows in tables
        for _, run in rows.groupby("seed")
    ]
    return max(1.0, upper_variance(sum(fit.sse for fit in fits), sum(fit.points - 3 for fit in fits)))


def _spread(tables: Mapping[Any, pd.DataFrame], fits: Mapping[Any, SigmoidFit], dispersion: float) -> dict[str, float]:
    """Standard deviations over seeds of A and of log C_mid."""
    squares, noise, degrees = np.zeros(2), [], 0
    for arm, rows in tables.items():
        runs = [run for _, run in rows.groupby("seed")]
        if len(runs) < 2:
            continue
        deviations = []
        for run in runs:
            basis, residual = _basis(fits[arm], run["compute"].to_numpy()), run["value"].to_numpy()
            residual = (residual - fits[arm].predict(run["compute"])) / run["error"].to_numpy()
            weighted = basis / run["error"].to_numpy()[:, None]
            covariance = np.linalg.inv(weighted.T @ weighted)
            deviations.append(covariance @ weighted.T @ residual)
            noise.append(dispersion * np.diag(covariance))
        squares += ((np.array(deviations) - np.mean(deviations, axis=0)) ** 2).sum(axis=0)
        degrees += len(runs) - 1
    if not degrees:
        return {"A": 0.0, "log_C_mid": 0.0}
    variances = [upper_variance(total, degrees) for total in squares] - np.mean(noise, axis=0)
    return dict(zip(("A", "log_C_mid"), np.sqrt(np.maximum(variances, 0)).tolist(), strict=True))


def _basis(fit: SigmoidFit, compute: FloatArray) -> FloatArray:
    """Derivatives of a fitted curve by A and by log C_mid, (n, 2)."""
    share = (fit.predict(compute) - fit.R_0) / (fit.A - fit.R_0)
    return np.column_stack([share, -(fit.A - fit.R_0) * fit.B * share * (1 - share)])


# What is recorded beside them


def _by_arm(path: Path, column: str) -> dict[str, float]:
    return pd.read_csv(path).set_index("arm")[column].to_dict()


def _upper(deviations: pd.Series, noise: float) -> float:
    """Upper limit of a standard deviation over seeds whose values also have ``noise`` (variance) of their own."""
    degrees = len(deviations) - 1
    squares = float(((deviations - deviations.mean()) ** 2).sum())
    return float(np.sqrt(max(upper_variance(squares, degrees) - noise, 0.0)))


def _downstream(path: Path, arm: str) -> tuple[float, float, float]:
    """Downstream pass rate at the start, its gain at the end (mean over seeds), and its spread over seeds."""
    table = pd.read_csv(path)
    of_arm = table[table["arm"] == arm]
    start = float(of_arm.loc[of_arm["kind"] == "downstream_base", "value"].iloc[0])
    runs = of_arm[of_arm["kind"] == "downstream"].sort_values("step")
    late = runs[runs["step"] >= runs["step"].max() / 2].groupby("seed")
    noise = float((late["standard_error"].apply(lambda errors: (errors**2).mean()) / late.size()).mean())
    gain = float(runs.groupby("seed")["value"].last().mean() - start)
    return start, gain, _upper(late["value"].mean(), noise)


def _entropy(path: Path, arm: str) -> dict[str, tuple[float, float]]:
    """Mean at the start and at the end, and spreads over seeds: of a run's mean, of an evaluation around it."""
    table = pd.read_csv(path)
    runs = table[(table["arm"] == arm) & (table["kind"] == "entropy")]
    by_step = runs.pivot(index="step", columns="seed", values="value")
    means, later = by_step.mean(axis=1), by_step.iloc[1:]
    around = later.sub(later.mean(axis=1), axis=0)
    own = around - around.mean()
    single = float(np.sqrt(upper_variance((own**2).to_numpy().sum(), own.size - sum(own.shape) + 1)))
    whole = _upper(around.mean(), single**2 / len(later))
    return {"entropy": (float(means.iloc[0]), float(means.iloc[-1])), "entropy_spread": (whole, single)}
