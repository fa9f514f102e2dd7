"""Grids of quantised weights: put on, as files of quantised models have them, or erased by noise.

A checkpoint that was stored in four bits has few values in each block of a row, and stripes of equal values. What
that does to an update's footprint is seen with a base of which the grid was erased, and with one from scratch that
was put on such a grid.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from rlscape.models.decoder import Decoder

BLOCK = 32
"""Values of a row that are quantised together."""
LEVELS = 16
"""Of Q4_1, whose blocks have a smallest value and a step of their own, both in fp16."""


def in_blocks(model: Decoder) -> Iterator[Tensor]:
    """Every matrix whose rows are whole blocks, as a view (rows, blocks, BLOCK) that writes through."""
    for parameter in model.parameters():
        if parameter.ndim == 2 and parameter.shape[1] % BLOCK == 0:
            yield parameter.detach().view(len(parameter), -1, BLOCK)


@torch.no_grad()
def to_q4_1_(model: Decoder) -> None:
    """Leave in every matrix whose rows are whole blocks, in place, what storing it as GGUF's Q4_1 would leave."""
    for blocks in in_blocks(model):
        lowest, highest = blocks.aminmax(dim=-1, keepdim=True)
        step = (highest - lowest) / (LEVELS - 1)
        level = ((blocks - lowest) / step.where(step > 0, 1)).round()
        blocks.copy_(level * step.half() + lowest.half())


@torch.no_grad()
def dither_(model: Decoder, random: torch.Generator) -> None:
    """Add to every value of a matrix noise that is uniform over one step of its block's grid, in place.

    A step is the smallest difference between two values of a block; a block of equal values stays as it is. So are
    the levels erased, and stripes of equal values with them; every weight's expectation and every block's scale stay.
    """
    for blocks in in_blocks(model):
        noise = torch.rand(blocks.shape, generator=random, dtype=blocks.dtype, device=random.device) - 0.5
        blocks.add_(noise.to(blocks.device) * grid_steps(blocks))


def grid_steps(blocks: Tensor) -> Tensor:
    """Smallest difference (..., 1) between two values of a block (..., BLOCK), beyond rounding; 0 if all are equal."""
    ordered = blocks.sort(-1).values
    gaps = ordered.diff(dim=-1)
    real = gaps > 1e-5 * (ordered[..., -1:] - ordered[..., :1])
    smallest = torch.where(real, gaps, torch.inf).amin(-1, keepdim=True)
    return torch.where(smallest.isinf(), 0.0, smallest)
