"""Does an update give back what rounding its base to bf16 took away?

Paper (arXiv 2511.08567): bases are published in bf16. Here: the base of a checkpoint is fine-tuned in fp32 and rounded
before it is trained on, so that an update could be nothing but a repair.
"""

import math
from pathlib import Path

from rlscape.geometry.checkpoints import is_linear, stream_pair, stream_weights


def cosine_to_discarded(base: Path, tuned: Path, discarded: Path) -> float:
    """Cosine of an update with what rounding took from its base, over all matrices inside the blocks.

    0 in expectation where the two have nothing to do with each other, with a standard deviation of one over the square
    root of the number of entries. NaN where either is zero.

    Args:
        discarded: directory with the tensors of ``base``, each the value before rounding less that after.

    Raises:
        CheckpointError: see :func:`rlscape.geometry.checkpoints.stream_pair`.
    """
    product = squares = lost_squares = 0.0
    lost_tensors = stream_weights(discarded)
    for (name, before, after), (lost_name, lost) in zip(stream_pair(base, tuned), lost_tensors, strict=True):
        assert name == lost_name, f"{discarded}: {lost_name} in place of {name}"
        if not is_linear(name):
            continue
        update, lost = after.double() - before.double(), lost.double()
        product += float((update * lost).sum())
        squares += float(update.square().sum())
        lost_squares += float(lost.square().sum())
    return product / math.sqrt(squares * lost_squares) if squares and lost_squares else math.nan
