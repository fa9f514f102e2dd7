"""Hand-computed losses: what each clips, what it averages over, and what they share."""

import math

import pytest
import torch
from pydantic import ValidationError

from rlscape.catalogue.recipes import SCALERL
from rlscape.rl.losses import aggregation_weights, policy_loss

LOSSES = {
    "cispo": SCALERL,
    "dapo": SCALERL.changed(loss="dapo", clip_low=0.2, clip_high=0.26),
    "grpo": SCALERL.changed(loss="grpo", clip_low=0.2, clip_high=0.2),
    "gspo": SCALERL.changed(loss="gspo", clip_low=3e-3, clip_high=4e-3),
}


def loss_and_gradient(recipe, ratios, advantages, sequence_ids=None, weights=None):
    """The loss and its gradient in the log-probabilities, which are all -1."""
    ratios = torch.tensor(ratios, dtype=torch.float64)
    log_probs = torch.full_like(ratios, -1.0).requires_grad_()
    loss, statistics = policy_loss(
        log_probs,
        log_probs.detach() - ratios.log(),
        torch.tensor(advantages, dtype=torch.float64),
        torch.arange(len(ratios)) if sequence_ids is None else torch.tensor(sequence_ids),
        torch.ones_like(ratios) if weights is None else weights,
        recipe,
    )
    loss.backward()
    return loss.item(), log_probs.grad.tolist(), statistics


def test_clipped_token_keeps_its_gradient_under_cispo():
    loss, gradient, statistics = loss_and_gradient(LOSSES["cispo"], [7.0], [2.0])
    assert gradient == pytest.approx([-5.0 * 2.0])  # the cap is absolute: min(rho, 5)
    assert loss == pytest.approx(5.0 * 2.0)  # -(5 * 2 * -1)
    assert statistics.clip_fraction == 1.0


def test_cispo_has_no_lower_clip():
    for advantage in (1.0, -1.0):
        _, gradient, statistics = loss_and_gradient(LOSSES["cispo"], [0.01], [advantage])
        assert gradient == pytest.approx([-0.01 * advantage])
        assert statistics.clip_fraction == 0.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "gradient"),
    [
        (1.5, 1.0, 1.26, 0.0),  # above the upper clip
        (0.5, -1.0, -0.8, 0.0),  # below the lower clip
        (1.5, -1.0, -1.5, -1.5),  # the minimum takes the unclipped side
        (0.5, 1.0, 0.5, 0.5),
        (1.1, 2.0, 2.2, 2.2),  # within the clips
    ],
)
def test_clipped_token_loses_its_gradient_under_dapo(ratio, advantage, objective, gradient):
    loss, slope, statistics = loss_and_gradient(LOSSES["dapo"], [ratio], [advantage])
    assert loss == pytest.approx(-objective)
    assert slope == pytest.approx([-gradient])
    assert statistics.clip_fraction == float(gradient == 0)


def test_grpo_is_dapo_with_its_own_clips():
    assert loss_and_gradient(LOSSES["grpo"], [1.23], [1.0])[:2] == (pytest.approx(-1.2), [0.0])
    assert loss_and_gradient(LOSSES["dapo"], [1.23], [1.0])[:2] == (
        pytest.approx(-1.23),
        pytest.approx([-1.23]),
    )


def test_grpo_with_two_clips_is_refused():
    with pytest.raises(ValidationError, match="make them equal, or take dapo"):
        SCALERL.changed(loss="grpo", clip_low=0.2, clip_high=0.26)


def test_gspo_takes_the_length_root_of_the_sequence_ratio():
    recipe = LOSSES["gspo"].changed(clip_low=0.5, clip_high=0.5)
    ratios, ids = [1.2, 1.1, 0.9, 0.8], [0, 0, 0, 1]
    root = (1.2 * 1.1 * 0.9) ** (1 / 3)
    loss, gradient, statistics = loss_and_gradient(recipe, ratios, [1.0, -2.0], ids)
    assert loss == pytest.approx(-(3 * root - 2 * 0.8))
    # weight one per token: the three tokens share 3 * d root / d log_prob = 3 * root / 3
    assert gradient == pytest.approx([-root, -root, -root, 2 * 0.8])
    assert statistics.clip_fraction == 0.0


def test_gspo_clips_whole_completions():
    ratios, ids = [1.02, 1.0, 0.999, 1.0], [0, 0, 1, 1]
    _, gradient, statistics = loss_and_gradient(LOSSES["gspo"], ratios, [1.0, 1.0], ids)
    assert gradient[:2] == [0.0, 0.0]
    assert all(gradient[2:])
    assert statistics.clip_fraction == 0.5


def test_statistics_report_the_mean_absolute_log_ratio():
    statistics = loss_and_gradient(LOSSES["cispo"], [2.0, 0.5, 1.0], [1.0, 1.0, 1.0])[2]
    assert statistics.log_ratio_mean == pytest.approx(2 / 3 * math.log(2))


# Two prompts, two completions each, of 1 and 3, and of 2 and 6 tokens.
LENGTHS = torch.tensor([1, 3, 2, 6])
PROMPTS = torch.tensor([7, 7, 4, 4])


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("sample", [1 / 4, 1 / 12, 1 / 8, 1 / 24]),
        ("prompt", [1 / 8, 1 / 8, 1 / 16, 1 / 16]),
        ("token", [1 / 12] * 4),
    ],
)
def test_aggregation_weights(aggregation, expected):
    weights = aggregation_weights(LENGTHS, PROMPTS, aggregation)
    torch.testing.assert_close(weights, torch.tensor(expected))
    assert (weights * LENGTHS).sum().item() == pytest.approx(1.0)


def random_batch():
    generator = torch.Generator().manual_seed(0)
    sequence_ids = torch.repeat_interleave(torch.arange(4), LENGTHS)
    log_probs = -torch.rand(12, generator=generator, dtype=torch.float64)
    sampled = log_probs + 0.4 * torch.randn(12, generator=generator, dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64)
    return log_probs, sampled, advantages, sequence_ids


def gradient_of(log_probs, sampled, advantages, sequence_ids, weights, recipe):
    log_probs = log_probs.clone().requires_grad_()
    loss, _ = policy_loss(log_probs, sampled, advantages, sequence_ids, weights, recipe)
    loss.backward()
    return log_probs.grad


@pytest.mark.parametrize("aggregation", ["sample", "prompt", "token"])
def test_on_policy_all_losses_share_one_gradient(aggregation):
    log_probs, _, advantages, ids = random_batch()
    weights = aggregation_weights(LENGTHS, PROMPTS, aggregation).double()[ids]
    for recipe in LOSSES.values():
        gradient = gradient_of(log_probs, log_probs, advantages, ids, weights, recipe)
        torch.testing.assert_close(gradient, -weights * advantages[ids])


@pytest.mark.parametrize("loss", LOSSES)
def test_micro_batches_of_whole_completions_add_up(loss):
    log_probs, sampled, advantages, ids = random_batch()
    weights = aggregation_weights(LENGTHS, PROMPTS, "prompt").double()[ids]
    batch, _ = policy_loss(log_probs, sampled, advantages, ids, weights, LOSSES[loss])
    total = torch.zeros((), dtype=torch.float64)
    for first, part in ((0, ids < 2), (2, ids >= 2)):
        total += policy_loss(
            log_probs[part], sampled[part], advantages[first:], ids[part] - first, weights[part], LOSSES[loss]
        )[0]
    torch.testing.assert_close(total, batch)
