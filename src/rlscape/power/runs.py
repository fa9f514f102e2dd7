"""What a scale would record of P1's runs if their curves were known: one draw of seeds and evaluations."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rlscape.catalogue import ARMS, resolve_run
from rlscape.catalogue.resolve import DOWNSTREAM
from rlscape.errors import ResultError
from rlscape.paths import parse_run_name, results_dir, run_name
from rlscape.power.recorded import ArmRecord, Recorded
from rlscape.scaling.curves import Curve, Initial, positive_error
from rlscape.scaling.forecast import LAST_POINTS, Bands, FittedCurve, Forecast, refusal, score_forecast
from rlscape.scaling.records import plain
from rlscape.scaling.sigmoid import FloatArray, sigmoid
from rlscape.scaling.sigmoid_fit import SigmoidFit, fit_least_squares, midpoint_limit
from rlscape.scaling.windows import fit_windows
from rlscape.settings.scale import Config
from rlscape.tasks.base import column_prefix

NO_BANDS = Bands((), (), (), ())
START_SAMPLES = 4
"""The base model is evaluated with this many times the samples of an evaluation."""
FALL = 3.0
"""A collapse in margins delta."""


class Truth(NamedTuple):
    """The curve that an arm's runs follow, and what else evaluators read."""

    A: float = 1.0
    """The ceiling: its rise above R_0 in those of the reference arm, which is 1."""
    B: float | None = None
    """None: as recorded."""
    C_mid: float | None = None
    """In those of the reference arm, whose B is then the arm's own unless it is given; None: as recorded."""
    late: float = 0.0
    """What the second half of the compute adds to the pass rate, linearly, in rises of the reference arm."""
    power_law: bool = False
    """From the first evaluation on a power law of exponent B in place of the sigmoid."""
    collapse: float = 0.0
    """Probability of a run to fall back after half of its compute."""
    spread: float = 1.0
    """Standard deviation over seeds, in recorded ones."""
    code: "Truth | None" = None
    """The curve on code problems, for arms that train on them."""
    transfer: float = 1.0
    """Downstream gain over the validation gain, in the recorded ratio."""
    stalls: bool = False
    """Whether the downstream pass rate stays where it was after half of the compute."""
    entropy: float = 0.0
    """Nats per token beyond the reference arm's."""
    mismatch: float = 0.02
    """Mean |log rho| at equal weights."""
    truncation: tuple[float, float] = (0.01, 0.0)
    """Share of truncated completions, and its correlation with length."""
    truncation_before_collapse: float = 0.01
    pool_left: float = 1.0
    """Share of the training problems left at the end."""


@dataclass(frozen=True)
class Design:
    """The evaluations of an arm's runs: steps from 0 on and samples at each."""

    steps: np.ndarray
    samples: np.ndarray
    downstream_samples: np.ndarray | None


def design_of(config: Config, arm: str) -> Design:
    """As a scale runs the arm."""
    settings = resolve_run(config, run_name(arm, 0))
    evaluation = settings.evaluation
    steps = np.rint(np.linspace(0, settings.rl.steps, evaluation.evaluations + 1)).astype(int)
    factor = np.ones(len(steps), int)
    factor[0], factor[-1] = START_SAMPLES, evaluation.final_factor
    downstream = evaluation.downstream_prompts * evaluation.downstream_samples_per_prompt
    return Design(
        steps,
        evaluation.prompts * evaluation.samples_per_prompt * factor,
        downstream * factor if arm in DOWNSTREAM else None,
    )


