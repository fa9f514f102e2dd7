"""Which weights changed, as bf16 sees it (P2, section 2 and Table 1), and how large the update is.

Paper: an entry is unchanged if ``|w+ - w0| <= eta max(|w0|, |w+|)`` with eta = 1e-3 on bf16 values.
Distinct bf16 values differ by at least 2**-8 relative, so this is bitwise equality, except that +0 and -0
count as equal. Here: both are reported, beside the scale-down number ``x = s / (c sigma_w)``, the update's
RMS in units of a typical half-ULP; it alone predicts the sparsity of an isotropic update.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

BF16_BITS = 7
"""Mantissa bits after the leading one."""
TOLERANCE = 1e-3
"""eta of the unchanged test."""
HALF_ULP = 1 / 355
"""c: mean half-ULP of a bf16 number over its magnitude."""


def to_bf16(weights: Tensor) -> Tensor:
    """The bf16 values of fp32 master weights (rounded to nearest even)."""
    return weights.float().bfloat16()


def update_mask(base: Tensor, tuned: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """M: entries that changed in bf16. Both of one shape; returns bool of that shape."""
    before, after = to_bf16(base).float(), to_bf16(tuned).float()
    return (after - before).abs() > tolerance * torch.maximum(before.abs(), after.abs())


def bitwise_update_mask(base: Tensor, tuned: Tensor) -> Tensor:
    """Entries whose bf16 bits changed; differs from :func:`update_mask` in +0 against -0 only."""
    return to_bf16(base).view(torch.int16) != to_bf16(tuned).view(torch.int16)


def scale_to_density(base: Tensor, direction: Tensor, density: float) -> float:
    """The least a > 0 at which ``base + a direction`` differs from ``base`` in bf16 in this share of the entries.

    Raises:
        ValueError: fewer entries of ``direction`` are not zero.
    """
    count = round(density * base.numel())
    if count == 0:
        return 0.0
    rounded = to_bf16(base)
    outward = torch.where(direction > 0, torch.inf, -torch.inf).to(rounded.dtype)
    boundary = (rounded.double() + torch.nextafter(rounded, outward).double()) / 2
    reached = (boundary - base.double()) / direction.double()
    reached = reached.where(direction != 0, torch.inf).flatten().sort().values
    if not reached[count - 1].isfinite():
        raise ValueError(f"the direction moves fewer entries than {density:.3g} of {base.numel()}")
    # On the boundary itself rounding may go either way.
    beyond = reached[count] if count < len(reached) else reached[count - 1] * 2
    return float(reached[count - 1] + min(beyond - reached[count - 1], reached[count - 1]) / 2)


def isotropic_density(x: float) -> float:
    """Expected share of changed entries, ``(2 / pi) arctan x``, for Gaussian W0 and isotropic update.

    Accurate to 0.01.
    """
    return 2 / math.pi * math.atan(x)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


@dataclass(frozen=True)
class UpdateTotals:
    """Sums over the entries of an update; add them to go from matrices to a model."""

    parameters: int = 0
    unchanged: int = 0
    """Entries equal in bf16 by the tolerance test."""
    unchanged_bitwise: int = 0
    exact_zeros: int = 0
    """Entries of the fp32 update that are zero."""
    off_lattice: int = 0
    """Entries of W0 that bf16 cannot represent; zero for a snapped base."""
    update_energy: float = 0.0
    """Squared Frobenius norm of the fp32 update."""
    base_energy: float = 0.0
    """Squared Frobenius norm of W0."""

    @classmethod
    def of(cls, base: Tensor, tuned: Tensor) -> Self:
        """The totals of one pair of tensors of one shape."""
        update = tuned.double() - base.double()
        return cls(
            parameters=base.numel(),
            unchanged=int((~update_mask(base, tuned)).sum()),
            unchanged_bitwise=int((~bitwise_update_mask(base, tuned)).sum()),
            exact_zeros=int((update == 0).sum()),
            off_lattice=int((to_bf16(base).double() != base.double()).sum()),
            update_energy=float(update.square().sum()),
            base_energy=float(base.double().square().sum()),
        )

    def __add__(self, other: "UpdateTotals") -> "UpdateTotals":
        return UpdateTotals(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def relative_norm(self) -> float:
        """Frobenius norm of the update over that of W0."""
        return _ratio(math.sqrt(self.update_energy), math.sqrt(self.base_energy))

    def summary(self) -> dict[str, float]:
        """Shares and ratios, without units; NaN where nothing can be divided by.

        x = s / (c sigma_w), s and sigma_w the RMS of update (``update_rms``) and W0, is ``relative_norm / c``.
        """
        x = self.relative_norm / HALF_ULP
        sparsity = _ratio(self.unchanged, self.parameters)
        return {
            "sparsity": sparsity,
            "sparsity_bitwise": _ratio(self.unchanged_bitwise, self.parameters),
            "density": 1 - sparsity,
            "exact_zero_share": _ratio(self.exact_zeros, self.parameters),
            "x": x,
            "isotropic_sparsity": 1 - isotropic_density(x),
            "relative_norm": self.relative_norm,
            "update_rms": math.sqrt(_ratio(self.update_energy, self.parameters)),
        }


def sparsity_bf16(base: Tensor, tuned: Tensor) -> float:
    """Share of entries that are unchanged in bf16 (P2, Table 1)."""
    return UpdateTotals.of(base, tuned).summary()["sparsity"]
