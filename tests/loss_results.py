"""Result files on the loss around a base and on model size, from numbers that a test chooses."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from rlscape.catalogue import curved_bases, resolve_run, runs_of
from rlscape.files import write_json, write_parquet
from rlscape.paths import results_dir
from rlscape.settings.scale import Config

KINDS = ("q", "up")
SIZE_ARMS = {"size_1": 5e4, "size_2": 2e5, "size_3": 8e5, "size_4": 3e6, "rlvr": 4e5}
"""Arm -> parameters."""


def write_landscape(config: Config) -> None:
    """A bowl around (1, 1), and two straight paths."""
    shares = np.linspace(-0.25, 1.25, 4)
    grid = pd.DataFrame({"kind": "grid", "a": a, "b": b} for a in shares for b in shares)
    grid["nll"] = 0.05 + (grid["a"] - 1) ** 2 + (grid["b"] - 1) ** 2
    grid["reward"] = np.exp(-5 * grid["nll"])
    paths = [
        pd.DataFrame({"kind": "path", "run": run, "step": [0, 3, 6], "a": a, "b": b, "norm": norm, "in_plane": share})
        for run, a, b, norm, share in (
            ("sft", [0, 0.5, 1], [0, 0.1, 0], [0, 1.0, 2.0], [np.nan, 0.8, 1.0]),
            ("rl", [0, 0.1, 0], [0, 0.5, 1], [0, 0.05, 0.1], [np.nan, 0.6, 1.0]),
        )
    ]
    frame = pd.concat([grid, *paths], ignore_index=True).assign(cosine=0.5)
    write_parquet(results_dir(config) / "geometry" / "landscape.parquet", frame)


def write_curvature(
    config: Config,
    principal: float = 4.0,
    equal_magnitude: float = 2.0,
    batches: int = 6,
    spread: float = 0.02,
    between: float = 0.02,
    reversed_bases: Collection[str] = (),
) -> None:
    """Quotients of every base; block means are ``principal`` (coordinates: ``equal_magnitude``), their root, and 1.

    Isotropic directions have 1, runs 8; batches differ by a factor of log-sd ``spread``, the contrasts of bases by one
    of log-sd ``between``. Fisher over KL: 1 + share / 4.

    Args:
        reversed_bases: their contrasts are the inverse ones.
    """
    for index, base in enumerate(curved_bases(config)):
        factor = np.exp(between * np.random.default_rng(100 + index).standard_normal())
        sign = -1 if base in reversed_bases else 1
        table = _curvature((principal * factor) ** sign, (equal_magnitude * factor) ** sign, batches, spread, index)
        write_parquet(results_dir(config) / "geometry" / f"curvature-{base}.parquet", table)


def _curvature(principal: float, equal_magnitude: float, batches: int, spread: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows: list[dict] = []
    for kind in KINDS:
        tensor = {"tensor": f"model.layers.0.x.{kind}_proj.weight"}
        for i in (1, 2, 5, 8):
            for j in (1, 2, 5, 8):
                inside = (i <= 2) + (j <= 2)
                block = ("off", "mixed", "principal")[inside]
                quotient = principal ** (inside / 2)
                rows.append(tensor | {"direction": "singular", "block": block, "i": i, "j": j, "quotient": quotient})
        for index in range(2):
            for block, quotient in (("principal", equal_magnitude), ("off", 1.0)):
                rows.append(tensor | {"direction": "coordinate", "block": block, "bin": index, "quotient": quotient})
        for name, quotient in {"isotropic": 1.0, "rl": 8.0, "sft": 8.0}.items():
            rows.append(tensor | {"direction": name, "quotient": quotient})
    for name, quotient in {"isotropic": 1.0, "rl": 8.0, "sft": 8.0}.items():
        rows.append({"tensor": "all", "direction": name, "quotient": quotient})
    for name in ("rl", "sft"):
        for share in (1.0, 0.5, 0.25):
            rows.append({"tensor": "all", "direction": name, "scale": share, "half_fisher": 1 + share / 4, "kl": 1.0})
    frames = []
    for batch in range(batches):
        frame = pd.DataFrame(rows).assign(batch=batch)
        frame["quotient"] *= np.exp(spread * rng.standard_normal(len(frame)))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True).astype({name: "Int64" for name in ("i", "j", "bin")})


def write_sizes(
    config: Config,
    slope: float = -0.3,
    last_gain: Mapping[str, float] | None = None,
    steps: Sequence[int] = (0, 10, 20, 30),
    arms: Mapping[str, float] = SIZE_ARMS,
) -> None:
    """Runs whose pass rate rises linearly by ``last_gain`` (default 0.3) and whose x is ``gain * N^slope``.

    NSS is a hundredth of x, sparsity 1 - gain, and M_princ's overlap lies 0.02 below its null.
    """
    for run in runs_of(config, arms):
        arm = run.rpartition("-s")[0]
        parameters = arms[arm]
        gains = np.linspace(0, (last_gain or {}).get(arm, 0.3), len(steps))
        x = gains * parameters**slope
        metrics = pd.DataFrame(
            {"run": run, "step": list(steps), "pass_rate": 0.3 + gains, "x": x, "sparsity": 1 - gains}
        ).assign(compute=np.arange(len(steps)), pass_rate_se=0.01, relative_norm=x / 355)
        write_parquet(results_dir(config) / "runs" / run / "metrics.parquet", metrics)
        record = {"parameters": int(parameters), "settings": resolve_run(config, run).model_dump(mode="json")}
        write_json(results_dir(config) / "runs" / run / "run.json", record)
        over_time = pd.DataFrame(
            {
                "step": step,
                "tensor": f"model.layers.0.x.{kind}_proj.weight",
                "layer": 0,
                "kind": kind,
                "m": 4,
                "n": 4,
                "density": density,
                "overlap_principal": 0.48 + 0.1 * density,
                "overlap_principal_binned": 0.5 + 0.1 * density,
                "nss": x[index] / 100,
            }
            for index, step in enumerate(steps)
            if step
            for kind, density in (("q", 0.25), ("up", 0.75))
        ).astype({"layer": "Int64"})
        write_parquet(results_dir(config) / "geometry" / run / "over_time.parquet", over_time)
