"""What a scale would record of P1's runs if their curves were known: one draw of seeds and evaluations."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd

from rlscape.catalogue import ARMS, first_run, resolve_run, tasks_of
from rlscape.catalogue.resolve import DOWNSTREAM
from rlscape.errors import ResultError
from rlscape.paths import parse_run_name, results_dir
from rlscape.power.recorded import ArmRecord, Recorded
from rlscape.rl.evaluate import evaluation_steps
from rlscape.scaling.arm_comparison import MARGIN_SHARE
from rlscape.scaling.curves import Curve, Initial, positive_error
from rlscape.scaling.forecast import LAST_POINTS, Bands, FittedCurve, Forecast, refusal, score_forecast
from rlscape.scaling.records import plain
from rlscape.scaling.sigmoid import FloatArray, power_law, sigmoid
from rlscape.scaling.sigmoid_fit import SigmoidFit, fit_least_squares, midpoint_limit
from rlscape.scaling.windows import Form, fit_windows
from rlscape.settings.scale import Config
from rlscape.tasks.base import column_prefix

NO_BANDS = Bands((), (), (), ())
COLLAPSE = 3 * MARGIN_SHARE
"""How far a collapsed run falls, in rises of the reference arm."""


class Truth(NamedTuple):
    """The curve that an arm's runs follow, and what else evaluators read."""

    A: float = 1.0
    """The ceiling: its rise above R_0 in those of the reference arm, which is 1."""
    error: float = 1.0
    """What the ceiling leaves to 1, in what A leaves."""
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
    A_spread: float | None = None
    """Standard deviation of A over seeds, in rises of the reference arm; None: as recorded."""
    instead: "Truth | None" = None
    """What a run follows by ``chance``."""
    chance: float = 0.0
    code: "Truth | None" = None
    """The curve on code problems, for arms that train on them."""
    transfer: float = 1.0
    """Downstream gain over the validation gain, in the recorded ratio."""
    stalls: bool = False
    """Whether the downstream pass rate stays where it was after half of the compute."""
    entropy_gap: float = 0.0
    """By how much entropy is lower than the reference arm's, in what that has fallen by."""
    mismatch: float | None = None
    """Mean |log rho| at equal weights; None: as recorded."""
    grows: float = 0.0
    """Correlation of the share of truncated completions with their length."""
    truncation_before_collapse: float = 0.0
    pool_left: float = 1.0
    """Share of the training problems left at the end."""


@dataclass(frozen=True)
class Design:
    """An arm's runs: where they start, what a step costs, and the evaluations, by step from 0 on."""

    shape: ArmRecord
    base: str
    steps: np.ndarray
    samples: np.ndarray
    base_samples: int
    downstream_samples: np.ndarray | None


def design_of(config: Config, recorded: Recorded, arm: str) -> Design:
    """As a scale runs the arm; one that was not recorded costs what the arm costs that has its recipe unchanged.

    Raises:
        ResultError: neither was recorded.
    """
    settings = resolve_run(config, first_run(config, arm))
    evaluation = settings.evaluation
    shape = recorded.arms.get(arm) or recorded.arms.get(ARMS[arm].recipe or "")
    if shape is None:
        raise ResultError(f"{arm}: neither it nor {ARMS[arm].recipe} is recorded; `make gallery PAPER=scalerl` does it")
    steps = np.array(evaluation_steps(evaluation, settings.rl.steps))
    factor = np.where(steps == steps[-1], evaluation.final_factor, 1)
    usual = evaluation.prompts * evaluation.samples_per_prompt
    downstream = evaluation.downstream_prompts * evaluation.downstream_samples_per_prompt
    return Design(
        shape=shape,
        base=settings.base_name,
        steps=steps,
        samples=usual * factor,
        base_samples=usual * evaluation.final_factor,
        downstream_samples=downstream * factor if arm in DOWNSTREAM else None,
    )


