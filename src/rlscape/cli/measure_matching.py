"""Compare an RL run with SFT at equal size: ``python -m rlscape.cli.measure_matching --base DIR --run DIR ...``.

Writes a table, a row per matching and arm:

- ``as_run``: the two final models.
- ``rate``: SFT at RL's learning rate.
- ``norm``: SFT's final model, its update scaled to RL's Frobenius norm over the matrices inside the blocks.
- ``norm_snapshot``: the snapshot of an SFT run whose norm is nearest to RL's.
- ``kl``: SFT's final model, its update scaled to RL's KL(pi_0 || pi).
- ``accuracy``: the snapshot of an SFT run whose pass rate is nearest to RL's final one.
"""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from rlscape.catalogue import RunSettings, parse_run_name
from rlscape.cli.common import fail_clearly, parse_settings, start_logging
from rlscape.config import GeometrySettings
from rlscape.files import write_parquet
from rlscape.geometry.checkpoints import stream_pair
from rlscape.geometry.matching import Baseline, nearest, scale_reaching, scaled, update_norm
from rlscape.geometry.snapshots import read_snapshot, snapshot_steps
from rlscape.models.build import load_decoder
from rlscape.results.files import read_table
from rlscape.rl.drift import Drift, probes_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """A model of one run: one of its snapshots, or its last one moved along its update."""

    arm: str
    step: int
    state: dict[str, Tensor]
    scale: float = 1.0
    pass_rate: float = float("nan")
    """NaN where nobody has measured it."""


def final_point(base: Path, run: Path) -> Point:
    """The final model of a run."""
    last = _pass_rates(run).iloc[[-1]]
    state = {name: after for name, _, after in stream_pair(base, run / "model")}
    return Point(parse_run_name(run.name)[0], int(last.index[0]), state, pass_rate=float(last.iloc[0]))


def snapshot_points(run: Path) -> list[Point]:
    """Every snapshot of a run."""
    file, arm, rates = run / "snapshots.safetensors", parse_run_name(run.name)[0], _pass_rates(run)
    return [Point(arm, step, read_snapshot(file, step), pass_rate=float(rates[step])) for step in snapshot_steps(file)]


def _pass_rates(run: Path) -> pd.Series:
    """Pass rate by step."""
    return read_table(run / "metrics.parquet").set_index("step")["pass_rate"].sort_index()


def match(
    base: dict[str, Tensor], rl: Point, sft: Point, slow_sft: Point, snapshots: list[Point], kl: Callable[[Any], float]
) -> dict[str, Point]:
    """SFT's counterpart of an RL run in every matching.

    Args:
        slow_sft: at RL's learning rate.
        snapshots: of the SFT runs.
        kl: maps a model's tensors to KL(pi_0 || pi).
    """

    def along(scale: float) -> Point:
        return Point(sft.arm, sft.step, scaled(base, sft.state, scale), scale)

    norm = update_norm(base, rl.state)
    by_norm = {index: update_norm(base, point.state) for index, point in enumerate(snapshots)}
    by_rate = {index: point.pass_rate for index, point in enumerate(snapshots)}
    return {
        "as_run": sft,
        "rate": slow_sft,
        "norm": along(norm / update_norm(base, sft.state)),
        "norm_snapshot": snapshots[nearest(by_norm, norm)],
        "kl": along(scale_reaching(lambda scale: kl(scaled(base, sft.state, scale)), kl(rl.state))),
        "accuracy": snapshots[nearest(by_rate, rl.pass_rate)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, type=Path, help="directory of the base model of all three runs")
    parser.add_argument("--run", required=True, type=Path, help="directory of the RL run")
    parser.add_argument("--reference", required=True, type=Path, help="directory of the SFT run")
    parser.add_argument("--matched-rate", required=True, type=Path, help="directory of SFT at RL's learning rate")
    parser.add_argument("--geometry", required=True, help="GeometrySettings as JSON")
    parser.add_argument("--settings", required=True, help="RunSettings of the RL run as JSON (the probes of the KL)")
    parser.add_argument("--output", required=True, type=Path, help="parquet file")
    arguments = parser.parse_args()

    start_logging()
    torch.set_num_threads(1)
    settings = parse_settings(RunSettings, arguments.settings)
    start, model = load_decoder(arguments.base), load_decoder(arguments.base)
    base = {name: weights for name, weights, _ in stream_pair(arguments.base, arguments.base)}
    drift = Drift(start, probes_of(settings))

    def kl(state: dict[str, Tensor]) -> float:
        model.load_state_dict(state)
        return drift.measure(model)["kl_from_start"]

    rl, sft, slow_sft = (
        final_point(arguments.base, run) for run in (arguments.run, arguments.reference, arguments.matched_rate)
    )
    snapshots = snapshot_points(arguments.matched_rate) + snapshot_points(arguments.reference)
    baseline = Baseline(base, parse_settings(GeometrySettings, arguments.geometry))
    rows = []
    for matching, counterpart in match(base, rl, sft, slow_sft, snapshots, kl).items():
        for method, point in {"rl": rl, "sft": counterpart}.items():
            if not point.scale < float("inf"):  # NaN: out of reach
                log.warning("%s: SFT does not get there at any scale of its update; no row", matching)
                continue
            identity = {"matching": matching, "method": method, "arm": point.arm, "seed": settings.seed}
            place = {"step": point.step, "scale": point.scale, "pass_rate": point.pass_rate, "kl": kl(point.state)}
            rows.append(identity | place | baseline.compare(point.state))
            log.info("%s: %s at step %d, scale %.3g", matching, point.arm, point.step, point.scale)
    write_parquet(arguments.output, pd.DataFrame(rows))


if __name__ == "__main__":
    fail_clearly(main)
