"""Token log-probabilities of a policy, with the head's precision settable."""

from functools import partial
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from rlscape.models.decoder import Decoder
from rlscape.models.functions import Keep, to_bf16_values
from rlscape.rl.packing import Packing
from rlscape.settings.precision import HeadPrecision


def head_logits(hidden: Tensor, weight: Tensor, precision: HeadPrecision, temperature: float) -> Tensor:
    """Logits from hidden states (..., d) and head weights (vocabulary, d).

    Under ``bf16`` inputs, weights and result are rounded to bf16, as the head of a mixed-precision model does;
    under ``fp32`` everything is computed in fp32 (P1's FP32 head); under ``m5`` and so on as under ``bf16``, with so
    many mantissa bits instead of 7.
    """
    keep: Keep
    match precision:
        case "fp32":
            return F.linear(hidden, weight) / temperature
        case "bf16":
            keep = to_bf16_values
        case "m5" | "m3" | "m2" | "m1":
            keep = partial(_round_mantissa, bits=int(precision.removeprefix("m")))
        case _:
            assert_never(precision)
    return keep(F.linear(keep(hidden), keep(weight))) / temperature


def _round_mantissa(x: Tensor, bits: int) -> Tensor:
    """``x`` rounded to the nearest value with so many mantissa bits after the leading one; without gradient."""
    mantissa, exponent = torch.frexp(x)
    steps = 2 ** (bits + 1)
    return torch.ldexp((mantissa * steps).round() / steps, exponent)


def completion_log_probs(
    model: Decoder, batch: Packing, loss_mask: Tensor, precision: HeadPrecision, temperature: float
) -> Tensor:
    """Log-probabilities (N,) of those targets of ``batch`` that ``loss_mask`` (T,) bool selects."""
    hidden = model.weights().hidden_states(batch.ids, batch.positions, batch.attend)
    logits = head_logits(hidden[batch.sources[loss_mask]], model.lm_head.weight, precision, temperature)
    return logits.log_softmax(-1).gather(-1, batch.targets[loss_mask][:, None])[:, 0]
