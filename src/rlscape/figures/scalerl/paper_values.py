"""What P1 (arXiv 2510.13786v1) reports, as far as its figures are reproduced here.

Compute is in GB200-hours. NaN: not stated.
"""

from math import nan
from typing import NamedTuple


class Fit(NamedTuple):
    """Parameters of Eq 1 as the paper prints them."""

    A: float
    B: float
    C_mid: float = nan


R_0 = 0.40
"""Pass rate at zero compute. Not stated; every 8B curve of the paper implies about 0.40."""

SCALERL = Fit(A=0.610, B=1.92, C_mid=2542)
"""ScaleRL, 8B: table beside Figure 7, free fit."""

FIG1A_DENSE = Fit(A=0.645, B=1.70)
"""100,000 GPU-hour run of the 8B model, batch 2048 (Figure 1a); B from appendix A.7's fit on 1.5-50k."""
FIG1A_STEPS = 7400
"""Optimiser steps of that run (Figure 1a)."""

FIG2: dict[str, Fit] = {
    # legend of Figure 2
    "deepseek_grpo": Fit(A=0.490, B=1.17),
    "qwen_dapo": Fit(A=0.515, B=1.85),
    "magistral": Fit(A=0.535, B=1.44),
    "minimax": Fit(A=0.610, B=1.77),
    "scalerl": Fit(A=0.610, B=1.97),
}

FIG5: dict[str, Fit] = {
    # legends of Figures 5a and 5b
    "baseline": Fit(A=0.520, B=4.55),
    "gspo": Fit(A=0.590, B=1.80),
    "cispo": Fit(A=0.595, B=2.18),
    "fp32_head": Fit(A=0.610, B=1.79),
}

SEED_SPREAD_A = 0.015
"""Half-range of A over three ScaleRL seeds (Figure 8a)."""

FIG12_B = (1.09, 1.44, 1.92, 2.98, 4.55)
"""Steepness values of Figure 12a. Not stated; here: values that the paper's fits span."""
FIG12_C_MID = (1675, 2542, 4242, 10909)
"""Midpoints of Figure 12b. Not stated; here: values from Table 1 (code, 8B, Scout, batch 2048)."""
FIG13_A = (0.52, 0.56, 0.61, 0.645, 0.71)
"""Ceilings of Figure 13a. Not stated; here: values that the paper's fits span."""
FIG13B_FAST = Fit(A=0.520, B=4.55, C_mid=800)
FIG13B_SLOW = Fit(A=0.610, B=1.79, C_mid=2300)
"""Figure 13b: A and B of Figure 5b's two runs. C_mid not stated; here: chosen so that they cross where
Figure 5b's curves do, near 2,700 GPU-hours."""
