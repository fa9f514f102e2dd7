"""RL beside SFT at equal size: what is left of a difference once rate, norm, KL or accuracy agree.

Paper: compares the two as published, at learning rates, lengths and bases that differ. Here: from one base, as run
and matched; a model is moved to another norm along its own update, ``W0 + a (W+ - W0)``, or another of its
snapshots is taken.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from scipy.optimize import brentq
from torch import Tensor

from rlscape.geometry.checkpoints import is_linear, measured_among
from rlscape.geometry.measure import BaseMatrix, TunedMatrix
from rlscape.geometry.profiles import describe
from rlscape.geometry.sparsity import UpdateTotals
from rlscape.settings.measurement import GeometrySettings

State = Mapping[str, Tensor]
"""A model's tensors by name."""
SIDES = ("left", "right", "both")
MASKS = ("principal", "low")
LARGEST_SCALE = 64.0
"""Beyond this multiple of an update no match is sought."""
TOLERANCE = 1e-3
"""Relative, of a scale found by bisection."""


def scaled(base: State, tuned: State, scale: float) -> dict[str, Tensor]:
    """``W0 + a (W+ - W0)`` of every tensor, in the dtype of ``base``."""
    return {
        name: (weights.double() + scale * (tuned[name].double() - weights.double())).to(weights.dtype)
        for name, weights in base.items()
    }


def update_norm(base: State, tuned: State) -> float:
    """Frobenius norm of the update of all matrices inside the blocks together."""
    squares = ((tuned[name].double() - base[name].double()).square().sum() for name in base if is_linear(name))
    return math.sqrt(sum(square.item() for square in squares))


def scale_reaching(measure: Callable[[float], float], target: float) -> float:
    """The scale a at which ``measure(a)``, 0 at 0 and growing with a, is ``target``.

    0 for a target that is not positive, NaN if it is not reached by :data:`LARGEST_SCALE`.
    """
    if target <= 0:
        return 0.0
    high = 1.0
    while measure(high) < target:
        high *= 2
        if high > LARGEST_SCALE:
            return math.nan
    return float(brentq(lambda scale: measure(scale) - target, 0.0, high, xtol=TOLERANCE * high, rtol=TOLERANCE))


class Baseline:
    """The measured matrices inside the blocks of one base, whose decompositions every comparison shares."""

    def __init__(self, state: State, settings: GeometrySettings) -> None:
        measured = measured_among(state, settings.block_stride)
        self.matrices = {name: BaseMatrix(state[name].double(), settings) for name in measured}

    def compare(self, tuned: State) -> dict[str, float]:
        """Statistics of one model, over these matrices.

        ``sparsity, x, relative_norm``: of all their entries together. ``nss, largest_angle`` (degrees, the larger
        side), ``efficiency``: means over the matrices. ``energy_<side>_over_chance``: mean ratio.
        ``overlap_<mask>_less_chance`` and ``..._less_binned``: means weighted by the matrices' changed entries.
        ``energy_enrichment_<mask>``: mean. What divides by an update of zero is NaN.
        """
        rows, totals = [], UpdateTotals()
        for name, base in self.matrices.items():
            matrix = TunedMatrix(base, tuned[name].double())
            totals += UpdateTotals.of(base.weights, matrix.weights)
            rows.append(describe(matrix) | {"changed": float(matrix.changed.sum())})
        frame = pd.DataFrame(rows)
        share = frame["changed"] / frame["changed"].sum()
        statistics = {name: totals.summary()[name] for name in ("sparsity", "x", "relative_norm")}
        statistics |= {
            "nss": frame["nss"].mean(),
            "largest_angle": frame["max_angle"].mean(),
            "efficiency": frame["efficiency"].mean(),
        }
        for side in SIDES:
            ratio = frame[f"energy_{side}"] / frame[f"energy_{side}_chance"]
            statistics[f"energy_{side}_over_chance"] = ratio.mean()
        for mask in MASKS:
            for null in ("chance", "binned"):
                excess = frame[f"overlap_{mask}"] - frame[f"overlap_{mask}_{null}"]
                statistics[f"overlap_{mask}_less_{null}"] = (share * excess).sum(min_count=1)
            statistics[f"energy_enrichment_{mask}"] = frame[f"energy_enrichment_{mask}"].mean()
        return {name: float(value) for name, value in statistics.items()}


def nearest(candidates: Mapping[Any, float], target: float) -> Any:
    """The key whose value is nearest to a target, the first of equals."""
    return min(candidates, key=lambda key: abs(candidates[key] - target))
