"""What recorded learning curves scatter by, from the tables of a gallery's figures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.stats import chi2

from rlscape.errors import ResultError
from rlscape.files import read_json
from rlscape.scaling.curves import Curve, Initial, positive_error
from rlscape.scaling.sigmoid_fit import SigmoidFit, fit_least_squares
from rlscape.scaling.uncertainty import bootstrap_fits
from rlscape.settings.training import EvaluationSettings

UPPER = 0.8
"""Confidence of the limits that stand for the scatter: a standard deviation from five seeds is uncertain by a third."""
REACH = 4.5
"""C_mid that a run must have seen for its parameters to count towards the scatter over seeds."""
NOISE_DRAWS = 40
"""Bootstrap refits per run, for the part of the scatter of fits that evaluations alone explain."""
PARAMETERS = ("A", "log_B", "log_C_mid")


class ArmRecord(NamedTuple):
    """What an arm's curves looked like: geometric means over its seeds."""

    B: float
    C_mid: float
    compute_per_step: float


@dataclass(frozen=True)
class Recorded:
    """The scatter of recorded curves, and the shape that they had."""

    R_0: float
    rise: float
    """A less R_0 of the reference arm."""
    downstream: float
    """Downstream pass rate at the start."""
    transfer: float
    """Its gain over a run of the reference arm, over the gain of the validation pass rate."""
    entropy: tuple[float, float]
    """Of the reference arm at the start and at the end, nats per token."""
    entropy_spread: float
    """Its standard deviation over seeds, upper limit, pooled over evaluations."""
    dispersion: float
    """Variance of an evaluation over the binomial one; upper limit, pooled over runs."""
    spread: dict[str, float]
    """Standard deviation over seeds of A, log_B and log_C_mid, beyond what evaluations explain; upper limits, pooled
    over arms."""
    arms: dict[str, ArmRecord]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"arms": {arm: record._asdict() for arm, record in self.arms.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        entropy = tuple(values["entropy"])
        return cls(
            **{
                **values,
                "entropy": entropy,
                "arms": {arm: ArmRecord(**record) for arm, record in values["arms"].items()},
            }
        )


def upper_variance(squares: float, degrees: int) -> float:
    """Upper limit of a variance of which ``squares`` are the summed squares about so many fewer means."""
    return float(squares / chi2.ppf(1 - UPPER, degrees))


def measure_scatter(gallery: Path, reference_arm: str, rng: np.random.Generator) -> Recorded:
    """The scatter of the curves of P1 in a recorded scale.

    Args:
        gallery: such as ``figures/gallery/default``.

    Raises:
        ResultError: it holds no curve of the reference arm.
    """
    directory = gallery / "scalerl"
    evaluations, starts = _evaluations(directory, reference_arm)
    settings = EvaluationSettings(**read_json(directory / "run.json")["config"]["scalerl"]["evaluation"])
    usual = settings.prompts * settings.samples_per_prompt
    fits: list[dict[str, Any]] = []
    for (arm, seed), rows in evaluations.groupby(["arm", "seed"]):
        rates = rows["value"].to_numpy()
        samples = np.full(len(rates), usual)
        samples[-1] *= settings.final_factor
        error = positive_error(rates, np.sqrt(rates * (1 - rates) / samples), samples)
        curve = Curve(rows["compute"].to_numpy(), rates, error)
        R_0 = starts[arm]
        fit = fit_least_squares(curve.compute, curve.pass_rate, R_0, curve.standard_error)
        last = rows.iloc[-1]
        noise = _noise(fit, curve, Initial(R_0, error[-1]), rng)
        fits.append(
            {"arm": arm, "seed": seed, "sse": fit.sse, "points": fit.points, "A": fit.A, "reach": last["compute"]}
            | {"log_B": np.log(fit.B), "log_C_mid": np.log(fit.C_mid), "edge": bool(fit.at_edge or fit.reason)}
            | {"per_step": last["compute"] / last["step"]}
            | noise
        )
    table = pd.DataFrame(fits)
    table["reach"] /= np.exp(table["log_C_mid"])
    settled = table[(table["reach"] >= REACH) & ~table["edge"]]
    degrees = int((table["points"] - len(PARAMETERS)).sum())
    means = table.groupby("arm")[["log_B", "log_C_mid", "per_step"]].mean()
    reference = starts[reference_arm]
    downstream, gain = _downstream(directory / "fig10.csv", reference_arm)
    of_reference = evaluations[evaluations["arm"] == reference_arm].groupby("seed")["value"]
    entropy, entropy_spread = _entropy(directory / "fig16.csv", reference_arm)
    return Recorded(
        R_0=reference,
        rise=float(table.loc[table["arm"] == reference_arm, "A"].mean() - reference),
        downstream=downstream,
        transfer=gain / float(of_reference.last().mean() - reference),
        entropy=entropy,
        entropy_spread=entropy_spread,
        dispersion=max(1.0, upper_variance(table["sse"].sum(), degrees)),
        spread={name: _spread(settled, name) for name in PARAMETERS},
        arms={
            str(arm): ArmRecord(float(np.exp(row["log_B"])), float(np.exp(row["log_C_mid"])), float(row["per_step"]))
            for arm, row in means.iterrows()
        },
    )


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


def _downstream(path: Path, arm: str) -> tuple[float, float]:
    """Downstream pass rate at the start, and its gain at the last evaluation, mean over seeds."""
    table = pd.read_csv(path)
    of_arm = table[table["arm"] == arm]
    start = float(of_arm.loc[of_arm["kind"] == "downstream_base", "value"].iloc[0])
    ends = of_arm[of_arm["kind"] == "downstream"].sort_values("step").groupby("seed")["value"].last()
    return start, float(ends.mean() - start)


def _entropy(path: Path, arm: str) -> tuple[tuple[float, float], float]:
    """Entropy at the start and at the end, mean over seeds, and its spread over seeds at an evaluation."""
    table = pd.read_csv(path)
    by_step = table[(table["arm"] == arm) & (table["kind"] == "entropy")].pivot(
        index="step", columns="seed", values="value"
    )
    later = by_step.iloc[1:]
    degrees = later.size - len(later)
    squares = float(((later.sub(later.mean(axis=1), axis=0)) ** 2).to_numpy().sum())
    means = by_step.mean(axis=1)
    return (float(means.iloc[0]), float(means.iloc[-1])), float(np.sqrt(upper_variance(squares, degrees)))


def _noise(fit: SigmoidFit, curve: Curve, initial: Initial, rng: np.random.Generator) -> dict[str, float]:
    """Variances of a fit's parameters over bootstrap refits; NaN if the fit failed."""
    refits = bootstrap_fits(fit, curve, initial, NOISE_DRAWS, rng)
    values: dict[str, Any] = {
        "A": [refit.A for refit in refits],
        "log_B": np.log([refit.B for refit in refits]),
        "log_C_mid": np.log([refit.C_mid for refit in refits]),
    }
    return {f"{name}_noise": float(np.var(column, ddof=1)) if refits else np.nan for name, column in values.items()}


def _spread(runs: pd.DataFrame, name: str) -> float:
    """Upper limit of a parameter's standard deviation over seeds, pooled over arms, less that of single fits; >= 0."""
    groups = [rows for _, rows in runs.groupby("arm") if len(rows) > 1]
    degrees = sum(len(rows) - 1 for rows in groups)
    if not degrees:
        return 0.0
    squares = sum(((rows[name] - rows[name].mean()) ** 2).sum() for rows in groups)
    variance = upper_variance(squares, degrees) - runs[f"{name}_noise"].mean()
    return float(np.sqrt(max(variance, 0.0)))
