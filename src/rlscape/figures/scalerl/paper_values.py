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

TABLE_1: dict[tuple[str, str], Fit] = {
    # (arm, task): Table 1
    ("long_budget", "math"): Fit(A=0.645, B=1.89, C_mid=11272),
    ("generations_8", "math"): Fit(A=0.585, B=2.44, C_mid=2542),
    ("generations_24", "math"): Fit(A=0.590, B=2.22, C_mid=3054),
    ("generations_32", "math"): Fit(A=0.595, B=2.07, C_mid=2936),
    ("moe", "math"): Fit(A=0.710, B=1.65, C_mid=4242),
    ("small_batch", "math"): Fit(A=0.605, B=1.77, C_mid=2818),
    ("large_batch", "math"): Fit(A=0.645, B=1.70, C_mid=10909),
    ("math_and_code", "math"): Fit(A=0.595, B=2.05, C_mid=2896),
    ("math_and_code", "code"): Fit(A=0.615, B=1.09, C_mid=1675),
}

FIG1A: dict[str, Fit] = {
    # legend of Figure 1a: the 8B run of 100,000 GPU-hours at batch 2048, and Scout; B and C_mid from Table 1
    "large_batch": TABLE_1["large_batch", "math"],
    "moe": TABLE_1["moe", "math"],
}
FIG1A_STEPS = {"large_batch": 7400, "moe": 7100}
"""Optimiser steps of these runs (Figure 1a)."""
FIG1B = {"large_batch": 0.58, "moe": 0.67}
"""AIME-24 at the end, read off Figure 1b (Scout: a third party's reading)."""

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

BASELINE = FIG5["baseline"]
"""The one run that is the reference of Figures 4b, 5, 6 and 14."""

FIG4: dict[str, Fit] = {
    # legends of Figures 4a and 4b
    "ppo1": Fit(A=0.520, B=2.15),
    "ppo8": Fit(A=0.520, B=2.65),
    "baseline": BASELINE,
    "pipeline4": Fit(A=0.520, B=4.17),
    "pipeline12": Fit(A=0.490, B=4.97),
}

FIG6: dict[str, Fit] = {
    # legends of Figures 6a and 6b
    "baseline": BASELINE,
    "zero_variance_filter": Fit(A=0.540, B=2.68),
    "no_positive_resampling": Fit(A=0.535, B=3.84),
}

FIG9: dict[str, Fit] = {
    # legend of Figure 9, left
    "scalerl": Fit(A=0.610, B=1.92),
    "long_budget": Fit(A=0.645, B=1.90),
}
FIG9_DOWNSTREAM: dict[str, float] = {"scalerl": 0.54, "long_budget": 0.64}
"""AIME-24 at the end of the runs; a third party's reading of Figure 9, right."""

FIG10: dict[str, Fit] = {
    # legend of Figure 10a
    "small_batch": Fit(A=0.605, B=1.77),
    "scalerl": Fit(A=0.610, B=1.92),
    "large_batch": Fit(A=0.645, B=1.68),
}

FIG14: dict[str, Fit] = {
    # legends of Figures 14a and 14b
    "baseline": BASELINE,
    "prompt_average": Fit(A=0.535, B=2.98),
    "token_average": Fit(A=0.550, B=1.62),
    "batch_norm": Fit(A=0.530, B=3.15),
    "no_norm": Fit(A=0.525, B=3.65),
}

FIG16_ENTROPY: dict[str, tuple[float, float]] = {
    # read off Figure 16: validation entropy at the start and at the end, nats per token
    "scalerl": (0.29, 0.15),
    "large_batch": (0.29, 0.12),
}

FIG17: dict[str, Fit] = {
    # legend of Figure 17a; B from Table 1 (16 generations: ScaleRL)
    "generations_8": Fit(A=0.585, B=2.44),
    "scalerl": Fit(A=0.610, B=1.92),
    "generations_24": Fit(A=0.590, B=2.22),
    "generations_32": Fit(A=0.595, B=2.07),
}

