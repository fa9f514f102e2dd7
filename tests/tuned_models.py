"""A base of a few matrices, and updates of it of known size."""

import torch
from safetensors.torch import save_file

from rlscape.geometry.measure import BaseMatrix, TunedMatrix
from rlscape.geometry.sparsity import HALF_ULP
from rlscape.models.snapshot_files import snapshot_file
from rlscape.settings.measurement import GeometrySettings

SETTINGS = GeometrySettings(rank_fraction=0.25, null_draws=2)
SHAPE = (64, 48)
Q, O = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.o_proj.weight"  # noqa: E741
OTHERS = {"model.norm.weight": (48,), "lm_head.weight": (23, 48)}


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def snapped(*shape: int, seed: int = 0) -> torch.Tensor:
    return (0.05 * gaussian(*shape, seed=seed)).bfloat16().float()


def of_size(x: float, base: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """``noise`` scaled to size x."""
    return x * HALF_ULP * base.double().norm() / noise.norm() * noise


def tuned(base: torch.Tensor, update: torch.Tensor) -> TunedMatrix:
    return TunedMatrix(BaseMatrix(base.double(), SETTINGS), base.double() + update)


def model(seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: snapped(*SHAPE, seed=seed + i) for i, name in enumerate((Q, O))} | {
        name: snapped(*shape, seed=seed + 9) for name, shape in OTHERS.items()
    }


def save(tensors, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: values.contiguous() for name, values in tensors.items()}, file)
    return file


def save_snapshots(base, states, directory):
    """Snapshots of a run from ``base``; ``states``: step -> tensors."""
    for step, state in states.items():
        differences = {name: (values - base[name]).bfloat16() for name, values in state.items()}
        save(differences, snapshot_file(directory, step))
    return directory


def assert_change_kept(found, before, after):
    """Of a tensor that was read from a snapshot: bf16's error of each entry's change, and fp32's of the entry."""
    assert ((found - after).abs() <= 2**-8 * (after - before).abs() + 2**-23 * after.abs()).all()
