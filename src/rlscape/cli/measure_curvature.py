"""Curvature of a base model along singular and coordinate directions and along what two runs added to it.

``python -m rlscape.cli.measure_curvature --base DIR --rl RUN --sft RUN ...``; on the CPU, for small models.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlscape.catalogue import RunSettings
from rlscape.cli.common import fail_clearly, parse_settings, start_logging
from rlscape.config import GeometrySettings
from rlscape.errors import ConfigError
from rlscape.files import write_parquet
from rlscape.geometry.checkpoints import stream_pair
from rlscape.geometry.curvature import Logits, measure_curvature
from rlscape.geometry.measure import BaseMatrix
from rlscape.models.build import load_decoder
from rlscape.models.decoder import Decoder
from rlscape.rl.drift import Probe, linear_matrices, probes_of
from rlscape.rl.packing import Packing


class _Policy(nn.Module):
    """The logits (T, vocabulary) with which a batch's completion tokens are predicted."""

    def __init__(self, decoder: Decoder, probes: list[Probe]) -> None:
        super().__init__()
        self.decoder = decoder
        ordered = sorted(probes, key=lambda probe: len(probe[1]))
        prompts, completions = [prompt for prompt, _ in ordered], [torch.tensor(ids) for _, ids in ordered]
        self.batch = Packing(prompts, completions, torch.arange(len(ordered)))

    def forward(self) -> Tensor:
        hidden = self.decoder.weights().hidden_states(self.batch.ids, self.batch.positions, self.batch.attend)
        return hidden[self.batch.sources] @ self.decoder.lm_head.weight.T


def _logits(policy: _Policy) -> Logits:
    return lambda weights: functional_call(policy, {f"decoder.{name}": values for name, values in weights.items()}, ())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, type=Path, help="directory of the base model")
    parser.add_argument("--rl", required=True, type=Path, help="directory of a model that RL made from it")
    parser.add_argument("--sft", required=True, type=Path, help="directory of a model that SFT made from it")
    parser.add_argument("--settings", required=True, help="RunSettings as JSON (the problems)")
    parser.add_argument("--geometry", required=True, help="GeometrySettings as JSON")
    parser.add_argument("--output", required=True, type=Path, help="parquet file")
    arguments = parser.parse_args()

    start_logging()
    torch.set_num_threads(1)
    settings = parse_settings(RunSettings, arguments.settings)
    geometry = parse_settings(GeometrySettings, arguments.geometry)
    curvature = geometry.curvature
    wanted = curvature.batches * curvature.traces_per_batch
    probes = probes_of(settings.changed(drift_prompts=wanted))
    if len(probes) < wanted:
        raise ConfigError(
            f"geometry.curvature: {curvature.batches} batches of {curvature.traces_per_batch} take {wanted} "
            f"validation problems, but math.validation_size is {len(probes)}"
        )
    decoder = load_decoder(arguments.base)
    updates = {
        name: {tensor: after - before for tensor, before, after in stream_pair(arguments.base, directory)}
        for name, directory in (("rl", arguments.rl), ("sft", arguments.sft))
    }
    matrices = {name: BaseMatrix(values.double(), geometry) for name, values in linear_matrices(decoder).items()}
    measured = measure_curvature(
        [_logits(_Policy(decoder, probes[start :: curvature.batches])) for start in range(curvature.batches)],
        {name: values.detach() for name, values in decoder.named_parameters()},
        matrices,
        updates,
        curvature,
        torch.Generator().manual_seed(settings.seed),
    )
    write_parquet(arguments.output, measured)


if __name__ == "__main__":
    fail_clearly(main)
