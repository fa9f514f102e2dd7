"""A tree of result files made from numbers that a test chooses, in the shape that the pipeline writes."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from rlscape.catalogue import ARMS, runs_of
from rlscape.config import Config, GeometrySettings, load_config
from rlscape.files import write_json, write_parquet
from rlscape.geometry.measure import measure_pair
from rlscape.scaling.curves import Curve, Initial
from rlscape.scaling.fit import SigmoidFit, failed_fit
from rlscape.scaling.forecast import Bands, FittedCurve, Forecast, plain, score_forecast

ROOT = Path(__file__).parents[1]
R_0 = 0.40
TOTAL_COMPUTE = 100.0
SAMPLES = 1024


class Run(NamedTuple):
    """The true curve of a run and what the pipeline made of it."""

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


def small_config(root: Path, seeds: Mapping[str, int] | int = 2) -> Config:
    """The smoke scale with its results and figures below ``root``."""
    config = load_config(ROOT / "config" / "smoke.yaml")
    counts = dict.fromkeys(ARMS, seeds) if isinstance(seeds, int) else dict(seeds)
    return config.changed(results=root / "results", figures=root / "figures", seeds=counts)


def fitted(fit: SigmoidFit, compute: np.ndarray, fails: bool) -> FittedCurve:
    """A fitted curve whose band is +-0.02, or a failed fit."""
    if fails:
        fit, compute = failed_fit(R_0, len(compute), "least_squares", "made to fail"), compute[:0]
    values = fit.predict(compute)
    bands = Bands(*(tuple(column.tolist()) for column in (compute, values, values - 0.02, values + 0.02)))
    names = ("least_squares", "grid", "least_squares_free_initial")
    return FittedCurve(dict.fromkeys(names, fit), {name: (np.nan, np.nan) for name in ("A", "B", "C_mid")}, bands)


def write_run(config: Config, arm: str, seed: int, run: Run, evaluations: int = 24) -> None:
    """metrics.parquet, run.json, forecast and fit of one RL run."""
    rng = np.random.default_rng([seed, sorted(ARMS).index(arm)])
    name = f"{arm}-s{seed}"
    compute = np.linspace(0, TOTAL_COMPUTE, evaluations + 1) * rng.uniform(0.98, 1.02)
    truth = SigmoidFit(run.A, run.B, run.C_mid, R_0, 1.0, evaluations, "least_squares")
    rates = truth.predict(compute)
    if run.collapse_at is not None:
        rates = np.where(compute > run.collapse_at, R_0, rates)
    rates = rng.binomial(SAMPLES, rates) / SAMPLES
    error = np.sqrt(rates * (1 - rates) / SAMPLES)
    metrics = pd.DataFrame(
        {
            "run": name,
            "arm": arm,
            "seed": seed,
            "step": np.arange(evaluations + 1) * 6,
            "compute": compute,
            "flops": compute * 1e9,
            "tokens_generated": 1000,
            "tokens_trained": 1000,
            "wall_seconds": compute,
            "pass_rate": rates,
            "pass_rate_se": error,
            "samples": SAMPLES,
            "downstream_pass_rate": rates / 2,
            "downstream_pass_rate_se": error,
            "entropy": 0.3,
            "truncation_rate": 0.01,
            "mean_length": 30.0,
        }
    )
    write_parquet(config.results_dir / "runs" / name / "metrics.parquet", metrics)
    write_json(config.results_dir / "runs" / name / "run.json", {"run": name, "arm": arm, "mismatch": run.mismatch})

    initial = Initial(R_0, 0.008)
    total = float(compute[-1])
    cutoff = config.fit.fit_fraction * total
    half = SigmoidFit(run.forecast_A or run.A, run.B, run.C_mid, R_0, 1.0, evaluations // 2, "least_squares")
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
    identity = {"run": name, "arm": arm, "seed": seed, "initial": asdict(initial)}
    write_json(config.results_dir / "forecasts" / f"{name}.json", identity | forecast.to_dict())
    score = score_forecast(forecast, Curve(compute, rates, error))
    record = identity | {
        "total_compute": total,
        "fitted": asdict(fitted(truth, compute[1:], run.fails)),
        "score": score,
    }
    write_json(config.results_dir / "fits" / f"{name}.json", plain(record))


def write_scalerl_results(config: Config, runs: Mapping[str, Run] | None = None, spread: float = 0.004) -> None:
    """Every run of P1; the ceilings of an arm's seeds lie within +-``spread`` of the given one."""
    runs = runs or {}
    for base in config.bases:
        rates = {"pass_rate": R_0, "standard_error": 0.008, "samples": 4096}
        write_json(config.results_dir / "bases" / base / "evaluation.json", rates)
    for arm, spec in ARMS.items():
        if spec.paper != "scalerl" or arm not in config.seeds:
            continue
        run = runs.get(arm, Run())
        count = config.seeds[arm]
        for seed, offset in zip(range(count), np.linspace(-spread, spread, count), strict=True):
            write_run(config, arm, seed, run._replace(A=run.A + offset))


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


def write_geometry(config: Config, run: str, base: dict, tuned: dict) -> None:
    """What ``rlscape.cli.measure_geometry`` writes for one pair of checkpoints."""
    directory = config.results_dir / "geometry" / run
    for name, tensors in {"base": base, "tuned": tuned}.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        save_file(tensors, directory / name / "model.safetensors")
    settings = GeometrySettings(rank_fraction=0.25, null_draws=2, magnitude_bins=10)
    measured = measure_pair(directory / "base", directory / "tuned", settings, torch.Generator().manual_seed(0))
    write_parquet(directory / "matrices.parquet", measured.matrices)
    write_parquet(directory / "spectra.parquet", measured.spectra)
    np.savez_compressed(directory / "masks.npz", **measured.masks)
    write_json(directory / "summary.json", measured.summary)
