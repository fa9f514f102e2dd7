"""The order of training prompts: a finite pool, epochs, and No-Positive-Resampling."""

from typing import Any

import numpy as np


class PromptStream:
    """Prompt indices, epoch after epoch, each a fresh permutation of what is left of the pool.

    Args:
        drop_at: No-Positive-Resampling: a prompt whose latest pass rate reached this is left out of later
            epochs; None keeps every prompt (uniform resampling).
    """

    def __init__(self, pool_size: int, drop_at: float | None, random: np.random.Generator) -> None:
        self.drop_at = drop_at
        self.random = random
        self.remaining = list(range(pool_size))
        self.dropped: set[int] = set()
        self.epoch = 0
        self._queue: list[int] = []

    @property
    def pool_size(self) -> int:
        """Prompts that later epochs can draw on."""
        return len(self.remaining) - len(self.dropped)

    def take(self, count: int) -> list[int]:
        """The next ``count`` prompts."""
        taken: list[int] = []
        while len(taken) < count:
            if not self._queue:
                self._start_epoch()
            part = self._queue[: count - len(taken)]
            del self._queue[: len(part)]
            taken += part
        return taken

    def _start_epoch(self) -> None:
        eligible = [prompt for prompt in self.remaining if prompt not in self.dropped]
        # Paper: silent on a pool in which every prompt has been dropped. Here: the whole pool returns, and
        # `pool_size` in updates.parquet shows that it did.
        if not eligible:
            self.dropped.clear()
            eligible = self.remaining
        self._queue = self.random.permutation(eligible).tolist()
        self.epoch += 1

    def record(self, prompt: int, pass_rate: float) -> None:
        """Note the pass rate of a prompt's latest visit."""
        if self.drop_at is not None and pass_rate >= self.drop_at:
            self.dropped.add(prompt)

    def state_dict(self) -> dict[str, Any]:
        return {
            "dropped": sorted(self.dropped),
            "epoch": self.epoch,
            "queue": list(self._queue),
            "random": self.random.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.dropped = set(state["dropped"])
        self.epoch = state["epoch"]
        self._queue = list(state["queue"])
        self.random.bit_generator.state = state["random"]
