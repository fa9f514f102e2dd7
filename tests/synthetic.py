"""A tree of result files made from numbers that a test chooses, in the shape that the pipeline writes."""

import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from rlscape.catalogue import ARMS, FIGURES, resolve_run, runs_of, seeds_of, with_catalogue
from rlscape.catalogue.off_principals import MEASURED
from rlscape.catalogue.resolve import DOWNSTREAM
from rlscape.files import write_json, write_parquet
from rlscape.geometry.measure import measure_update
from rlscape.paths import results_dir
from rlscape.scaling.curves import Curve, Initial
from rlscape.scaling.forecast import Bands, FittedCurve, Forecast, plain, score_forecast
from rlscape.scaling.sigmoid_fit import SigmoidFit, failed_fit
from rlscape.scaling.windows import WINDOWS, WindowFit
from rlscape.settings.measurement import GeometrySettings
from rlscape.settings.reading import load_config
from rlscape.settings.scale import Config

ROOT = Path(__file__).parents[1]
R_0 = 0.40
CODE_R_0 = 0.30
TOTAL_COMPUTE = 100.0
SAMPLES = 1024
STEPS_PER_EVALUATION = 6


class Run(NamedTuple):
    """The true curve of a run and what the pipeline made of it; an A of 1 is on its bound."""

    A: float = 0.70
    B: float = 1.9
    C_mid: float = 15.0
    granted: bool = True
    forecast_A: float | None = None
    """Ceiling that the first-half fit finds; None: the true one."""
    collapse_at: float | None = None
    """Compute after which the pass rate falls back to R_0."""
    mismatch: float = 0.02
    fails: bool = False
    """Whether neither the half nor the whole run could be fitted."""
    code_A: float = 0.60
    """Ceiling on code problems, for arms that have them."""
    downstream: float = 0.5
    """Downstream pass rate over that of the validation set."""
    truncation: float = 0.01
    """Truncation rate, in evaluations and in training."""
    truncates_at: float | None = None
    """Compute after which the truncation rate is 0.2."""
    entropy: float = 0.30
    """At the start; it halves over the run."""
    idle_generator: float = 0.0
    """Idle share of the generators."""
    idle_trainer: float = 0.0
    """Idle share of the trainers."""
    window_spread: float = 0.004
    """Range of the sigmoid's A over the windows, the highest being the true one."""
    power_law_spread: float = 0.2
    """The same for the power law, the lowest being the true one."""


def seeded_by(name: str, seed: int) -> np.random.Generator:
    """Numbers that depend on a name and a seed, and on nothing else: another arm in the catalogue leaves them."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def small_config(root: Path, seeds: Mapping[str, int] | int = 2) -> Config:
    """The smoke scale with its results and figures below ``root``.

    Args:
        seeds: of every arm of the catalogue; or of each arm, where those not named do not run, unless ``others`` (and
            ``extras``) say otherwise. Without ``others`` every figure is a target, also those whose arms do not run.
    """
    config = load_config(ROOT / "config" / "smoke.yaml").changed(results=root / "results", figures=root / "figures")
    counts = {"others": seeds, "extras": seeds} if isinstance(seeds, int) else dict(seeds)
    if "others" in counts:
        return with_catalogue(config.changed(seeds=counts), "small_config")
    return config.changed(seeds=counts, targets=tuple(figure.target for figure in FIGURES))


def fitted(fit: SigmoidFit, compute: np.ndarray, fails: bool) -> FittedCurve:
    """A fitted curve whose band is +-0.02, or a failed fit."""
    if fails:
        fit, compute = failed_fit(fit.R_0, len(compute), "least_squares", "made to fail"), compute[:0]
    values = fit.predict(compute)
    bands = Bands(*(tuple(column.tolist()) for column in (compute, values, values - 0.02, values + 0.02)))
    names = ("least_squares", "grid", "least_squares_free_initial")
    return FittedCurve(dict.fromkeys(names, fit), {name: (np.nan, np.nan) for name in ("A", "B", "C_mid")}, bands)


def window_fits(run: Run) -> list[WindowFit]:
    """Fits to the windows, with ceilings spread as ``run`` says."""
    fits = []
    for window, share in zip(WINDOWS, np.linspace(0, 1, len(WINDOWS)), strict=True):
        sigmoid = WindowFit("sigmoid", *window, 9, run.A - share * run.window_spread, run.B, C_mid=run.C_mid)
        power_law = WindowFit("power_law", *window, 9, run.A + (1 - share) * run.power_law_spread, 0.8, D=2.0)
        fits += [sigmoid, power_law]
    nan = np.nan
    if run.fails:
        fits = [replace(fit, A=nan, B=nan, C_mid=nan, D=nan, reason="made to fail") for fit in fits]
    return fits


def sampled(rates: np.ndarray, prefix: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Pass rates of ``SAMPLES`` samples and their errors, as columns of metrics.parquet."""
    rates = rng.binomial(SAMPLES, rates) / SAMPLES
    error = np.sqrt(rates * (1 - rates) / SAMPLES)
    samples = np.full(len(rates), SAMPLES)
    return {f"{prefix}pass_rate": rates, f"{prefix}pass_rate_se": error, f"{prefix}samples": samples}


