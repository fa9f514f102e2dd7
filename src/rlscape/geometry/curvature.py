"""Curvature of a policy along directions in weight space, on models small enough for it.

P2 takes principal weights for the directions of high curvature and never measures them (section 6.12 of the fact
sheet, claim O14). Here: the Gauss-Newton matrix G of the policy's log-likelihood, which is its Fisher matrix. Along
``v`` it is the variance of the logits' change under the policy itself, averaged over tokens:
``v^T G v = mean_t Var_{y ~ p_t} (J_t v)_y``, with the whole vocabulary.

In one direction of the whole model ``J v`` is exact, by forward-mode differentiation (:func:`form`). In a matrix the
directions are many, and draws g with ``E g g^T = G`` (:func:`draw_gradients`), one backward pass each, serve all of
them at once: ``v^T G v = E (g . v)^2``, every pair of singular vectors and every entry included.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import jvp

from rlscape.geometry import nulls
from rlscape.geometry.measure import BaseMatrix
from rlscape.settings.measurement import CurvatureSettings

Weights = Mapping[str, Tensor]
"""Tensors by name."""
Logits = Callable[[dict[str, Tensor]], Tensor]
"""Weights -> (T, vocabulary) of a fixed batch of tokens; must not write to its argument."""

WHOLE = "all"
"""In the column ``tensor``: a direction in all weights at once."""
SCALES = (1.0, 0.5, 0.25)
"""Of the update on which the Fisher matrix is compared with the divergence (Prop 3.2)."""


def variance(logits: Tensor, change: Tensor) -> Tensor:
    """Mean over tokens of the variance of ``change`` under the policy.

    Args:
        logits: (T, V).
        change: (..., T, V), the logits' derivative along a direction.
    """
    probabilities = logits.softmax(-1)
    mean = (probabilities * change).sum(-1, keepdim=True)
    return (probabilities * (change - mean).square()).sum(-1).mean(-1)


@torch.no_grad()
def form(logits: Logits, weights: Weights, direction: Weights) -> float:
    """``v^T G v`` of a direction in all weights."""
    ordered = {name: direction[name] for name in weights}
    primal, change = jvp(logits, (dict(weights),), (ordered,))[:2]
    return float(variance(primal.double(), change.double()))


@torch.no_grad()
def divergence(logits: Logits, weights: Weights, direction: Weights) -> float:
    """KL(policy at ``weights`` || policy at ``weights + direction``), nats, mean over tokens."""
    before, after = (
        logits(model).double().log_softmax(-1)
        for model in (dict(weights), {name: values + direction[name] for name, values in weights.items()})
    )
    return float((before.exp() * (before - after)).sum(-1).mean())


def draw_gradients(
    logits: Logits, weights: Weights, count: int, generator: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    """Gradients g, of the shapes of ``weights``, with ``E g g^T = G``.

    ``g = J^T c / sqrt(T)``, where c has the covariance ``diag p - p p^T`` of the policy's own choices at every token,
    and tokens are independent.
    """
    leaves = {name: values.detach().requires_grad_() for name, values in weights.items()}
    scores = logits(dict(leaves))
    probabilities = scores.detach().softmax(-1)
    for _ in range(count):
        noise = torch.randn(probabilities.shape, generator=generator, dtype=probabilities.dtype) * probabilities.sqrt()
        change = (noise - probabilities * noise.sum(-1, keepdim=True)) / math.sqrt(len(probabilities))
        gradients = torch.autograd.grad(scores, list(leaves.values()), change, retain_graph=True)
        yield dict(zip(leaves, gradients, strict=True))


class MatrixQuotients:
    """Rayleigh quotients ``v^T G v / |v|^2`` of directions in one matrix, as means over draws g.

    Args:
        updates: (m, n), directions of their own.
    """

    def __init__(self, base: BaseMatrix, updates: Mapping[str, Tensor], settings: CurvatureSettings) -> None:
        self.base, self.settings = base, settings
        self.updates = {name: update.double() for name, update in updates.items() if update.any()}
        rank = len(base.svd.S)
        self.draws = 0
        self.pairs = torch.zeros(rank, rank, dtype=torch.float64)
        """Sum of ``(u_i^T g v_j)^2``."""
        self.entries = torch.zeros_like(base.weights)
        """Sum of ``g^2``."""
        self.along = dict.fromkeys(self.updates, 0.0)
        """Sum of ``(g . v)^2`` of every update v."""

    def add(self, draw: Tensor) -> None:
        """Take one draw g (m, n) into the means."""
        draw = draw.double()
        self.draws += 1
        self.pairs += (self.base.svd.U.T @ draw @ self.base.svd.Vh.T).square()
        self.entries += draw.square()
        for name, update in self.updates.items():
            self.along[name] += float((draw * update).sum().square())

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows with direction, quotient and, where there are such, block, i, j and bin.

        Directions are ``singular``, ``coordinate``, ``isotropic`` (tr G / N) and the names of the updates.
        """
        yield from self._singular()
        yield from self._coordinates()
        yield {"direction": "isotropic", "quotient": float(self.entries.mean()) / self.draws}
        for name, update in self.updates.items():
            yield {"direction": name, "quotient": self.along[name] / float(update.square().sum()) / self.draws}

    def _singular(self) -> Iterator[dict[str, Any]]:
        """Means over all ``u_i v_j^T`` with i and j in groups of neighbours, labelled by their middles, from 1."""
        k, rank = self.base.rank, len(self.base.svd.S)
        groups = [
            group
            for half in (np.arange(k), np.arange(k, rank))
            for group in np.array_split(half, min(self.settings.groups, len(half)) or 1)
            if len(group)
        ]
        for left in groups:
            for right in groups:
                inside = int(left[0] < k) + int(right[0] < k)
                yield {
                    "direction": "singular",
                    "block": ("off", "mixed", "principal")[inside],
                    "i": int(left.mean()) + 1,
                    "j": int(right.mean()) + 1,
                    "quotient": float(self.pairs[left][:, right].mean()) / self.draws,
                }

    def _coordinates(self) -> Iterator[dict[str, Any]]:
        """Means over the entries of one magnitude bin, inside or outside the principal mask.

        Inside a bin the entries of a stratum weigh as much on either side: larger ones are principal more often.
        """
        bins = nulls.magnitude_bins(self.base.weights, self.settings.magnitude_bins)
        sides = {"principal": self.base.masks["principal"], "off": ~self.base.masks["principal"]}
        for index in range(self.settings.magnitude_bins):
            counts = {}
            for block, side in sides.items():
                inside = self.base.bins[side & (bins == index)]
                counts[block] = torch.bincount(inside, minlength=int(self.base.bins.max()) + 1).double()
            common = torch.minimum(*counts.values())
            if not common.any():
                continue
            for block, side in sides.items():
                weight = (common / counts[block].clamp(min=1))[self.base.bins] * (side & (bins == index))
                mean = float((weight * self.entries).sum() / weight.sum())
                yield {"direction": "coordinate", "block": block, "bin": index, "quotient": mean / self.draws}