class Draw:
    """The results of one draw, as :func:`rlscape.results.files.read_from` takes them.

    Every run has its own random numbers, from the draw's number, its arm and its seed: what is read first changes
    nothing. Seeds of the same number in two arms are independent.
    """

    def __init__(
        self,
        config: Config,
        designs: Mapping[str, Design],
        recorded: Recorded,
        reference_arm: str,
        truths: Mapping[str, Truth],
        number: int,
    ) -> None:
        self.root = results_dir(config)
        self.settings = config.fit
        self.designs, self.recorded, self.reference_arm = designs, recorded, reference_arm
        self.truths, self.number = truths, number
        self._metrics: dict[str, pd.DataFrame] = {}
        self._forecasts: dict[tuple[str, str], Forecast] = {}
        self._read: dict[Path, Any] = {}

    def __call__(self, path: Path) -> Any:
        if path not in self._read:
            self._read[path] = self._make(path)
        return self._read[path]

    def _make(self, path: Path) -> Any:
        match path.relative_to(self.root).parts:
            case ("runs", run, "metrics.parquet"):
                return self.metrics(run)
            case ("runs", run, "updates.parquet"):
                return self._updates(run)
            case ("runs", run, "run.json"):
                return {"run": run, "mismatch": self._truth(run).mismatch}
            case ("forecasts", name):
                return self._forecast(*_of_curve(name))
            case ("fits", name):
                return self._fit(*_of_curve(name))
        raise ResultError(f"{path}: not simulated")

    def _truth(self, run: str) -> Truth:
        return self.truths[parse_run_name(run)[0]]

    def _rng(self, run: str, part: int) -> np.random.Generator:
        arm, seed = parse_run_name(run)
        return np.random.default_rng([self.number, list(ARMS).index(arm), seed, part])

    # Curves

    def _shape(self, arm: str) -> ArmRecord:
        return self.recorded.arms.get(arm, self.recorded.arms[self.reference_arm])

    def _curve(self, run: str, truth: Truth, compute: FloatArray, rng: np.random.Generator) -> FloatArray:
        """The true pass rate of a run at each compute."""
        recorded, shape = self.recorded, self._shape(parse_run_name(run)[0])
        normal = {name: truth.spread * rng.normal(0, deviation) for name, deviation in recorded.spread.items()}
        A = min(recorded.R_0 + truth.A * recorded.rise + normal["A"], 1.0)
        if truth.C_mid is not None:
            reference = self._shape(self.reference_arm)
            shape = reference._replace(C_mid=truth.C_mid * reference.C_mid)
        B = float((truth.B or shape.B) * np.exp(normal["log_B"]))
        C_mid = float(shape.C_mid * np.exp(normal["log_C_mid"]))
        half = compute[-1] / 2
        if truth.power_law:
            with np.errstate(divide="ignore"):
                rates = np.maximum(A - (A - recorded.R_0) * (compute[1] / compute) ** B, recorded.R_0)
        else:
            rates = sigmoid(compute, A, B, C_mid, recorded.R_0)
        rates += truth.late * recorded.rise * np.clip(compute / half - 1, 0, 1)
        if rng.random() < truth.collapse:
            rates = np.where(compute > half, np.interp(half, compute, rates) - FALL * 0.1 * recorded.rise, rates)
        return np.clip(rates, 0, 1)

    def metrics(self, run: str) -> pd.DataFrame:
        """``metrics.parquet`` of a run."""
        if run in self._metrics:
            return self._metrics[run]
        arm, _ = parse_run_name(run)
        truth, design, rng = self.truths[arm], self.designs[arm], self._rng(run, 0)
        compute = design.steps * self._shape(arm).compute_per_step
        rates = self._curve(run, truth, compute, rng)
        start, end = self.recorded.entropy
        shared = design.steps / self.designs[self.reference_arm].steps[-1]
        entropy = start + (end - start) * np.sqrt(shared) + truth.entropy
        columns: dict[str, Any] = {"step": design.steps, "compute": compute}
        columns |= {"flops": compute, "tokens_generated": compute}
        columns["entropy"] = entropy + rng.normal(0, self.recorded.entropy_spread, len(compute))
        columns |= self._sampled(rates, design.samples, "", rng)
        if truth.code:
            code = self._curve(run, truth.code, compute, rng)
            columns |= self._sampled(code, design.samples, "code_", rng)
        if design.downstream_samples is not None:
            seen = np.minimum(rates, np.interp(compute[-1] / 2, compute, rates)) if truth.stalls else rates
            gain = truth.transfer * self.recorded.transfer * (seen - self.recorded.R_0)
            downstream = np.clip(self.recorded.downstream + gain, 0, 1)
            columns |= self._sampled(downstream, design.downstream_samples, "downstream_", rng)
        self._metrics[run] = pd.DataFrame(columns)
        return self._metrics[run]

    def _sampled(
        self, rates: FloatArray, samples: np.ndarray, prefix: str, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Pass rates of so many samples, of which dispersion leaves fewer independent ones, and binomial errors."""
        independent = np.maximum(np.rint(samples / self.recorded.dispersion), 1).astype(int)
        observed = rng.binomial(independent, rates) / independent
        error = np.sqrt(observed * (1 - observed) / samples)
        return {f"{prefix}pass_rate": observed, f"{prefix}pass_rate_se": error, f"{prefix}samples": samples}

    def _updates(self, run: str) -> pd.DataFrame:
        """``updates.parquet``, as far as evaluators read it."""
        truth, rng = self._truth(run), self._rng(run, 1)
        metrics = self.metrics(run)
        steps = np.arange(1, metrics["step"].iloc[-1] + 1)
        length = rng.normal(30, 1, len(steps))
        share, correlation = truth.truncation
        noise = correlation * (length - 30) + np.sqrt(1 - correlation**2) * rng.normal(size=len(steps))
        truncation = np.maximum(share * (1 + noise / 2), 0)
        rate = metrics["pass_rate"].to_numpy()
        if rate[-1] < rate.max() - FALL * 0.05 * self.recorded.rise:
            before = steps <= steps[-1] // 2
            truncation[before] = np.maximum(truncation[before], truth.truncation_before_collapse)
        pool = np.linspace(1, truth.pool_left, len(steps))
        return pd.DataFrame(
            {"step": steps, "mean_length": length, "truncation_rate": truncation, "pool_size": np.rint(1000 * pool)}
        )

    # Fits

    def _points(self, run: str, task: str) -> tuple[Curve, Initial]:
        """A run's curve on a task without its start, and the base model's pass rate."""
        metrics, prefix = self.metrics(run), "" if task == "math" else column_prefix(task)
        names = ("pass_rate", "pass_rate_se", "samples")
        rate, error, samples = (metrics[f"{prefix}{name}"].to_numpy() for name in names)
        error = positive_error(rate, error, samples)
        curve = Curve(metrics["compute"].to_numpy()[1:], rate[1:], error[1:])
        return curve, Initial(self.recorded.R_0, float(error[0]))

    def _identity(self, run: str, task: str, initial: Initial) -> dict[str, Any]:
        arm, seed = parse_run_name(run)
        return {"run": run, "arm": arm, "seed": seed, "task": task, "initial": asdict(initial)}

    def forecast(self, run: str, task: str) -> Forecast:
        """As :func:`rlscape.scaling.forecast.make_forecast` decides, without the bands that no evaluator reads."""
        if (run, task) in self._forecasts:
            return self._forecasts[run, task]
        curve, initial = self._points(run, task)
        total = float(curve.compute[-1])
        cutoff = self.settings.fit_fraction * total
        seen = curve.between(0, cutoff)
        compute, rates, error = seen.compute, seen.pass_rate, seen.standard_error
        fit = fit_least_squares(compute, rates, initial.pass_rate, error)
        limit = midpoint_limit(compute, rates, initial.pass_rate, error, self.settings.confidence)
        reason = refusal(fit, float(compute[-1]), limit, self.settings.minimum_reach)
        self._forecasts[run, task] = Forecast(
            cutoff=cutoff,
            total_compute=total,
            fitted_compute=float(compute[-1]),
            reach=float(compute[-1]) / fit.C_mid,
            C_mid_limit=limit,
            verdict="refused" if reason else "forecast",
            reason=reason,
            fitted=_only(fit),
            rivals={},
            last_value=float(rates[-1]),
            last_points_mean=float(rates[-LAST_POINTS:].mean()),
        )
        return self._forecasts[run, task]

    def _forecast(self, run: str, task: str) -> dict[str, Any]:
        _, initial = self._points(run, task)
        return self._identity(run, task, initial) | self.forecast(run, task).to_dict()

    def _fit(self, run: str, task: str) -> "_Fits":
        curve, initial = self._points(run, task)
        fit = fit_least_squares(curve.compute, curve.pass_rate, initial.pass_rate, curve.standard_error)
        total = float(curve.compute[-1])
        eager = self._identity(run, task, initial) | {"total_compute": total, "fitted": plain(asdict(_only(fit)))}
        return _Fits(
            eager,
            score=lambda: score_forecast(self.forecast(run, task), curve),
            windows=lambda: [window.to_dict() for window in fit_windows(curve, initial, total)],
        )


class _Fits(dict[str, Any]):
    """A record of fits, of which the costly parts are made when they are asked for."""

    def __init__(self, values: Mapping[str, Any], **lazy: Callable[[], Any]) -> None:
        super().__init__(values)
        self.lazy = lazy

    def __missing__(self, key: str) -> Any:
        self[key] = self.lazy[key]()
        return self[key]


def _only(fit: SigmoidFit) -> FittedCurve:
    return FittedCurve({"least_squares": fit, "grid": fit}, {}, NO_BANDS)


def _of_curve(file: str) -> tuple[str, str]:
    """``"scalerl-s0_code.json"`` -> ``("scalerl-s0", "code")``."""
    run, _, task = file.removesuffix(".json").partition("-s")
    seed, _, task = task.partition("_")
    return f"{run}-s{seed}", task or "math"
