"""Token log-probabilities of a policy, with the head's precision settable."""

from functools import partial
from typing import Any, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlscape.models.decoder import Decoder
from rlscape.models.functions import Keep, to_bf16_values
from rlscape.rl.packing import Packing
from rlscape.settings.precision import HeadPrecision

BLOCK = 2**18
"""Entries of (tokens, vocabulary) whose gradients are formed at a time."""


def head_logits(hidden: Tensor, weight: Tensor, precision: HeadPrecision, temperature: float) -> Tensor:
    """Logits from hidden states (..., d) and head weights (vocabulary, d).

    Under ``bf16`` inputs, weights and result are rounded to bf16, as the head of a mixed-precision model does;
    under ``fp32`` everything is computed in fp32 (P1's FP32 head); under ``m5`` and so on as under ``bf16``, with so
    many mantissa bits instead of 7.
    """
    return _head_product(hidden, weight, precision).div_(temperature)


def _head_product(hidden: Tensor, weight: Tensor, precision: HeadPrecision) -> Tensor:
    keep: Keep
    match precision:
        case "fp32":
            return F.linear(hidden, weight)
        case "bf16":
            keep = to_bf16_values
        case "m5" | "m3" | "m2" | "m1":
            keep = partial(_round_mantissa, bits=int(precision.removeprefix("m")))
        case _:
            assert_never(precision)
    return keep(F.linear(keep(hidden), keep(weight)))


def _round_mantissa(x: Tensor, bits: int) -> Tensor:
    """``x`` rounded to the nearest value with so many mantissa bits after the leading one; without gradient."""
    mantissa, exponent = torch.frexp(x)
    steps = 2 ** (bits + 1)
    return torch.ldexp((mantissa * steps).round() / steps, exponent)


class _SelectedLogProbs(torch.autograd.Function):
    """Log-probabilities (T,) of ``targets`` (T,) from logits (T, vocabulary) before they are tempered.

    With a large vocabulary nothing else is as large: the logits' memory holds the log-probabilities, then the gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
        log_probs = torch.log_softmax(logits.div_(temperature), -1, out=logits)
        ctx.save_for_backward(log_probs, targets)
        ctx.temperature = temperature
        return log_probs.gather(-1, targets[:, None])[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        log_probs, targets = ctx.saved_tensors
        rows = max(1, BLOCK // log_probs.shape[1])
        for block, target, of_block in zip(*(x.split(rows) for x in (log_probs, targets, gradient)), strict=True):
            given = torch.zeros_like(block).scatter_(1, target[:, None], of_block[:, None])
            torch._log_softmax_backward_data(given, block, -1, block.dtype, out=block)
        return log_probs.div_(ctx.temperature), None, None


def completion_log_probs(
    model: Decoder, batch: Packing, loss_mask: Tensor, precision: HeadPrecision, temperature: float
) -> Tensor:
    """Log-probabilities (N,) of those targets of ``batch`` that ``loss_mask`` (T,) bool selects."""
    hidden = model.weights().hidden_states(batch.ids, batch.positions, batch.attend)
    logits = _head_product(hidden[batch.sources[loss_mask]], model.lm_head.weight, precision)
    return _SelectedLogProbs.apply(logits, batch.targets[loss_mask], temperature)  # type: ignore[no-any-return]