def write_run(config: Config, arm: str, seed: int, run: Run, evaluations: int = 24) -> None:
    """metrics.parquet, updates.parquet, run.json, and per task forecast and fit, of one RL run."""
    rng = seeded_by(arm, seed)
    name = f"{arm}-s{seed}"
    compute = np.linspace(0, TOTAL_COMPUTE, evaluations + 1) * rng.uniform(0.98, 1.02)
    edge = ("A",) if run.A >= 1 else ()
    truths = {"": SigmoidFit(min(run.A, 1.0), run.B, run.C_mid, R_0, 1.0, evaluations, "least_squares", edge)}
    if "code" in resolve_run(config, name).tasks:
        truths["code_"] = SigmoidFit(run.code_A, run.B, run.C_mid, CODE_R_0, 1.0, evaluations, "least_squares")

    metrics = pd.DataFrame(
        {
            "run": name,
            "arm": arm,
            "seed": seed,
            "step": np.arange(evaluations + 1) * STEPS_PER_EVALUATION,
            "compute": compute,
            "flops": compute * 1e9,
            "tokens_generated": np.arange(evaluations + 1) * 1000,
            "tokens_trained": np.arange(evaluations + 1) * 1000,
            "wall_seconds": compute,
            "entropy": run.entropy * (1 - compute / compute[-1] / 2),
            "truncation_rate": truncation_rate(run, compute),
            "interruption_rate": 0.05,
            "mean_length": 30.0,
        }
    )
    for prefix, truth in truths.items():
        rates = truth.predict(compute)
        if run.collapse_at is not None:
            rates = np.where(compute > run.collapse_at, truth.R_0, rates)
        metrics = metrics.assign(**sampled(rates, prefix, rng))
        if arm in DOWNSTREAM:
            metrics = metrics.assign(**sampled(rates * run.downstream, f"{prefix}downstream_", rng))
    write_parquet(results_dir(config) / "runs" / name / "metrics.parquet", metrics)
    write_parquet(results_dir(config) / "runs" / name / "updates.parquet", update_rows(run, metrics))
    record = {"run": name, "arm": arm, "seed": seed, "method": "rl", "parameters": 10_000, "mismatch": run.mismatch}
    write_json(results_dir(config) / "runs" / name / "run.json", record)
    for prefix, truth in truths.items():
        write_fit(config, run, truth, metrics, prefix)


def truncation_rate(run: Run, compute: np.ndarray) -> np.ndarray:
    """Truncation rate at each compute."""
    onset = np.inf if run.truncates_at is None else run.truncates_at
    return np.where(compute > onset, 0.2, run.truncation)


def update_rows(run: Run, metrics: pd.DataFrame) -> pd.DataFrame:
    """A row per optimiser step between the evaluations of ``metrics``."""
    steps = np.arange(1, metrics.step.iloc[-1] + 1)
    compute = np.interp(steps, metrics.step, metrics.compute)
    pass_rate = np.interp(steps, metrics.step, metrics.pass_rate)
    return pd.DataFrame(
        {
            "step": steps,
            "reward_mean": 2 * pass_rate - 1,
            "pass_rate": pass_rate,
            "staleness_mean": np.minimum(steps - 1, 4.0),
            "staleness_max": np.minimum(steps - 1, 8),
            "active_prompts": 6,
            "pool_size": 48,
            "truncation_rate": truncation_rate(run, compute),
            "interruption_rate": 0.05,
            "mean_length": 30.0,
            "log_ratio_mean": run.mismatch,
            "clip_fraction": 0.01,
            "gradient_norm": 0.5,
            "tokens_generated": 1000,
            "tokens_trained": 800,
            "compute": compute,
            "idle_generator": run.idle_generator * compute,
            "idle_trainer": run.idle_trainer * compute,
        }
    )


