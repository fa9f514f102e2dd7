"""Compare an RL run with SFT at equal size, in every matching.

- ``as_run``: the two final models.
- ``rate``: SFT at RL's learning rate.
- ``norm``: SFT's final model, its update scaled to RL's Frobenius norm over the matrices inside the blocks.
- ``norm_snapshot``: the snapshot of an SFT run whose norm is nearest to RL's.
- ``kl``: SFT's final model, its update scaled to RL's KL(pi_0 || pi).
- ``accuracy``: the snapshot of an SFT run whose pass rate is nearest to RL's final one.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from rlscape.files import write_parquet
from rlscape.geometry.checkpoints import stream_pair, stream_weights
from rlscape.geometry.matching import Baseline, nearest, scale_reaching, scaled, update_norm
from rlscape.geometry.snapshots import read_snapshot, snapshot_steps
from rlscape.models.build import load_decoder
from rlscape.models.checkpoints import speech_of
from rlscape.paths import parse_run_name
from rlscape.pipeline.entry import run
from rlscape.results.files import read_table
from rlscape.settings.measurement import GeometrySettings
from rlscape.settings.run import RunSettings
from rlscape.training.drift import Drift, probes_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """A model of one run: one of its snapshots, or its last one moved along its update."""

    arm: str
    step: int
    read: Callable[[], dict[str, Tensor]]
    """Reads its tensors, of which large models have too many to keep those of every point."""
    scale: float = 1.0
    pass_rate: float = float("nan")
    """NaN where nobody has measured it."""

    @property
    def state(self) -> dict[str, Tensor]:
        """Its tensors by name, read or made anew."""
        return self.read()


def final_point(base: Path, run: Path) -> Point:
    """The final model of a run."""
    last = _pass_rates(run).iloc[[-1]]

    def read() -> dict[str, Tensor]:
        return {name: after for name, _, after in stream_pair(base, run / "model")}

    return Point(parse_run_name(run.name)[0], int(last.index[0]), read, pass_rate=float(last.iloc[0]))


def snapshot_points(base: Path, run: Path) -> list[Point]:
    """Every snapshot of a run."""
    directory, arm, rates = run / "snapshots", parse_run_name(run.name)[0], _pass_rates(run)
    return [
        Point(arm, step, partial(read_snapshot, base, directory, step), pass_rate=float(rates[step]))
        for step in snapshot_steps(directory)
    ]


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
        return Point(sft.arm, sft.step, lambda: scaled(base, last, scale), scale)

    last = sft.state
    norm = update_norm(base, rl.state)
    by_norm = {index: update_norm(base, point.state) for index, point in enumerate(snapshots)}
    by_rate = {index: point.pass_rate for index, point in enumerate(snapshots)}
    return {
        "as_run": sft,
        "rate": slow_sft,
        "norm": along(norm / update_norm(base, last)),
        "norm_snapshot": snapshots[nearest(by_norm, norm)],
        "kl": along(scale_reaching(lambda scale: kl(scaled(base, last, scale)), kl(rl.state))),
        "accuracy": snapshots[nearest(by_rate, rl.pass_rate)],
    }


def measure_matching(
    base: Path,
    rl: Path,
    sft: Path,
    sft_at_rl_rate: Path,
    settings: RunSettings,
    geometry: GeometrySettings,
    output: Path,
) -> None:
    """Write a table, a row per matching and method.

    Args:
        base: the model that all three runs started from.
        rl, sft, sft_at_rl_rate: directories of runs; those of SFT have snapshots.
        settings: of the RL run (the probes of the KL).
    """
    model = load_decoder(base)
    weights = dict(stream_weights(base))
    drift = Drift(model, probes_of(settings, speech_of(settings.base, base)))

    def kl(state: dict[str, Tensor]) -> float:
        model.load_state_dict(state)
        return drift.measure(model)["kl_from_start"]

    ours, theirs, slow = (final_point(base, directory) for directory in (rl, sft, sft_at_rl_rate))
    snapshots = [
        point for directory in dict.fromkeys((sft_at_rl_rate, sft)) for point in snapshot_points(base, directory)
    ]
    baseline = Baseline(weights, geometry)
    rows = []
    for matching, counterpart in match(weights, ours, theirs, slow, snapshots, kl).items():
        for method, point in {"rl": ours, "sft": counterpart}.items():
            if not point.scale < float("inf"):  # NaN: out of reach
                log.warning("%s: SFT does not get there at any scale of its update; no row", matching)
                continue
            identity = {"matching": matching, "method": method, "arm": point.arm, "seed": settings.seed}
            state = point.state
            place = {"step": point.step, "scale": point.scale, "pass_rate": point.pass_rate, "kl": kl(state)}
            rows.append(identity | place | baseline.compare(state))
            log.info("%s: %s at step %d, scale %.3g", matching, point.arm, point.step, point.scale)
    write_parquet(output, pd.DataFrame(rows))


if __name__ == "__main__":
    run(measure_matching)
