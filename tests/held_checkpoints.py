"""Checkpoints held in memory, and isotropic updates of their matrices."""

from pathlib import Path

import torch
from torch import Tensor

from rlscape.geometry.sparsity import HALF_ULP
from rlscape.tools.weights.checkpoint_diff import DiffOptions
from rlscape.tools.weights.checkpoints import Checkpoint, TensorInfo
from rlscape.tools.weights.matrix_diff import compare_matrix
from rlscape.tools.weights.stored_base import Clock, StoredBase

UP = "model.layers.{}.mlp.up_proj.weight"


class Memory(Checkpoint):
    """A checkpoint whose tensors need no files."""

    def __init__(self, name: str, values: dict[str, Tensor]) -> None:
        info = {key: TensorInfo(tuple(v.shape), v.dtype, Path(name), v.nbytes) for key, v in values.items()}
        super().__init__(name, info)
        object.__setattr__(self, "values", values)

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Tensor:
        values: Tensor = self.values[name]  # type: ignore[attr-defined]
        return values if rows is None else values[slice(*rows)]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def base_matrix(m: int, n: int, seed: int) -> Tensor:
    """Gaussian plus a strong component of rank 4, bf16."""
    g = generator(seed)
    strong = torch.randn(m, 4, generator=g) @ torch.randn(4, n, generator=g)
    return (0.02 * torch.randn(m, n, generator=g) + 0.01 * strong).bfloat16()


def isotropic(base: Tensor, x: float, seed: int) -> Tensor:
    """The base after a Gaussian update at this x, float32."""
    step = x * HALF_ULP * base.float().square().mean().sqrt()
    return base.float() + step * torch.randn(base.shape, generator=generator(seed))


def compared(base: Tensor, tuned: Tensor, options: DiffOptions = DiffOptions()) -> dict[str, float]:  # noqa: B008
    found = compare_matrix(StoredBase(base, options, Clock()), tuned)
    assert found is not None
    return found[0]


def isotropic_pair(seed: int, x: float = 0.5, tensors: int = 4) -> tuple[Memory, Memory]:
    base = {UP.format(i): base_matrix(80, 64, 100 * seed + i) for i in range(tensors)}
    tuned = {name: isotropic(base[name], x, 7 + 100 * seed + i).bfloat16() for i, name in enumerate(base)}
    return Memory("base", base), Memory("tuned", tuned)
