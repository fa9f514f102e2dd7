"""Policy losses of P1 (arXiv 2510.13786), as pure functions on packed tokens.

A batch is N completions whose T loss-bearing tokens lie end to end: tokens that the policy chose itself,
without prompts, padding or injected text. Every loss is an objective per token; the aggregation is a
weight per token, so that loss = -(weights * objective).sum() and micro-batches of whole completions add up.

Log-probabilities come from outside: the trainer's (with gradient) and the generator's (as sampled), so
that the importance ratio ``rho`` carries staleness and numerical mismatch alike (P1, Eq 2).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rlscape.settings.recipe import Aggregation, Recipe


class LossStatistics(NamedTuple):
    """Means over the tokens of a (micro-)batch."""

    clip_fraction: float
    """Share of tokens whose ratio the loss clips (CISPO: caps; the others: whose gradient is lost)."""
    log_ratio_mean: float
    """Mean ``|log rho|``."""


def cispo(log_probs: Tensor, ratio: Tensor, advantages: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """``sg(min(rho, cap)) * A * log pi`` (P1, Eq 4): an absolute cap, no lower clip.

    Every token keeps a gradient, a capped one with the cap as its weight. Arguments are
    (T,); returns the objective (T,) and which tokens were capped (T,) boolean.
    """
    weight = ratio.detach().clamp(max=cap)
    return weight * advantages * log_probs, ratio > cap


def dapo(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """``min(rho * A, clip(rho, 1 - clip_low, 1 + clip_high) * A)`` (P1, Eq 3 and 8).

    With symmetric clips it is GRPO's (Eq 7). Arguments are (T,); returns the objective (T,) and which
    tokens were clipped (T,) boolean: these have no gradient.
    """
    clipped = torch.where(advantages > 0, ratio > 1 + clip_high, (ratio < 1 - clip_low) & (advantages < 0))
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages), clipped


def gspo(
    log_ratio: Tensor, advantages: Tensor, sequence_ids: Tensor, clip_low: float, clip_high: float
) -> tuple[Tensor, Tensor]:
    """The clipped objective with one ratio per completion, the geometric mean of its tokens' ratios.

    Paper: ``pi(y | x) / pi_old(y | x)``, without a root. Here: its ``1 / |y|`` power as in arXiv 2507.18071,
    since clips of 1e-3 only make sense with it. The gradient flows through the completion's ratio.

    Arguments are (T,); ``sequence_ids`` (integers) cover whole completions. Returns as :func:`dapo`.
    """
    completions = int(sequence_ids.max()) + 1
    lengths = torch.bincount(sequence_ids, minlength=completions).clamp(min=1)
    mean_log_ratio = log_ratio.new_zeros(completions).index_add(0, sequence_ids, log_ratio) / lengths
    return dapo(mean_log_ratio.exp()[sequence_ids], advantages, clip_low, clip_high)


def policy_loss(
    log_probs: Tensor,
    sampled_log_probs: Tensor,
    advantages: Tensor,
    sequence_ids: Tensor,
    weights: Tensor,
    recipe: Recipe,
) -> tuple[Tensor, LossStatistics]:
    """The loss of a (micro-)batch of whole completions under ``recipe``.

    Args:
        log_probs: (T,) nats, of the trainer's policy, with gradient.
        sampled_log_probs: (T,) nats, of the weights that sampled each token.
        advantages: (N,), one per completion.
        sequence_ids: (T,) integers, each token's completion in ``0 .. N - 1``.
        weights: (T,), each token's share of the batch average, from :func:`aggregation_weights`.
        recipe: the loss and its clips.

    Returns:
        The scalar loss (a sum over tokens: micro-batches add) and its statistics.
    """
    log_ratio = log_probs - sampled_log_probs
    token_advantages = advantages[sequence_ids]
    if recipe.loss == "cispo":
        objective, clipped = cispo(log_probs, log_ratio.exp(), token_advantages, recipe.cispo_cap)
    elif recipe.loss == "gspo":
        objective, clipped = gspo(log_ratio, token_advantages, sequence_ids, recipe.clip_low, recipe.clip_high)
    else:  # dapo and grpo differ in their clips only
        objective, clipped = dapo(log_ratio.exp(), token_advantages, recipe.clip_low, recipe.clip_high)
    statistics = LossStatistics(
        clip_fraction=clipped.float().mean().item(),
        log_ratio_mean=log_ratio.detach().abs().mean().item(),
    )
    return -(weights * objective).sum(), statistics


def aggregation_weights(lengths: Tensor, prompt_ids: Tensor, aggregation: Aggregation) -> Tensor:
    """The weight of each token of each completion in the average over a batch (P1, section 2).

    - ``sample``: mean over a completion's tokens, then over completions.
    - ``prompt``: mean over all tokens of a prompt's completions, then over prompts.
    - ``token``: mean over all tokens of the batch.

    The weights of all tokens sum to one. What is passed is what is averaged over: with the zero-variance
    filter only the surviving completions, without it all of them.

    Args:
        lengths: (N,) integers, loss-bearing tokens of each completion.
        prompt_ids: (N,), any integers, equal for completions of one prompt.

    Returns:
        (N,), to be indexed by ``sequence_ids``.
    """
    if aggregation == "sample":
        return 1 / (len(lengths) * lengths)
    if aggregation == "token":
        return (1 / lengths.sum()).expand(len(lengths))
    prompts, index = prompt_ids.unique(return_inverse=True)
    tokens = lengths.new_zeros(len(prompts)).index_add(0, index, lengths)
    return 1 / (len(prompts) * tokens[index])