def write_fit(config: Config, run: Run, truth: SigmoidFit, metrics: pd.DataFrame, prefix: str) -> None:
    """Forecast and fit of one task of a run; ``prefix`` is that of its columns, "" or "code_"."""
    columns = metrics.compute, metrics[f"{prefix}pass_rate"], metrics[f"{prefix}pass_rate_se"]
    compute, rates, error = (column.to_numpy() for column in columns)
    initial = Initial(truth.R_0, 0.008)
    total = float(compute[-1])
    cutoff = config.fit.fit_fraction * total
    forecast_A = truth.A if prefix or run.forecast_A is None else run.forecast_A
    half = replace(truth, A=forecast_A, points=int((compute <= cutoff).sum()) - 1)
    seen = rates[compute <= cutoff]
    forecast = Forecast(
        cutoff,
        total,
        cutoff,
        cutoff / run.C_mid,
        run.C_mid * 1.2,
        "forecast" if run.granted else "refused",
        "" if run.granted else "the data end too early",
        fitted(half, compute[1:], run.fails),
        {},
        float(seen[-1]),
        float(seen[-5:].mean()),
    )
    first = metrics.iloc[0]
    identity = {"run": first["run"], "arm": first["arm"], "seed": int(first["seed"]), "initial": asdict(initial)}
    identity["task"] = "code" if prefix else "math"
    name = f"{identity['run']}{'_code' if prefix else ''}"
    write_json(results_dir(config) / "forecasts" / f"{name}.json", identity | forecast.to_dict())
    record = identity | {
        "total_compute": total,
        "fitted": asdict(fitted(truth, compute[1:], run.fails)),
        "score": score_forecast(forecast, Curve(compute, rates, error)),
        "windows": [fit.to_dict() for fit in window_fits(run._replace(A=truth.A))],
    }
    write_json(results_dir(config) / "fits" / f"{name}.json", plain(record))


def write_scalerl_results(config: Config, runs: Mapping[str, Run] | None = None, spread: float = 0.004) -> None:
    """Every run of P1; the ceilings of an arm's seeds lie within +-``spread`` of the given one."""
    runs = runs or {}
    for base in config.bases:
        rates = {}
        for prefix, rate in {"": R_0, "code_": CODE_R_0}.items():
            rates |= {f"{prefix}pass_rate": rate, f"{prefix}standard_error": 0.008, f"{prefix}samples": 4096}
            rates |= {
                f"{prefix}downstream_pass_rate": rate / 2,
                f"{prefix}downstream_standard_error": 0.008,
                f"{prefix}downstream_samples": 4096,
            }
        write_json(results_dir(config) / "bases" / base / "evaluation.json", rates)
    for arm, count in config.seeds.items():
        if ARMS[arm].paper != "scalerl":
            continue
        run = runs.get(arm, Run())
        for seed, offset in zip(seeds_of(config, arm), np.linspace(-spread, spread, count), strict=True):
            write_run(config, arm, seed, run._replace(A=run.A + offset, code_A=run.code_A + offset))
    write_ratios(config)


def write_ratios(config: Config, mismatch: Mapping[str, float] | None = None, tokens: int = 3000) -> None:
    """Both sides' log-probabilities of a first batch, of the arms of the camera-ready panels that run.

    Args:
        mismatch: arm -> standard deviation of log rho.
    """
    rng = np.random.default_rng(0)
    for arm in [arm for arm in MEASURED["ratios"] if arm in config.seeds]:
        generator = np.log(rng.uniform(0.05, 1, tokens))
        trainer = generator + (mismatch or {}).get(arm, 1e-3) * rng.standard_normal(tokens)
        table = pd.DataFrame({"generator": generator, "trainer": trainer})
        write_parquet(results_dir(config) / "ratios" / f"{arm}.parquet", table)


def write_geometry_results(config: Config, layers: int = 3, size: int = 32) -> None:
    """Every geometry measurement of P2, of random weights after small (rlvr) and large (sft) updates."""
    generator = torch.Generator().manual_seed(0)
    shapes = {f"self_attn.{name}_proj": (size, size) for name in "qkvo"}
    shapes |= {
        "mlp.gate_proj": (2 * size, size),
        "mlp.up_proj": (2 * size, size),
        "mlp.down_proj": (size, 2 * size),
    }
    base = {
        f"model.layers.{layer}.{name}.weight": (0.03 * torch.randn(shape, generator=generator)).bfloat16().float()
        for layer in range(layers)
        for name, shape in shapes.items()
    }
    base["lm_head.weight"] = torch.randn(16, size, generator=generator).bfloat16().float()
    for run in runs_of(config, ["rlvr", "sft"]):
        scale = 4e-5 if run.startswith("rlvr") else 2e-3
        tuned = {name: w + scale * torch.randn(w.shape, generator=generator) for name, w in base.items()}
        write_geometry(config, run, base, tuned)


def write_geometry(config: Config, run: str, base: dict, tuned: dict, null_draws: int = 2) -> None:
    """What ``rlscape.pipeline.measure_geometry`` writes for one pair of checkpoints."""
    directory = results_dir(config) / "geometry" / run
    for name, tensors in {"base": base, "tuned": tuned}.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        save_file(tensors, directory / name / "model.safetensors")
    settings = GeometrySettings(rank_fraction=0.25, null_draws=null_draws)
    measured = measure_update(directory / "base", directory / "tuned", settings, torch.Generator().manual_seed(0))
    write_parquet(directory / "matrices.parquet", measured.matrices)
    write_parquet(directory / "spectra.parquet", measured.spectra)
    np.savez_compressed(directory / "masks.npz", **measured.masks)
    write_json(directory / "summary.json", measured.summary)
