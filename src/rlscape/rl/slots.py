"""The sequences in flight, a row each: what they have written so far and when they have to stop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slots:
    """S rows of at most L completion tokens; int64 unless stated otherwise.

    Every method treats all fields alike, so that a new field is one line here and one in :meth:`empty`.
    """

    cache_row: Tensor
    """(S,) row of the cache; sequences that have not differed yet share one."""
    next_id: Tensor
    """(S,) the token that the next step reads."""
    position: Tensor
    """(S,) of that token, the prompt included."""
    length: Tensor
    """(S,) completion tokens so far."""
    limit: Tensor
    """(S,) completion tokens at which the sequence ends."""
    thinking: Tensor
    """(S,) bool: no ``</think>`` yet."""
    interrupt_at: Tensor
    """(S,) completion tokens from which on a sequence that still thinks is interrupted."""
    phrase_tokens: Tensor
    """(S,) tokens of the interruption phrase so far."""
    ids: Tensor
    """(S, L) completion tokens."""
    log_probs: Tensor
    """(S, L) float32, of the tokens under the weights that sampled them; 0 where injected."""
    versions: Tensor
    """(S, L) weight version at each token."""
    loss_mask: Tensor
    """(S, L) bool, False for injected tokens."""

    @classmethod
    def empty(cls, slots: int, longest: int) -> Self:
        """Room for ``slots`` sequences of up to ``longest`` completion tokens."""

        def numbers() -> Tensor:
            return torch.zeros(slots, dtype=torch.long)

        return cls(
            cache_row=numbers(),
            next_id=numbers(),
            position=numbers(),
            length=numbers(),
            limit=numbers(),
            thinking=torch.zeros(slots, dtype=torch.bool),
            interrupt_at=numbers(),
            phrase_tokens=numbers(),
            ids=torch.zeros(slots, longest, dtype=torch.long),
            log_probs=torch.zeros(slots, longest),
            versions=torch.zeros(slots, longest, dtype=torch.long),
            loss_mask=torch.zeros(slots, longest, dtype=torch.bool),
        )

    def __len__(self) -> int:
        return len(self.length)

    def __getitem__(self, rows: slice | Tensor) -> Self:
        """Some rows: of a slice views, which write through; of indices copies."""
        return type(self)(**{name: values[rows] for name, values in vars(self).items()})

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Overwrite rows ``targets`` with rows ``sources``."""
        for values in vars(self).values():
            values[targets] = values[sources]

    def state_dict(self) -> dict[str, Tensor]:
        """A copy, by the name of the field."""
        return {name: values.clone() for name, values in vars(self).items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Overwrite every row with those of :meth:`state_dict`, of as many rows."""
        for name, values in vars(self).items():
            values.copy_(state[name])
