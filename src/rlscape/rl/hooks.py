"""What may take part in training from outside: it measures or records the policy, or freezes some of its weights."""

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


class Keeper(Protocol):
    """Records the policy: :class:`rlscape.training.snapshots.Snapshots`."""

    def keep(self, model: Decoder, step: int) -> None:
        """At every evaluation after the first; once more, with the same weights, where a killed run goes on."""
        ...
