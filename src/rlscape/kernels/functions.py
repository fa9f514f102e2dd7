"""The compiled elementwise steps and attention as functions with gradients, of fp32 tensors on the CPU.

What they compute is said in :mod:`rlscape.models.functions` and :mod:`rlscape.rl.packing`, which call them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from rlscape.kernels.library import library

_left_to_torch = ContextVar("_left_to_torch", default=False)


@contextmanager
def left_to_torch() -> Iterator[None]:
    """Leave everything to torch's own operations, the only ones that :mod:`torch.func` sees through."""
    token = _left_to_torch.set(True)
    try:
        yield
    finally:
        _left_to_torch.reset(token)


def has_kernels(*arguments: Any) -> bool:
    """Whether the compiled functions take such arguments: fp32 tensors on the CPU, and nothing that stands for one."""
    return (
        library() is not None
        and not _left_to_torch.get()
        and all(isinstance(x, Tensor) and x.dtype == torch.float32 and x.device.type == "cpu" for x in arguments)
    )


def fits_lanes(*sizes: int) -> bool:
    """Whether vectors of these sizes need no padding, as :class:`GatedPerceptron` wants it."""
    compiled = library()
    return compiled is not None and not any(size % compiled.lanes() for size in sizes)


def suits_perceptron(hidden: int, size: int) -> bool:
    """Whether :class:`GatedPerceptron` is for such matrices: no padding, and near enough to the processor.

    It reads them from end to end for every block of rows. Forward and backward of 512 tokens take 0.7 of torch's time
    at 64 x 128, 0.9 at 256 x 768, 1.1 to 1.2 at 576 x 1536 and 1.5 at 1024 x 3072.
    """
    return hidden * size <= 2**18 and fits_lanes(hidden, size)


def _call(name: str, *arguments: Any) -> None:
    values = (argument.data_ptr() if isinstance(argument, Tensor) else argument for argument in arguments)
    getattr(library(), name)(*values)


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        y, scales = torch.empty_like(x), x.new_empty(x.shape[:-1])
        _call("rms_norm", scales.numel(), x.shape[-1], x, weight, epsilon, y, scales)
        ctx.save_for_backward(x, weight, scales)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scales = ctx.saved_tensors
        to_x, to_weight = torch.empty_like(x), torch.zeros_like(weight)
        gradient = gradient.contiguous()
        _call("rms_norm_gradient", scales.numel(), x.shape[-1], x, weight, scales, gradient, to_x, to_weight)
        return to_x, to_weight, None


class GatedPerceptron(torch.autograd.Function):
    """Of x (T, hidden), with gate and up (2 f, hidden) and down (hidden, f)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        x, gate_up, down = x.contiguous(), gate_up.contiguous(), down.contiguous()
        y, gates = torch.empty_like(x), x.new_empty(len(x), len(gate_up))
        _call("perceptron", *x.shape, down.shape[1], x, gate_up.T.contiguous(), down.T.contiguous(), gates, y)
        ctx.save_for_backward(x, gate_up, down, gates)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, gate_up, down, gates = ctx.saved_tensors
        to_x, to_gate_up, to_down = torch.empty_like(x), torch.zeros_like(gate_up), torch.zeros_like(down)
        inputs = (*x.shape, down.shape[1], x, gate_up, down, gates, gradient.contiguous())
        _call("perceptron_gradient", *inputs, to_x, to_gate_up, to_down)
        return to_x, to_gate_up, to_down


class NormRotate(torch.autograd.Function):
    """Heads (T, heads, d), a token's one after the other, normalised by ``weight`` (heads, d) if given, and rotated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, cosine: Tensor, sine: Tensor, epsilon: float) -> Tensor:
        x, y, scales = _heads(x), x.new_empty(x.shape), x.new_empty(x.shape[:-1])
        weight, cosine, sine = weight if weight is None else weight.contiguous(), cosine.contiguous(), sine.contiguous()
        _call("norm_rotate", *x.shape, x, x.stride(0), weight, cosine, sine, epsilon, y, scales)
        ctx.save_for_backward(x, weight, cosine, sine, scales)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        x, weight, cosine, sine, scales = ctx.saved_tensors
        gradient, to_x = gradient.contiguous(), x.new_empty(x.shape)
        to_weight = None if weight is None else torch.zeros_like(weight)
        _call(
            "norm_rotate_gradient",
            *(*x.shape, x, x.stride(0), weight, cosine, sine, scales, gradient, to_x, to_weight),
        )
        return to_x, to_weight, None, None, None


class Attention(torch.autograd.Function):
    """Of packed queries (T, heads, d), keys and values (T, kv_heads, d) to (T, heads * d).

    ``segments`` (n, 4) int64: each one's first row and length, then the same of the rows that all of it sees.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, segments: Tensor) -> Tensor:
        queries, keys, values = _heads(queries), _heads(keys), _heads(values)
        rows, heads, size = queries.shape
        out, (tops, shares) = queries.new_empty(rows, heads * size), queries.new_empty(2, rows, heads)
        shape, columns = (len(segments), segments, rows, heads, *keys.shape[1:]), _columns(keys)
        _call("attention", *shape, *_rows(queries), columns, *_rows(values), out, tops, shares)
        ctx.save_for_backward(queries, keys, columns, values, segments, out, tops, shares)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        queries, keys, columns, values, segments, out, tops, shares = ctx.saved_tensors
        to_queries = queries.new_empty(queries.shape)
        to_keys, to_values = keys.new_zeros(keys.shape), values.new_zeros(values.shape)
        _call(
            "attention_gradient",
            *(len(segments), segments, *queries.shape[:2], *keys.shape[1:]),
            *(*_rows(queries), *_rows(keys), columns, _columns(values), out, tops, shares, gradient.contiguous()),
            *(*_rows(to_queries), *_rows(to_keys), *_rows(to_values)),
        )
        return to_queries, to_keys, to_values, None


def _rows(x: Tensor) -> tuple[Tensor, int]:
    return x, x.stride(0)


def _columns(x: Tensor) -> Tensor:
    """``x`` (T, heads, d) as (heads * d, T), and room for a vector behind it."""
    compiled = library()
    assert compiled is not None
    columns = x.new_empty(x.numel() + compiled.lanes())
    columns[: x.numel()].view(-1, len(x)).copy_(x.flatten(1).T)
    return columns


def _heads(x: Tensor) -> Tensor:
    """``x`` (T, heads, d) with every token's heads one after the other."""
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()
