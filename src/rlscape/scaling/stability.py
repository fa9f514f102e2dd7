"""When a run counts as collapsed: it falls by the equivalence margin below its running best and stays there."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

COLLAPSE_EVALUATIONS = 3
"""Evaluations in a row, as in the claims register."""


def collapsed(pass_rates: Sequence[float] | pd.Series, margin: float, evaluations: int = COLLAPSE_EVALUATIONS) -> bool:
    """Whether a curve stays at least ``margin`` below its running best for some evaluations in a row.

    False without a positive margin: then there is no rise from which to fall.
    """
    rates = np.asarray(pass_rates)
    below = (rates <= np.maximum.accumulate(rates) - margin) & (margin > 0)
    return any(below[start : start + evaluations].all() for start in range(len(below) - evaluations + 1))
