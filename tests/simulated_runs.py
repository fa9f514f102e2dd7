"""Runs that follow the sigmoid, with binomial noise."""

import numpy as np

from rlscape.scaling.curves import Curve, Initial, positive_error
from rlscape.scaling.sigmoid import sigmoid
from rlscape.scaling.sigmoid_fit import SigmoidFit, fit_least_squares
from rlscape.settings.measurement import FitSettings

# P1 (arXiv 2510.13786), Table 1: C_mid, B, A. R_0 = 0.40 (0.51 for Scout) is what its curves imply.
TABLE_1 = {
    "ScaleRL-32k": (11272, 1.89, 0.645, 0.40),
    "ScaleRL-8gen": (2542, 2.44, 0.585, 0.40),
    "ScaleRL-24gen": (3054, 2.22, 0.590, 0.40),
    "ScaleRL-32gen": (2936, 2.07, 0.595, 0.40),
    "ScaleRL-Scout": (4242, 1.65, 0.710, 0.51),
    "ScaleRL-bs512": (2818, 1.77, 0.605, 0.40),
    "ScaleRL-bs2048": (10909, 1.70, 0.645, 0.40),
    "joint, math": (2896, 2.05, 0.595, 0.40),
    "joint, code": (1675, 1.09, 0.615, 0.40),
}
SAMPLES = 16_000  # 1,000 prompts x 16


def simulate(
    C_mid: float,
    B: float,
    A: float,
    R_0: float,
    rng: np.random.Generator,
    reach: float = 5.0,
    points: int = 75,
    samples: int = SAMPLES,
    first: float = 0.3,
) -> Curve:
    """A run that follows Eq 1 with binomial noise, evaluated evenly from ``first`` to ``reach`` midpoints."""
    compute = np.linspace(first, reach, points) * C_mid
    rate = rng.binomial(samples, sigmoid(compute, A, B, C_mid, R_0)) / samples
    error = np.sqrt(rate * (1 - rate) / samples)
    return Curve(compute, rate, positive_error(rate, error, np.full(points, samples)))


def least_squares(curve: Curve, initial: float) -> SigmoidFit:
    return fit_least_squares(curve.compute, curve.pass_rate, initial, curve.standard_error)


SETTINGS = FitSettings(bootstrap_draws=20)
INITIAL = Initial(0.4, 0.004)
