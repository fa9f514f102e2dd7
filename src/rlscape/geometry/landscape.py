"""The plane through a base model and two models trained from it: what lies in it, and the ways through it.

P2, Figures 1a and 1b. Paper: cartoons of SFT crossing a mountain and RL taking a detour. Here: a measured slice,
``W0 + a dW_1 + b dW_2`` with the final updates of two runs. Coordinates are shares of each final update, so that
``(1, 0)`` and ``(0, 1)`` are the trained models however much the updates differ in norm; the axes are not at right
angles, and a path is projected orthogonally into the plane, with the share of its displacement that lies in it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from rlscape.errors import CheckpointError
from rlscape.settings.measurement import LandscapeSettings

Weights = Mapping[str, Tensor]
"""A model's tensors by name."""


class Projection(NamedTuple):
    """The foot of a model in a plane."""

    a: float
    """In units of the first update."""
    b: float
    """In units of the second update."""
    norm: float
    """Frobenius norm of the model's whole displacement from the base."""
    in_plane: float
    """Share of its squared norm that lies in the plane; NaN at the base."""


class Plane:
    """All models ``W0 + a dW_1 + b dW_2``.

    Args:
        base: W0, with tensors of the same names and shapes as ``first`` and ``second``.
        first: the model at ``a = 1, b = 0``.
        second: the model at ``a = 0, b = 1``.

    Raises:
        CheckpointError: the three models do not span a plane.
    """

    def __init__(self, base: Weights, first: Weights, second: Weights) -> None:
        self.base = base
        self.updates = [{name: model[name] - values for name, values in base.items()} for model in (first, second)]
        products = [[_inner(one, other) for other in self.updates] for one in self.updates]
        self._gram = torch.tensor(products, dtype=torch.float64)
        if 1 - self.cosine**2 < 1e-6:
            raise CheckpointError("the two updates span no plane: one of them is zero, or they are parallel")

    @property
    def cosine(self) -> float:
        """Of the angle between the two updates; 1 if one of them is zero."""
        norms = self._gram.diagonal().sqrt()
        return float(self._gram[0, 1] / norms.prod()) if norms.all() else 1.0

    @property
    def norms(self) -> tuple[float, float]:
        """Frobenius norms of the two updates."""
        first, second = self._gram.diagonal().sqrt().tolist()
        return first, second

    def at(self, a: float, b: float) -> dict[str, Tensor]:
        """The model at a point."""
        first, second = self.updates
        return {name: values + a * first[name] + b * second[name] for name, values in self.base.items()}

    def project(self, model: Weights) -> Projection:
        """The point of the plane that is nearest to a model."""
        displacement = {name: model[name] - values for name, values in self.base.items()}
        products = torch.tensor([_inner(update, displacement) for update in self.updates], dtype=torch.float64)
        coordinates = torch.linalg.solve(self._gram, products)
        squared = _inner(displacement, displacement)
        in_plane = float(coordinates @ products) / squared if squared else float("nan")
        return Projection(float(coordinates[0]), float(coordinates[1]), squared**0.5, in_plane)


def _inner(first: Weights, second: Weights) -> float:
    return sum(float(first[name].double().flatten() @ second[name].double().flatten()) for name in first)


def measure_grid(
    plane: Plane,
    measure: Callable[[dict[str, Tensor]], dict[str, float]],
    settings: LandscapeSettings,
    paths: pd.DataFrame,
) -> pd.DataFrame:
    """A row per point of a grid that holds all paths: a, b and what ``measure`` says about the model there.

    Args:
        paths: rows of :func:`project_path`. In units of the smaller update the other's path may go far beyond 1.
    """
    of_a, of_b = (
        torch.linspace(settings.low, max(settings.high, 1.05 * paths[axis].max()), settings.points).tolist()
        for axis in ("a", "b")
    )
    return pd.DataFrame({"a": a, "b": b} | measure(plane.at(a, b)) for a in of_a for b in of_b)


def project_path(plane: Plane, models: Iterable[tuple[int, Weights]]) -> pd.DataFrame:
    """A row per (step, model) of a run, the base at step 0 before them: step and :class:`Projection`."""
    start = {"step": 0} | plane.project(plane.base)._asdict()
    return pd.DataFrame([start, *({"step": step} | plane.project(model)._asdict() for step, model in models)])
