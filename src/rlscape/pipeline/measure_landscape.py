"""Measure the plane through a base model and two runs.

Per point: the negative log-likelihood per token of the reference traces of validation problems, and the expected
reward that they stand for, the mean probability of the whole trace. That is the pass rate but for answers that are
right after another thought; it takes one forward pass, where a sampled pass rate takes a thousand completions.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from rlscape.files import write_parquet
from rlscape.geometry.landscape import Plane, measure_grid, project_path
from rlscape.geometry.snapshots import read_snapshot, snapshot_steps
from rlscape.models.build import load_decoder
from rlscape.models.checkpoints import speech_of
from rlscape.models.decoder import Decoder
from rlscape.pipeline.entry import run
from rlscape.rl.packing import Packing
from rlscape.rl.policy import completion_log_probs
from rlscape.settings.measurement import GeometrySettings
from rlscape.settings.run import RunSettings
from rlscape.training.drift import Probe, probes_of


def _likelihood(decoder: Decoder, probes: list[Probe]) -> Callable[[dict[str, Tensor]], dict[str, float]]:
    """What :func:`rlscape.geometry.landscape.measure_grid` measures; ``decoder`` is overwritten."""
    ordered = sorted(probes, key=lambda probe: len(probe[1]))
    lengths = [len(completion) for _, completion in ordered]
    prompts, completions = [prompt for prompt, _ in ordered], [torch.tensor(ids) for _, ids in ordered]
    batch = Packing(prompts, completions, torch.arange(len(ordered)))
    every = torch.ones(len(batch.targets), dtype=torch.bool)

    @torch.no_grad()
    def measure(weights: dict[str, Tensor]) -> dict[str, float]:
        decoder.load_state_dict(weights)
        log_probs = completion_log_probs(decoder, batch, every, "fp32", temperature=1.0)
        of_traces = torch.stack([trace.sum() for trace in log_probs.split(lengths)])
        return {"nll": -float(log_probs.mean()), "reward": float(of_traces.exp().mean())}

    return measure


def measure_landscape(
    base: Path, rl: Path, sft: Path, settings: RunSettings, geometry: GeometrySettings, output: Path
) -> None:
    """Write a table: a grid of points, and the paths of both runs.

    Args:
        rl, sft: directories of runs with snapshots.
        settings: of a run with the problems.
    """
    landscape = geometry.landscape
    decoder = load_decoder(base)
    origin = {name: values.clone() for name, values in decoder.state_dict().items()}
    snapshots = {"sft": sft / "snapshots", "rl": rl / "snapshots"}
    steps = {run: snapshot_steps(directory) for run, directory in snapshots.items()}
    plane = Plane(origin, *(read_snapshot(base, snapshots[run], steps[run][-1]) for run in snapshots))
    probes = probes_of(settings.changed(drift_prompts=landscape.traces), speech_of(settings.base, base))
    measure = _likelihood(decoder, probes)

    def models(run: str) -> Iterator[tuple[int, dict[str, Tensor]]]:
        return ((step, read_snapshot(base, snapshots[run], step)) for step in steps[run])

    paths = pd.concat(project_path(plane, models(run)).assign(kind="path", run=run) for run in snapshots)
    grid = measure_grid(plane, measure, landscape, paths).assign(kind="grid")
    write_parquet(output, pd.concat([grid, paths], ignore_index=True).assign(cosine=plane.cosine))


if __name__ == "__main__":
    run(measure_landscape)