def measure_curvature(
    batches: Sequence[Logits],
    weights: Weights,
    matrices: Mapping[str, BaseMatrix],
    updates: Mapping[str, Weights],
    settings: CurvatureSettings,
    generator: torch.Generator,
) -> pd.DataFrame:
    """Curvature along directions in every matrix and in the whole model, per batch of tokens.

    Args:
        batches: the policy's logits on disjoint batches.
        weights: where they are differentiated.
        matrices: those of ``weights`` in which directions are taken.
        updates: what runs have added to ``weights``, by name; the whole of each is a direction, too.

    Returns:
        A row per direction and batch: tensor (:data:`WHOLE` for the model), direction, block, i, j, bin, batch,
        quotient. For whole updates also scale, half_fisher ``scale^2 v^T G v / 2`` and kl, the divergence from the
        start to ``scale v``: their ratio tends to 1 as the scale falls (Prop 3.2).
    """
    rows: list[dict[str, Any]] = []
    size = sum(values.numel() for values in weights.values())
    for batch, logits in enumerate(batches):
        quotients = {
            name: MatrixQuotients(base, {run: update[name] for run, update in updates.items()}, settings)
            for name, base in matrices.items()
        }
        trace = 0.0
        for draw in draw_gradients(logits, weights, settings.draws, generator):
            trace += sum(float(part.double().square().sum()) for part in draw.values())
            for name, of_matrix in quotients.items():
                of_matrix.add(draw[name])
        rows += [
            {"tensor": name, "batch": batch} | row for name, of_matrix in quotients.items() for row in of_matrix.rows()
        ]
        whole = {"tensor": WHOLE, "batch": batch}
        rows.append(whole | {"direction": "isotropic", "quotient": trace / settings.draws / size})
        for name, direction in updates.items():
            fisher = form(logits, weights, direction)
            squared = sum(float(part.double().square().sum()) for part in direction.values())
            rows.append(whole | {"direction": name, "quotient": fisher / squared})
            rows += [
                whole
                | {"direction": name, "scale": scale, "half_fisher": scale**2 * fisher / 2}
                | {"kl": divergence(logits, weights, {key: scale * part for key, part in direction.items()})}
                for scale in SCALES
            ]
    columns = ["tensor", "batch", "direction", "block", "i", "j", "bin", "quotient", "scale", "half_fisher", "kl"]
    return pd.DataFrame(rows, columns=columns).astype({name: "Int64" for name in ("i", "j", "bin")})
