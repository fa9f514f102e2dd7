"""Curvature of a policy along directions in weight space, exactly, on a model small enough for it.

P2 takes principal weights for the directions of high curvature and never measures them (section 6.12 of the fact
sheet, claim O14). Here: the Gauss-Newton matrix G of the policy's log-likelihood, which is its Fisher matrix. Along
``v`` it is the variance of the logits' change under the policy itself, averaged over tokens:
``v^T G v = mean_t Var_{y ~ p_t} (J_t v)_y``, with the whole vocabulary and ``J v`` by forward-mode differentiation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import jvp, vmap

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
CHUNK = 32
"""Directions that are differentiated together; a limit on memory."""


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
def quotients(logits: Logits, weights: Weights, tensor: str, directions: Tensor) -> Tensor:
    """Rayleigh quotients ``v^T G v / |v|^2`` (D,) of directions (D, m, n) in one tensor (m, n)."""

    def of_tensor(values: Tensor) -> Tensor:
        return logits({**weights, tensor: values})

    def along(direction: Tensor) -> Tensor:
        primal, change = jvp(of_tensor, (weights[tensor],), (direction,))[:2]
        return variance(primal, change)

    return vmap(along, chunk_size=CHUNK)(directions) / directions.square().sum((-2, -1))


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


def _singular(base: BaseMatrix, settings: CurvatureSettings) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """``u_i v_j^T`` for indices spread evenly inside and outside the top k; they count from 1."""
    svd, k = base.svd, base.rank
    halves = ((1, k), (k + 1, len(svd.S)))
    indices = [
        int(index)
        for low, high in halves
        if low <= high
        for index in np.unique(np.linspace(low, high, settings.indices).round())
    ]
    for i in indices:
        for j in indices:
            inside = (i <= k) + (j <= k)
            label = {"direction": "singular", "block": ("off", "mixed", "principal")[inside], "i": i, "j": j}
            yield label, torch.outer(svd.U[:, i - 1], svd.Vh[j - 1])


def _coordinates(
    base: BaseMatrix, settings: CurvatureSettings, generator: torch.Generator
) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Random signs on the entries of one magnitude bin, inside or outside the principal mask.

    The expected quotient is the mean of G's diagonal over these entries.
    """
    bins = nulls.magnitude_bins(base.weights, settings.magnitude_bins)
    for index in range(settings.magnitude_bins):
        for block, mask in (("principal", base.masks["principal"]), ("off", ~base.masks["principal"])):
            entries = mask & (bins == index)
            for _ in range(settings.probes if entries.any() else 0):
                signs = torch.randint(2, entries.shape, generator=generator) * 2 - 1
                yield {"direction": "coordinate", "block": block, "bin": index}, (entries * signs).double()


def matrix_directions(
    base: BaseMatrix, updates: Mapping[str, Tensor], settings: CurvatureSettings, generator: torch.Generator
) -> tuple[pd.DataFrame, Tensor]:
    """Labels (direction, block, i, j, bin) and directions (D, m, n) in one matrix.

    Directions are ``singular``, ``coordinate``, ``isotropic`` (expectation: tr G / N) and the names of ``updates``.
    """
    found = [*_singular(base, settings), *_coordinates(base, settings, generator)]
    for _ in range(settings.isotropic):
        noise = torch.randn(base.weights.shape, generator=generator, dtype=torch.float64)
        found.append(({"direction": "isotropic"}, noise))
    found += [({"direction": name}, update) for name, update in updates.items() if update.any()]
    labels = pd.DataFrame([label for label, _ in found]).reindex(columns=["direction", "block", "i", "j", "bin"])
    return labels, torch.stack([direction.float() for _, direction in found])


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
    frames = []
    for name, base in matrices.items():
        of_matrix = {run: update[name].double() for run, update in updates.items()}
        labels, directions = matrix_directions(base, of_matrix, settings, generator)
        for batch, logits in enumerate(batches):
            values = quotients(logits, weights, name, directions)
            frames.append(labels.assign(tensor=name, batch=batch, quotient=values.double().numpy()))
    noises: list[Weights] = [
        {name: torch.randn(values.shape, generator=generator, dtype=values.dtype) for name, values in weights.items()}
        for _ in range(settings.isotropic)
    ]
    directions_of_whole = [*(("isotropic", noise) for noise in noises), *updates.items()]
    whole: list[dict[str, Any]] = []
    for batch, logits in enumerate(batches):
        for name, direction in directions_of_whole:
            row = {"tensor": WHOLE, "direction": name, "batch": batch}
            squared = sum(float(part.double().square().sum()) for part in direction.values())
            fisher = form(logits, weights, direction)
            whole.append(row | {"quotient": fisher / squared})
            if name in updates:
                whole += [
                    row
                    | {"scale": scale, "half_fisher": scale**2 * fisher / 2}
                    | {"kl": divergence(logits, weights, {key: scale * part for key, part in direction.items()})}
                    for scale in SCALES
                ]
    frame = pd.concat([*frames, pd.DataFrame(whole)], ignore_index=True)
    return frame.astype({name: "Int64" for name in ("i", "j", "bin")})
