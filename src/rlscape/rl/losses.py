"""Policy losses of P1 (arXiv 2510.13786), as pure functions on packed tokens.

A batch is N completions whose T loss-bearing tokens lie end to end: tokens that the policy chose itself,
without prompts, padding or injected text. Every loss is an objective per token; the aggregation is a
weight per token, so that loss = -(weights * objective).sum() and micro-batches of whole completions add up.

Log-probabilities come from outside: the trainer's (with gradient) and the generator's (as sampled), so
that the importance ratio ``rho`` carries staleness and numerical mismatch alike (P1, Eq 2).

A new loss is one function here and its name in :data:`rlscape.settings.recipe.Loss`: a recipe names the function.
"""

from collections.abc import Callable
from typing import NamedTuple, assert_never

import torch
from torch import Tensor

from rlscape.settings.recipe import Aggregation, Loss, Recipe


class Tokens(NamedTuple):
    """What a loss is a function of, beside its recipe: T loss-bearing tokens of whole completions, end to end."""

    log_probs: Tensor
    """(T,) nats, of the trainer's policy, with gradient."""
    log_ratio: Tensor
    """(T,) nats, ``log rho``: less those of the weights that sampled each token; with gradient."""
    advantages: Tensor
    """(T,), each token's completion's."""
    sequence_ids: Tensor
    """(T,) integers, each token's completion in ``0 .. N - 1``."""


Objective = tuple[Tensor, Tensor]
"""Of a loss: what it maximises per token (T,), and which tokens' ratios it clips (T,) bool."""


class LossStatistics(NamedTuple):
    """Means over the tokens of a (micro-)batch."""

    clip_fraction: float
    """Share of tokens whose ratio the loss clips (CISPO: caps; the others: whose gradient is lost)."""
    log_ratio_mean: float
    """Mean ``|log rho|``."""


def cispo(tokens: Tokens, recipe: Recipe) -> Objective:
    """``sg(min(rho, cap)) * A * log pi`` (P1, Eq 4): an absolute cap, no lower clip.

    Every token keeps a gradient, a capped one with the cap as its weight.
    """
    ratio = tokens.log_ratio.exp()
    weight = ratio.detach().clamp(max=recipe.cispo_cap)
    return weight * tokens.advantages * tokens.log_probs, ratio > recipe.cispo_cap


def dapo(tokens: Tokens, recipe: Recipe) -> Objective:
    """``min(rho * A, clip(rho, 1 - clip_low, 1 + clip_high) * A)`` (P1, Eq 3 and 8)."""
    return _clipped(tokens.log_ratio.exp(), tokens.advantages, recipe.clip_low, recipe.clip_high)


def grpo(tokens: Tokens, recipe: Recipe) -> Objective:
    """DAPO's with one clip, on either side (P1, Eq 7): a recipe's ``clip_high`` equals its ``clip_low``."""
    return dapo(tokens, recipe)


def gspo(tokens: Tokens, recipe: Recipe) -> Objective:
    """The clipped objective with one ratio per completion, the geometric mean of its tokens' ratios.

    Paper: ``pi(y | x) / pi_old(y | x)``, without a root. Here: its ``1 / |y|`` power as in arXiv 2507.18071,
    since clips of 1e-3 only make sense with it. The gradient flows through the completion's ratio.
    """
    log_ratio, sequence_ids = tokens.log_ratio, tokens.sequence_ids
    completions = int(sequence_ids.max()) + 1
    lengths = torch.bincount(sequence_ids, minlength=completions).clamp(min=1)
    mean_log_ratio = log_ratio.new_zeros(completions).index_add(0, sequence_ids, log_ratio) / lengths
    return _clipped(mean_log_ratio.exp()[sequence_ids], tokens.advantages, recipe.clip_low, recipe.clip_high)


def _clipped(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Objective:
    """``min(ratio * A, clip(ratio, 1 - low, 1 + high) * A)``; clipped tokens have no gradient."""
    clipped = torch.where(advantages > 0, ratio > 1 + high, (ratio < 1 - low) & (advantages < 0))
    return torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages), clipped


def loss_named(name: Loss) -> Callable[[Tokens, Recipe], Objective]:
    """The function of this module that a recipe names.

    Raises:
        NotImplementedError: there is none.
    """
    if name not in globals():
        raise NotImplementedError(f"Recipe.loss may be {name!r}, but {__name__} has no function {name}: write it")
    return globals()[name]


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
    tokens = Tokens(log_probs, log_ratio, advantages[sequence_ids], sequence_ids)
    objective, clipped = loss_named(recipe.loss)(tokens, recipe)
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
    match aggregation:
        case "sample":
            return 1 / (len(lengths) * lengths)
        case "prompt":
            prompts, index = prompt_ids.unique(return_inverse=True)
            tokens = lengths.new_zeros(len(prompts)).index_add(0, index, lengths)
            return 1 / (len(prompts) * tokens[index])
        case "token":
            return (1 / lengths.sum()).expand(len(lengths))
        case _:
            assert_never(aggregation)
