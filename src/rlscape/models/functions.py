"""The elementwise steps of a decoder, with gradients written out.

On one core they cost as much as the matrix products when autograd derives them from single operations; each of
these makes about half the passes over memory.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from rlscape.kernels import functions as kernels

Keep = Callable[[Tensor], Tensor]
"""What becomes of every value that a model would store: rounded to bf16, or unchanged."""


def unchanged(x: Tensor) -> Tensor:
    return x


def _normalised(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = norm.square_().mul_(1 / x.shape[-1]).add_(epsilon).rsqrt_()
    return x * scale, scale


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        normalised, scale = _normalised(x, epsilon)
        ctx.save_for_backward(normalised, scale, weight)
        return normalised * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        normalised, scale, weight = ctx.saved_tensors
        product = gradient * normalised
        along = (product * weight).mean(-1, keepdim=True)
        inner = (gradient * weight).addcmul_(normalised, along, value=-1).mul_(scale)
        return inner, product.sum(tuple(range(product.dim() - weight.dim()))), None


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``x / rms(x) * weight`` over the last dimension.

    Args:
        x: (..., d).
        weight: (d,), or any shape that ``x``'s last dimensions have.
    """
    if weight.dim() == 1 and kernels.has_kernels(x, weight):
        return kernels.RMSNorm.apply(x, weight, epsilon)  # type: ignore[no-any-return]
    if not torch.is_grad_enabled():
        return _normalised(x, epsilon)[0].mul_(weight)
    return _RMSNorm.apply(x, weight, epsilon)  # type: ignore[no-any-return]


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    return (x * cosine).addcmul_(x.roll(x.shape[-1] // 2, -1), sine)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _rotated(x, cosine, sine)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _rotated(gradient, cosine, -sine), None, None


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding of ``x`` (T, heads, d) by tables (T, 1, d) from :func:`rotations`."""
    if not torch.is_grad_enabled():
        return _rotated(x, cosine, sine)
    return _Rotate.apply(x, cosine, sine)  # type: ignore[no-any-return]


def norm_rotate(
    x: Tensor, weight: Tensor | None, cosine: Tensor, sine: Tensor, epsilon: float, keep: Keep = unchanged
) -> Tensor:
    """:func:`rms_norm`, unless ``weight`` is None, and :func:`rotate` of ``x`` (T, heads, d); ``keep`` after either."""
    given = (x, cosine, sine) if weight is None else (x, weight, cosine, sine)
    if keep is unchanged and kernels.has_kernels(*given):
        return kernels.NormRotate.apply(x, weight, cosine, sine, epsilon)  # type: ignore[no-any-return]
    if weight is not None:
        x = keep(rms_norm(x, weight, epsilon))
    return keep(rotate(x, cosine, sine))


def rotations(positions: int, dimensions: int, theta: float, scaled: Keep = unchanged) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines, each (positions, 1, dimensions) in fp32; dimension i is paired with i + d/2.

    Args:
        scaled: what becomes of the frequencies (d/2,), in radians per position.
    """
    frequencies = scaled(theta ** -(torch.arange(0, dimensions, 2, dtype=torch.float32) / dimensions))
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)[:, None]
    return torch.cat((angles.cos(), angles.cos()), -1), torch.cat((-angles.sin(), angles.sin()), -1)


class Rotations:
    """Tables of :func:`rotations` that grow when they are needed: few sequences ever have the greatest length.

    Args:
        make: maps a number of positions to tables.
        limit: most positions.
    """

    def __init__(self, make: Callable[[int], tuple[Tensor, Tensor]], limit: int) -> None:
        self.make = make
        self.limit = limit
        self._tables = make(min(limit, 512))

    def upto(self, positions: int) -> tuple[Tensor, Tensor]:
        """Tables of that many positions, or of more.

        Raises:
            IndexError: there are not so many.
        """
        if positions > self.limit:
            raise IndexError(f"position {positions - 1}: the model has max_position_embeddings: {self.limit}")
        if positions > len(self._tables[0]):
            with self._tables[0].device:
                self._tables = self.make(min(self.limit, 2 * positions))
        return self._tables

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (T, 1, dimensions) of the tables at ``positions`` (T,)."""
        complete = len(self._tables[0]) == self.limit
        cosine, sine = self._tables if complete else self.upto(int(positions.max()) + 1)
        return cosine.index_select(0, positions), sine.index_select(0, positions)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        sigmoid = gate.sigmoid()
        silu = gate * sigmoid
        ctx.save_for_backward(up, sigmoid, silu)
        return silu * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        up, sigmoid, silu = ctx.saved_tensors
        result = gradient.new_empty(*gradient.shape[:-1], 2 * gradient.shape[-1])
        to_gate, to_up = result.chunk(2, -1)
        torch.mul(silu, gradient, out=to_up)
        # silu' = sigmoid + silu (1 - sigmoid) = silu + sigmoid (1 - silu)
        torch.lerp(silu, silu.new_ones(()), sigmoid, out=to_gate)
        to_gate.mul_(up).mul_(gradient)
        return result


def swiglu(gate_up: Tensor) -> Tensor:
    """``silu(gate) * up`` of the two halves of the last dimension: (..., 2 d) to (..., d)."""
    if not torch.is_grad_enabled():
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)
    return _SwiGLU.apply(gate_up)  # type: ignore[no-any-return]


def to_bf16_values(x: Tensor) -> Tensor:
    """``x`` rounded to bf16, kept in fp32.

    With inputs, weights and results rounded, an fp32 product is what a bf16 kernel computes, which adds up in fp32.
    Small bf16 kernels are no faster on a CPU, and they fill a cache with a compiled kernel for every shape.
    """
    return x.to(torch.bfloat16).float()
