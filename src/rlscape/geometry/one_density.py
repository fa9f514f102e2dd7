"""The same update at another density: moved along itself until a given share of the entries changes in bf16."""

import torch
from torch import Tensor

from rlscape.geometry.sparsity import scale_to_density, update_mask

HALF = 0.5
"""Share of entries that change where stripes and preferences are judged, at which they follow the update's size most.
Rows that move twice as far as others differ little in how many of their entries change where few do, or nearly all;
nor do entries of a mask.
Paper: update masks as they are, of models of unequal density. Here: the same update at one density."""


TOLERATED = 0.01
"""Error of the density, share of it, from which on ties are broken."""
SPREAD = 0.01
"""Of entries that are tied, relative to their size: enough for fp32, which holds ``base + direction``."""


def mask_at_density(base: Tensor, direction: Tensor, density: float) -> Tensor:
    """The update mask of ``base`` moved along ``direction`` until this share of the entries changes.

    Entries of one size change together, all of those whose weights have the same half-ULP: where that makes the density
    wrong, they change in an order that is drawn at random, the same for every update of one shape.
    """
    changed = _moved(base, direction, density)
    if abs(changed.double().mean().item() - density) <= TOLERATED * density:
        return changed
    order = torch.rand(base.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return _moved(base, direction * (1 + SPREAD * order), density)


def _moved(base: Tensor, direction: Tensor, density: float) -> Tensor:
    return update_mask(base, base + scale_to_density(base, direction, density) * direction)


def half_mask(base: Tensor, update: Tensor) -> Tensor:
    """The mask of an update moved along itself until :data:`HALF` of the entries change: all that moved, if fewer."""
    moved = (update != 0).double().mean().item()
    return mask_at_density(base, update, min(HALF, moved))
