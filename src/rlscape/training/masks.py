"""Sparse fine-tuning: which entries of the matrices inside the blocks train (P2, Figure 9, Tables 4 and 5).

Paper (arXiv 2511.08567): whether embedding, norms and head train beside a mask is not stated; it counts parameters
of linear layers only. Here: they are frozen under every mask, "dense" included, so that nothing but the mask differs.

Paper: M_princ covers 50% and M_low 58.59% of the entries, without a reason. Here: the same densities. The rank of
M_princ is that of the geometry settings.
"""

from typing import assert_never

import torch
from torch import Tensor

from rlscape.geometry import masks
from rlscape.geometry.nulls import magnitude_strata
from rlscape.models.decoder import Decoder
from rlscape.settings.measurement import GeometrySettings
from rlscape.settings.training import MaskName

LOW_DENSITY = 0.5859
"""Of M_low (Tables 4 and 5)."""


def trained_entries(weights: Tensor, name: MaskName, settings: GeometrySettings, random: torch.Generator) -> Tensor:
    """The entries of W0 (m, n) that train; bool of its shape.

    Args:
        random: of the random masks: ``random`` is as dense as ``safe``, ``random_half`` as M_princ, and
            ``random_magnitude`` has as many entries of every stratum of magnitude as M_princ.
    """
    weights = weights.double()
    rank = max(1, round(settings.rank_fraction * min(weights.shape)))
    principal = masks.principal_mask(masks.svd(weights), rank, settings.mask_density)
    low = masks.low_mask(weights, LOW_DENSITY)
    noise = torch.rand(weights.shape, generator=random, dtype=torch.float64, device="cpu").to(weights.device)
    match name:
        case "dense":
            return torch.ones_like(principal)
        case "principal":
            return principal
        case "complement":
            return ~principal
        case "low":
            return low
        case "low_complement":
            return ~low
        case "safe":
            return masks.safe_mask(principal, low)
        case "random":
            return masks.top_mask(noise, masks.density(masks.safe_mask(principal, low)))
        case "random_half":
            return masks.top_mask(noise, masks.density(principal))
        case "random_magnitude":
            return _permuted_within(magnitude_strata(weights, settings.stratum_bits), principal, noise)
        case _:
            assert_never(name)


def _permuted_within(bins: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
    """``mask`` with its entries permuted at random within each bin."""
    target = (bins + noise).flatten().argsort()
    source = bins.flatten().argsort(stable=True)
    permuted = torch.empty_like(mask.flatten())
    permuted[target] = mask.flatten()[source]
    return permuted.view_as(mask)


class Restriction:
    """Keeps every entry outside a mask, and every parameter outside the blocks' matrices, bit for bit as it was.

    Frozen parameters get no gradient. The others' gradients are masked before they are clipped, and after a step what
    weight decay did to frozen entries is undone.
    """

    def __init__(self, model: Decoder, name: MaskName, settings: GeometrySettings, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        model.requires_grad_(False)
        self.entries: list[tuple[Tensor, Tensor, Tensor]] = []
        """Parameter, which of its entries train, and its values at the start."""
        for parameter in model.model.layers.parameters():
            if parameter.ndim == 2:
                mask = trained_entries(parameter.detach(), name, settings, random)
                self.entries.append((parameter.requires_grad_(), mask, parameter.detach().clone()))

    def mask_gradients(self) -> None:
        for parameter, mask, _ in self.entries:
            if parameter.grad is not None:
                parameter.grad.mul_(mask)

    @torch.no_grad()
    def restore(self) -> None:
        for parameter, mask, start in self.entries:
            parameter.copy_(torch.where(mask, parameter, start))

    @property
    def share(self) -> float:
        """Trained entries over all entries of the blocks' matrices."""
        return sum(int(mask.sum()) for _, mask, _ in self.entries) / sum(mask.numel() for _, mask, _ in self.entries)
