"""Token log-probabilities of a stock ``transformers`` causal language model, with the head's precision settable."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rlscape.rl.recipes import HeadPrecision

Model = Any
"""A ``transformers`` causal language model: ``.model`` is the backbone, ``.lm_head`` the head."""


def head_logits(hidden: Tensor, weight: Tensor, precision: HeadPrecision, temperature: float) -> Tensor:
    """Logits in fp32 storage from hidden states (..., d) and head weights (vocabulary, d).

    Under ``bf16`` inputs, weights and result are rounded to bf16, as the head of a mixed-precision model does;
    under ``fp32`` everything is computed in fp32 (P1's FP32 head).
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return F.linear(hidden.to(dtype), weight.to(dtype)).float() / temperature


def completion_log_probs(
    model: Model, ids: Tensor, chosen: Tensor, precision: HeadPrecision, temperature: float
) -> Tensor:
    """Log-probabilities (T,) of the tokens marked in ``chosen``, row by row.

    Args:
        ids: (B, L) prompts and completions, padded on the right; causal attention never looks there.
        chosen: (B, L) bool, the tokens that the policy sampled; never True in the first column.
    """
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = head_logits(hidden[:, :-1][chosen[:, 1:]], model.lm_head.weight, precision, temperature)
    return logits.log_softmax(-1).gather(-1, ids[chosen][:, None])[:, 0]
