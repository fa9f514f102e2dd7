"""The same update at another density: moved along itself until a given share of the entries changes in bf16."""

from torch import Tensor

from rlscape.geometry.sparsity import scale_to_density, update_mask

HALF = 0.5
"""Share of entries that change where stripes and preferences are judged, at which they follow the update's size most.
Rows that move twice as far as others differ little in how many of their entries change where few do, or nearly all;
nor do entries of a mask.
Paper: update masks as they are, of models of unequal density. Here: the same update at one density."""


def mask_at_density(base: Tensor, direction: Tensor, density: float) -> Tensor:
    """The update mask of ``base`` moved along ``direction`` until this share of the entries changes."""
    return update_mask(base, base + scale_to_density(base, direction, density) * direction)


def half_mask(base: Tensor, update: Tensor) -> Tensor:
    """The mask of an update moved along itself until :data:`HALF` of the entries change: all that moved, if fewer."""
    moved = (update != 0).double().mean().item()
    return mask_at_density(base, update, min(HALF, moved))
