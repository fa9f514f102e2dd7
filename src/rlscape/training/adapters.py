"""Low-rank adapters on every linear matrix in the blocks: ``W = W0 + (B A - B0 A0)``, of which only B and A train.

Kinds differ in the start, B0 (m, r) and A0 (r, n), alone:

- ``lora``: A0 random, B0 zero (``peft``);
- ``pissa``: ``B0 = U sqrt(S)``, ``A0 = sqrt(S) V^T`` of the r largest singular values (``peft``);
- ``milora``: the same of the r smallest (arXiv 2406.09044);
- ``subspace``: U and V random orthonormal, with PiSSA's S: factors of its norms without its directions.

Paper (arXiv 2511.08567): states neither scaling, target matrices nor dropout. Here: scaling 1, all linear matrices
in the blocks, no dropout unless an arm says so.

``peft`` and the papers store the residual ``W0 - B0 A0``. Here: W0 and the product ``B0 A0``, which is the same but for
rounding; so an untrained adapter leaves every weight bit for bit as it was. :attr:`Adapted.weight` is the merged
weight, differentiable, so that trainer, generator and evaluator need not know of adapters.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlscape.errors import CheckpointError, ConfigError
from rlscape.models.build import load_decoder, load_model
from rlscape.models.config import MixtureConfig
from rlscape.models.decoder import Decoder, Linear
from rlscape.settings.training import AdapterSettings

Factors = tuple[Tensor, Tensor]
"""A (r, n) and B (m, r), in the order of ``peft``."""


class Adapted(nn.Module):
    """An adapted matrix (m, n), in the place of a :class:`rlscape.models.decoder.Linear`; its bias stays."""

    def __init__(self, matrix: Linear, factors: Factors) -> None:
        super().__init__()
        self.base = nn.Parameter(matrix.weight.detach(), requires_grad=False)
        self.bias = matrix.bias
        self.A, self.B = (nn.Parameter(factor) for factor in factors)
        self.initial: Tensor
        self.register_buffer("initial", (self.B @ self.A).detach())

    @property
    def weight(self) -> Tensor:
        """(m, n) merged."""
        return self.base + (self.B @ self.A - self.initial)


class AdaptedWithDropout(Adapted):
    """While gradients are computed, inputs of the adapter (not those of the residual) are dropped, token by token.

    The state of its random numbers is part of the ``state_dict``: a resumed run draws as an uninterrupted one.
    """

    def __init__(self, matrix: Linear, factors: Factors, rate: float, seed: int) -> None:
        super().__init__(matrix, factors)
        self.rate = rate
        self.random = torch.Generator(self.base.device).manual_seed(seed)

    @property
    def weight(self) -> Any:
        """Merged; under gradients, what ``torch.nn.functional.linear`` takes for a weight."""
        return _Dropped([self]) if torch.is_grad_enabled() else super().weight

    def product(self, x: Tensor) -> Tensor:
        """(T, n) to (T, m): ``x W^T + (dropout(x) - x) (B A)^T``."""
        kept = torch.empty_like(x).bernoulli_(1 - self.rate, generator=self.random) / (1 - self.rate)
        return F.linear(x, super().weight) + F.linear(F.linear(x * kept - x, self.A), self.B)

    def get_extra_state(self) -> Tensor:
        return self.random.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.random.set_state(state)


class _Dropped:
    """Stands for the weights of some matrices, one upon the other, in ``torch.cat`` and ``F.linear``."""

    def __init__(self, matrices: list[AdaptedWithDropout]) -> None:
        self.matrices = matrices

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any, options: Any = None) -> Any:
        if function is torch.cat:
            return cls([matrix for part in arguments[0] for matrix in part.matrices])
        if function is F.linear:
            x, weight, *bias = arguments
            product = torch.cat([matrix.product(x) for matrix in weight.matrices], -1)
            return product if bias in ([], [None]) else product + bias[0]
        return NotImplemented


def attach(base: Path, settings: AdapterSettings, seed: int) -> Decoder:
    """A saved model as the engine runs it, with new adapters, whose A and B alone require a gradient.

    Raises:
        CheckpointError: as :func:`rlscape.models.build.load_decoder`, or the model is a mixture of experts.
        ConfigError: the rank exceeds that of a matrix.
    """
    decoder = load_decoder(base).requires_grad_(False)
    if isinstance(decoder.config, MixtureConfig):
        raise CheckpointError(f"{base}: a mixture of experts; adapters are for dense models")
    matrices = {name: module for name, module in decoder.model.layers.named_modules() if isinstance(module, Linear)}
    largest = min(min(matrix.weight.shape) for matrix in matrices.values())
    if settings.rank > largest:
        raise ConfigError(f"adapter.rank: {settings.rank} exceeds {largest}, the smallest side of a matrix of {base}")
    start, *dropout = np.random.SeedSequence((seed, 3)).generate_state(1 + len(matrices)).tolist()
    factors = _factors(base, settings, start)
    for (name, matrix), matrix_seed in zip(matrices.items(), dropout, strict=True):
        A, B = factors[f"model.layers.{name}"]
        pair = A.to(matrix.weight.device), B.to(matrix.weight.device)
        parent, _, own = name.rpartition(".")
        adapted = (
            AdaptedWithDropout(matrix, pair, settings.dropout, matrix_seed)
            if settings.dropout
            else Adapted(matrix, pair)
        )
        setattr(decoder.model.layers.get_submodule(parent), own, adapted)
    return decoder


@torch.no_grad()
def merge(decoder: Decoder) -> Decoder:
    """A plain decoder in fp32 with the same weights, adapters merged."""
    adapted = {name: module for name, module in decoder.named_modules() if isinstance(module, Adapted)}
    plain = Decoder(decoder.config)
    known = plain.state_dict().keys()
    others = {key: value for key, value in decoder.state_dict().items() if key in known}
    plain.load_state_dict(others | {f"{name}.weight": module.weight for name, module in adapted.items()})
    return plain


def _factors(base: Path, settings: AdapterSettings, seed: int) -> dict[str, Factors]:
    """A0 and B0 of every matrix, by the name of its module; on the CPU, so the same on every device."""
    rank = settings.rank
    with torch.device("cpu"):
        model = load_model(base)
        match settings.kind:
            case "lora":
                return _peft_factors(model, rank, seed, initialisation=True)
            case "pissa":
                return _peft_factors(model, rank, seed, initialisation="pissa")
            case "milora":
                return {name: _smallest_components(weight, rank) for name, weight in _matrices(model)}
            case "subspace":
                generator = torch.Generator().manual_seed(seed)
                return {name: _random_subspace(weight, rank, generator) for name, weight in _matrices(model)}
            case _:
                assert_never(settings.kind)


def _matrices(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.startswith("model.layers."):
            yield name, module.weight.detach()


def _peft_factors(model: nn.Module, rank: int, seed: int, initialisation: Any) -> dict[str, Factors]:
    """As ``peft`` initialises them with ``init_lora_weights=initialisation``."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights=initialisation, target_modules=r"model\.layers\..*_proj"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # peft initialises from the global generator only
        modules: Iterable[tuple[str, Any]] = inject_adapter_in_model(config, model).named_modules()
    return {
        name: (module.lora_A["default"].weight.detach(), module.lora_B["default"].weight.detach())
        for name, module in modules
        if hasattr(module, "lora_A")
    }


def _smallest_components(weight: Tensor, rank: int) -> Factors:
    U, S, V = torch.linalg.svd(weight, full_matrices=False)
    return _split(U[:, -rank:], S[-rank:], V[-rank:])


def _random_subspace(weight: Tensor, rank: int, generator: torch.Generator) -> Factors:
    """The largest singular values of ``weight``, without its directions."""
    m, n = weight.shape
    S = torch.linalg.svd(weight, full_matrices=False).S
    return _split(_orthonormal(m, rank, generator), S[:rank], _orthonormal(n, rank, generator).T)


def _split(U: Tensor, S: Tensor, V: Tensor) -> Factors:
    """``U S V`` as two factors of equal norms."""
    root = S.sqrt()
    return root[:, None] * V, U * root


def _orthonormal(size: int, rank: int, generator: torch.Generator) -> Tensor:
    """Uniformly random orthonormal columns (size, rank): QR of a Gaussian matrix, signs fixed."""
    q, r = torch.linalg.qr(torch.randn(size, rank, generator=generator))
    return q * r.diagonal().sign()