FIG19: dict[str, Fit] = {
    # legend of Figure 19b; the values of Figure 19a are not known
    "cispo_cap_4": Fit(A=0.595, B=2.14),
    "cispo": Fit(A=0.595, B=2.18),
    "cispo_cap_8": Fit(A=0.590, B=2.54),
}

FIG20: dict[str, Fit] = {
    # legend of Figure 20a; of Figure 20b only that the upper clip 5e-3 is slightly better than 4e-3
    "gspo_1e4": Fit(A=0.530, B=nan),
    "gspo": Fit(A=0.575, B=nan),
    "gspo_1e2": Fit(A=0.560, B=nan),
    "gspo_1e1": Fit(A=0.575, B=nan),
}

SEED_SPREAD_A = 0.015
"""Half-range of A over three ScaleRL seeds (Figure 8a)."""

FIG8B: dict[str, Fit] = {
    # Scout with and without the FP32 head, Figure 8b; a third party's reading
    "moe": Fit(A=0.710, B=nan),
    "moe_bf16_head": Fit(A=0.700, B=nan),
}


class LeaveOneOut(NamedTuple):
    """A row of the table beside Figure 7."""

    free: Fit
    shared_A_B: float
    """B with A fixed at :data:`SHARED_A`."""
    C_55: float
    """Compute at a pass rate of 0.55, GPU-hours; derived from the free fit with :data:`R_0`."""


SHARED_A = 0.605
"""The ceiling at which Figure 7 compares steepness."""
FIG7: dict[str, LeaveOneOut] = {
    "scalerl": LeaveOneOut(SCALERL, 2.01, 4100),
    "loo_prompt_norm": LeaveOneOut(Fit(A=0.590, B=2.09, C_mid=2463), 1.82, 4600),
    "loo_length_penalty": LeaveOneOut(Fit(A=0.610, B=1.68, C_mid=2660), 1.75, 4600),
    "loo_batch": LeaveOneOut(Fit(A=0.595, B=1.84, C_mid=2503), 1.69, 4800),
    "loo_ppo8": LeaveOneOut(Fit(A=0.605, B=1.89, C_mid=3409), 1.89, 5800),
    "loo_bf16_head": LeaveOneOut(Fit(A=0.610, B=1.88, C_mid=2857), 1.97, 4700),
    "loo_sample_average": LeaveOneOut(Fit(A=0.600, B=1.93, C_mid=2621), 1.84, 4600),
    "loo_uniform": LeaveOneOut(Fit(A=0.605, B=1.62, C_mid=2621), 1.62, 4900),
    "loo_dapo": LeaveOneOut(Fit(A=0.610, B=1.77, C_mid=3093), 1.83, 5200),
}

FIG11: dict[tuple[str, str], Fit] = {
    # (arm, task): legend of Figure 11
    ("math_only", "math"): Fit(A=0.610, B=1.94),
    ("math_and_code", "math"): TABLE_1["math_and_code", "math"],
    ("math_and_code", "code"): TABLE_1["math_and_code", "code"],
}

SIGMOID_WINDOWS: dict[str, Fit] = {
    # A.7: window in thousands of GPU-hours, of the 8B run of 100,000
    "0–50k": Fit(A=0.645, B=1.70),
    "0–100k": Fit(A=0.655, B=1.56),
    "1.5–50k": Fit(A=0.645, B=1.70),
    "5–50k": Fit(A=0.645, B=1.67),
}
POWER_LAW_WINDOWS: dict[str, Fit] = {
    # A.4, the same run; B not stated. On 30-60k it is said to be right, without a number.
    "1.5–50k": Fit(A=1.0, B=nan),
    "5–50k": Fit(A=0.74, B=nan),
}

TRUNCATION: dict[str, str] = {
    # A.15
    "scalerl": "below 5% in over 90% of steps",
    "large_batch": "at most about 7%",
    "long_budget": "a spike of 4%, then below 2%",
    "moe": "below 2%; below 1% in over 90% of steps",
}
TRUNCATION_AT_COLLAPSE = "10–15%"
"""Truncation rate at which runs of batch 768 became unstable (A.15)."""

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
