"""What may take part in training from outside: it measures the policy, or keeps some of its weights as they are."""

from typing import Protocol

from torch import Tensor

from rlscape.models.decoder import Decoder


class Tracker(Protocol):
    """Measures how far training has moved the policy: :class:`rlscape.training.drift.Drift`."""

    latest: Tensor
    """What the next measurement depends on, beside the policy."""

    def measure(self, model: Decoder) -> dict[str, float]:
        """Columns of ``updates``, after every update."""
        ...

    def size(self, model: Decoder) -> dict[str, float]:
        """Columns of ``metrics``, at every evaluation."""
        ...


class Freezer(Protocol):
    """Keeps some entries of the weights as they are: :class:`rlscape.training.masks.Restriction`."""

    @property
    def share(self) -> float:
        """Trained entries over all."""
        ...

    def mask_gradients(self) -> None:
        """Before gradients are clipped."""
        ...

    def restore(self) -> None:
        """After the optimiser's step."""
        ...
