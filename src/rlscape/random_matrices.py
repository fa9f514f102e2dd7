"""Random matrices that interventions on models and the nulls of geometry both draw."""

import torch
from torch import Tensor


def haar_orthogonal(size: int, generator: torch.Generator) -> Tensor:
    """A uniformly random orthogonal ``[size, size]`` matrix."""
    return haar_frame(size, size, generator)


def haar_frame(size: int, columns: int, generator: torch.Generator) -> Tensor:
    """The first columns of such a matrix, ``[size, columns]`` (QR of a Gaussian one, signs fixed)."""
    q, r = torch.linalg.qr(torch.randn(size, columns, dtype=torch.float64, generator=generator))
    return q * r.diagonal().sign()
