"""Advantages from a batch's rewards, and the zero-variance filter (P1, arXiv 2510.13786)."""

from typing import assert_never

import torch
from torch import Tensor

from rlscape.settings.recipe import AdvantageNormalisation

EPSILON = 1e-6
"""Added to standard deviations; the paper leaves its value open."""


def advantages(rewards: Tensor, normalisation: AdvantageNormalisation) -> Tensor:
    """``A_i = r_i - mean_j r_j`` within each prompt, divided by a standard deviation.

    - ``prompt``: of the prompt's rewards (GRPO; P1, Eq 5).
    - ``batch``: of all ``A_i`` of the batch (ScaleRL). Paper: "all A_i in the batch". Here: the batch is what
      is passed, and with the zero-variance filter that is the surviving prompts only (the paper's "effective
      batch"), so that the size of a step does not depend on how many prompts were dropped.
    - ``none``: undivided (Dr. GRPO).

    Standard deviations are the sample's (divisor n - 1).

    Args:
        rewards: (P, G), a row per prompt.

    Returns:
        (P, G); zero where all rewards of a prompt are equal.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    match normalisation:
        case "prompt":
            return centred / (rewards.std(dim=1, keepdim=True) + EPSILON)
        case "batch":
            return centred / (centred.std() + EPSILON)
        case "none":
            return centred
        case _:
            assert_never(normalisation)


def active_prompts(correct: Tensor, zero_variance_filter: bool) -> Tensor:
    """Which prompts of a batch an update trains on: all, or those that the zero-variance filter leaves.

    The filter drops a prompt whose completions are all correct or all wrong: it carries no signal. Paper:
    ``0 < mean(r) < 1``, with rewards of +1 and -1. Here: applied to 0/1 correctness, which is what the bounds mean;
    a length penalty does not bring a prompt back.

    Args:
        correct: (P, G), boolean or 0/1.

    Returns:
        (P,) boolean.
    """
    if not zero_variance_filter:
        return torch.ones(len(correct), dtype=torch.bool)
    correct = correct.bool()
    return correct.any(dim=1) & ~correct.all(dim=1)
