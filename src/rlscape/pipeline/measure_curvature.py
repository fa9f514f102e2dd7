"""Curvature of a base model along singular and coordinate directions and along what runs added to it.

On the CPU, for small models.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlscape.errors import ConfigError
from rlscape.files import write_parquet
from rlscape.geometry.checkpoints import stream_pair
from rlscape.geometry.curvature import Logits
from rlscape.geometry.curvature import measure_curvature as along_directions
from rlscape.geometry.measure import BaseMatrix
from rlscape.kernels.functions import left_to_torch
from rlscape.models.build import load_decoder
from rlscape.models.checkpoints import speech_of
from rlscape.models.decoder import Decoder
from rlscape.pipeline.entry import run
from rlscape.rl.packing import Packing
from rlscape.settings.measurement import GeometrySettings
from rlscape.settings.run import RunSettings
from rlscape.training.drift import Probe, linear_matrices, probes_of


class _Policy(nn.Module):
    """The logits (T, vocabulary) with which a batch's completion tokens are predicted."""

    def __init__(self, decoder: Decoder, probes: list[Probe]) -> None:
        super().__init__()
        self.decoder = decoder
        ordered = sorted(probes, key=lambda probe: len(probe[1]))
        prompts, completions = [prompt for prompt, _ in ordered], [torch.tensor(ids) for _, ids in ordered]
        self.batch = Packing(prompts, completions, torch.arange(len(ordered)))

    def forward(self) -> Tensor:
        with left_to_torch():
            hidden = self.decoder.weights().hidden_states(self.batch.ids, self.batch.positions, self.batch.attend)
        return hidden[self.batch.sources] @ self.decoder.lm_head.weight.T


def _logits(policy: _Policy) -> Logits:
    return lambda weights: functional_call(policy, {f"decoder.{name}": values for name, values in weights.items()}, ())


def measure_curvature(
    base: Path, models: dict[str, Path], settings: RunSettings, geometry: GeometrySettings, output: Path
) -> None:
    """Write a row per direction.

    Args:
        models: directories of what was made from the base, by name.
        settings: of a run with the problems.

    Raises:
        ConfigError: there are too few validation problems.
    """
    curvature = geometry.curvature
    wanted = curvature.batches * curvature.traces_per_batch
    probes = probes_of(settings.changed(drift_prompts=wanted), speech_of(settings.base, base))
    if len(probes) < wanted:
        raise ConfigError(
            f"geometry.curvature: {curvature.batches} batches of {curvature.traces_per_batch} take {wanted} "
            f"validation problems, but validation_size is {len(probes)}"
        )
    decoder = load_decoder(base)
    updates = {
        name: {tensor: after - before for tensor, before, after in stream_pair(base, directory)}
        for name, directory in models.items()
    }
    matrices = {name: BaseMatrix(values.double(), geometry) for name, values in linear_matrices(decoder).items()}
    measured = along_directions(
        [_logits(_Policy(decoder, probes[start :: curvature.batches])) for start in range(curvature.batches)],
        {name: values.detach() for name, values in decoder.named_parameters()},
        matrices,
        updates,
        curvature,
        torch.Generator().manual_seed(settings.seed),
    )
    write_parquet(output, measured)


if __name__ == "__main__":
    run(measure_curvature)
