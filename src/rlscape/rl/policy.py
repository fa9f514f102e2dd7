"""Token log-probabilities of a policy, with the head's precision settable."""

import torch.nn.functional as F
from torch import Tensor

from rlscape.models.decoder import Decoder
from rlscape.models.functions import to_bf16_values
from rlscape.rl.packing import Packing
from rlscape.settings import Precision


def head_logits(hidden: Tensor, weight: Tensor, precision: Precision, temperature: float) -> Tensor:
    """Logits from hidden states (..., d) and head weights (vocabulary, d).

    Under ``bf16`` inputs, weights and result are rounded to bf16, as the head of a mixed-precision model does;
    under ``fp32`` everything is computed in fp32 (P1's FP32 head).
    """
    if precision == "bf16":
        return to_bf16_values(F.linear(to_bf16_values(hidden), to_bf16_values(weight))) / temperature
    return F.linear(hidden, weight) / temperature


def completion_log_probs(
    model: Decoder, batch: Packing, chosen: Tensor, precision: Precision, temperature: float
) -> Tensor:
    """Log-probabilities (N,) of those targets of ``batch`` that are marked in ``chosen`` (T,) bool."""
    hidden = model.weights().hidden_states(batch.ids, batch.positions, batch.attend)
    logits = head_logits(hidden[batch.sources[chosen]], model.lm_head.weight, precision, temperature)
    return logits.log_softmax(-1).gather(-1, batch.targets[chosen][:, None])[:, 0]