class Draw:
    """The results of one draw, as :func:`rlscape.results.files.read_from` takes them.

    Every run has its own random numbers, from the draw's number and its name: what is read first changes nothing.
    Seeds of the same number in two arms are independent; arms from one base share the measurement of its R_0. ``forms``
    are those that are fitted to windows.
    """

    def __init__(
        self,
        config: Config,
        designs: Mapping[str, Design],
        recorded: Recorded,
        reference_arm: str,
        truths: Mapping[str, Truth],
        number: int,
        forms: Collection[Form] = (),
    ) -> None:
        self.root = results_dir(config)
        self.settings = config.fit
        self.designs, self.recorded, self.reference_arm = designs, recorded, reference_arm
        self.truths, self.number, self.forms = truths, number, forms
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
                injected = self._truth(run).mismatch
                return {"run": run, "mismatch": self._design(run).shape.mismatch if injected is None else injected}
            case ("forecasts", name):
                return self._forecast(*_of_curve(name))
            case ("fits", name):
                return self._fit(*_of_curve(name))
        raise ResultError(f"{path}: not simulated")

    def _design(self, run: str) -> Design:
        return self.designs[parse_run_name(run)[0]]

    def _rng(self, name: str, part: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.number, crc32(name.encode()), part])

    def _truth(self, run: str) -> Truth:
        truth = self.truths[parse_run_name(run)[0]]
        return truth.instead if truth.instead and self._rng(run, 1).random() < truth.chance else truth

    def _collapses(self, run: str) -> bool:
        return bool(self._rng(run, 2).random() < self._truth(run).collapse)

    # Curves

    def _curve(self, run: str, truth: Truth, rng: np.random.Generator) -> FloatArray:
        """The true pass rate of a run at each evaluation."""
        recorded, design = self.recorded, self._design(run)
        shape = design.shape
        if truth.C_mid is not None:
            reference = self.designs[self.reference_arm].shape
            shape = shape._replace(B=reference.B, C_mid=truth.C_mid * reference.C_mid)
        deviation = recorded.spread["A"] if truth.A_spread is None else truth.A_spread * recorded.rise
        A = 1 - truth.error * (1 - shape.R_0 - truth.A * recorded.rise) + rng.normal(0, deviation)
        A, B = min(max(A, shape.R_0), 1.0), truth.B or shape.B
        C_mid = shape.C_mid * float(np.exp(rng.normal(0, recorded.spread["log_C_mid"])))
        compute = design.steps * shape.compute_per_step
        half = compute[-1] / 2
        if truth.power_law:
            rates = np.full(len(compute), shape.R_0)
            rates[1:] = np.maximum(power_law(compute[1:] / compute[1], A, B, A - shape.R_0), shape.R_0)
        else:
            rates = sigmoid(compute, A, B, C_mid, shape.R_0)
        rates = rates + truth.late * recorded.rise * np.clip(compute / half - 1, 0, 1)
        if self._collapses(run):
            rates = np.where(compute > half, np.interp(half, compute, rates) - COLLAPSE * recorded.rise, rates)
        return np.clip(rates, 0, 1)

    def metrics(self, run: str) -> pd.DataFrame:
        """``metrics.parquet`` of a run."""
        if run in self._metrics:
            return self._metrics[run]
        truth, design, recorded, rng = self._truth(run), self._design(run), self.recorded, self._rng(run)
        rates = self._curve(run, truth, rng)
        compute = design.steps * design.shape.compute_per_step
        columns: dict[str, Any] = {"step": design.steps, "compute": compute}
        # What a step generates and trains is the recipe's, whatever the clock says.
        columns |= {
            "flops": design.steps,
            "tokens_generated": design.steps,
            "entropy": self._entropy(truth, design, rng),
        }
        columns |= self._sampled(rates, design.samples, "", rng)
        if truth.code:
            columns |= self._sampled(self._curve(run, truth.code, rng), design.samples, "code_", rng)
        if design.downstream_samples is not None:
            seen = np.minimum(rates, np.interp(compute[-1] / 2, compute, rates)) if truth.stalls else rates
            gain = truth.transfer * recorded.transfer * (seen - rates[0])
            own = rng.normal(0, recorded.downstream_spread) * (design.steps > 0)
            downstream = np.clip(recorded.downstream + gain + own, 0, 1)
            columns |= self._sampled(downstream, design.downstream_samples, "downstream_", rng)
        self._metrics[run] = pd.DataFrame(columns)
        return self._metrics[run]

    def _entropy(self, truth: Truth, design: Design, rng: np.random.Generator) -> FloatArray:
        """Falls with the root of the steps, as ScaleRL's from its start to its end, wherever an arm's own end is."""
        start, end = self.recorded.entropy
        of_run, of_evaluation = self.recorded.entropy_spread
        fallen = (start - end) * np.sqrt(design.steps / self.designs[self.reference_arm].steps[-1])
        noise = rng.normal(0, of_run) + rng.normal(0, of_evaluation, len(fallen))
        return start - (1 + truth.entropy_gap) * fallen + noise

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
        truth, design, rng = self._truth(run), self._design(run), self._rng(run, 3)
        steps = np.arange(1, design.steps[-1] + 1)
        length, noise = rng.normal(size=(2, len(steps)))
        noise = truth.grows * length + np.sqrt(1 - truth.grows**2) * noise
        truncation = np.nan_to_num(design.shape.truncation) * np.maximum(1 + noise / 2, 0)
        if self._collapses(run):
            before = steps <= steps[-1] // 2
            truncation[before] = np.maximum(truncation[before], truth.truncation_before_collapse)
        pool = np.rint(1000 * np.linspace(1, truth.pool_left, len(steps)))
        return pd.DataFrame(
            {"step": steps, "mean_length": 30 + length, "truncation_rate": truncation, "pool_size": pool}
        )

    # Fits

    def _points(self, run: str, task: str) -> tuple[Curve, Initial]:
        """A run's curve on a task without its start, and the base model's pass rate."""
        metrics, prefix = self.metrics(run), "" if task == tasks_of(parse_run_name(run)[0])[0] else column_prefix(task)
        names = ("pass_rate", "pass_rate_se", "samples")
        rate, error, samples = (metrics[f"{prefix}{name}"].to_numpy()[1:] for name in names)
        curve = Curve(metrics["compute"].to_numpy()[1:], rate, positive_error(rate, error, samples))
        return curve, self._initial(self._design(run), task)

    def _initial(self, design: Design, task: str) -> Initial:
        """R_0 as measured once on the base model; the start on every task is that of math."""
        rate = self._rng(design.base + task).binomial(design.base_samples, design.shape.R_0) / design.base_samples
        return Initial(rate, float(np.sqrt(rate * (1 - rate) / design.base_samples)))

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
        window = seen.between(self.settings.skip_fraction * float(seen.compute[-1]))
        compute, rates, error = window.compute, window.pass_rate, window.standard_error
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
            windows=lambda: [window.to_dict() for window in fit_windows(curve, initial, total, self.forms)],
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
    arm, _, rest = file.removesuffix(".json").rpartition("-s")
    seed, _, task = rest.partition("_")
    return f"{arm}-s{seed}", task or tasks_of(arm)[0]
