"""Rewards of completions (P1, arXiv 2510.13786)."""

from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from rlscape.settings.recipe import LengthControl, Rewards


def judged(correct: Tensor, rewards: Rewards, seed: tuple[int, ...]) -> Tensor:
    """Which completions are rewarded as correct ones.

    Args:
        correct: boolean, what the verifier says.
        seed: of the coins that random rewards are; the same seed gives the same ones.

    Returns:
        The same shape, boolean.
    """
    match rewards:
        case "verified":
            return correct
        case "random":
            random = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
            coins = torch.rand(correct.shape, generator=random, device="cpu") < 0.5
            return coins.to(correct.device)
        case _:
            assert_never(rewards)


def reward(
    correct: Tensor, length: Tensor, max_tokens: int, length_control: LengthControl, penalty_window: float
) -> Tensor:
    """+1 for a correct completion, -1 for a wrong one, less the length penalty where the recipe has one.

    The penalty is ``clip((L_max - |y|) / L_cache - 1, -1, 0)``, added to correct completions only (P1, Eq 9):
    it falls linearly from 0 to -1 over the last ``L_cache`` tokens of the budget.

    Args:
        correct: any shape, boolean.
        length: the same shape, tokens of each completion.
        max_tokens: ``L_max``, the output budget.
        penalty_window: ``L_cache / L_max``.

    Returns:
        Rewards in [-1, 1], the same shape, float32.
    """
    rewards = 2.0 * correct.float() - 1.0
    match length_control:
        case "penalty":
            penalty = ((max_tokens - length) / (penalty_window * max_tokens) - 1).clamp(-1, 0)
            return rewards + penalty * correct
        case "interruption" | "none":
            return rewards
        case _:
            assert_never(length_control)
