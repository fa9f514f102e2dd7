"""How ``decoding.cpp`` wants a decoder's weights."""

import ctypes

import torch.nn.functional as F
from torch import Tensor

POINTER, INTEGER = ctypes.c_void_p, ctypes.c_int64


class LayerWeights(ctypes.Structure):
    """Addresses of one layer's tensors."""

    _fields_ = [
        *((name, POINTER) for name in ("qkv", "o", "gate_up", "down", "qkv_bias", "o_bias")),
        *((name, POINTER) for name in ("attention_norm", "mlp_norm", "qk_norm", "cache")),
    ]


class DecoderWeights(ctypes.Structure):
    """Sizes, and addresses of the other tensors."""

    _fields_ = [
        *((name, INTEGER) for name in ("layers", "hidden", "intermediate", "heads", "kv_heads", "size")),
        *((name, INTEGER) for name in ("slots", "pages", "vocabulary", "rounded")),
        ("epsilon", ctypes.c_float),
        *((name, POINTER) for name in ("embedding", "norm", "cosine", "sine")),
        ("layer", ctypes.POINTER(LayerWeights)),
    ]


def padded(size: int, multiple: int) -> int:
    """The least multiple that is no less than ``size``."""
    return -(-size // multiple) * multiple


def panels(weight: Tensor, panel: int) -> Tensor:
    """A matrix (out, in) as (panels, in, panel), outputs filled up with zeros: a panel is read from end to end."""
    outputs = padded(len(weight), panel)
    return F.pad(weight, (0, 0, 0, outputs - len(weight))).view(-1, panel, weight.shape[1]).mT.contiguous()
