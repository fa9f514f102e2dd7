"""Hand-computed advantages and rewards."""

import pytest
import torch

from rlscape.rl.advantages import active_prompts, advantages
from rlscape.rl.rewards import judged, reward

REWARDS = torch.tensor([[1.0, -1.0, -1.0, 1.0], [1.0, -1.0, -1.0, -1.0]])
CENTRED = torch.tensor([[1.0, -1.0, -1.0, 1.0], [1.5, -0.5, -0.5, -0.5]])


def test_advantages_are_centred_within_each_prompt():
    torch.testing.assert_close(advantages(REWARDS, "none"), CENTRED)


def test_prompt_normalisation_divides_by_each_prompts_own_standard_deviation():
    # sums of squares 4 and 3, divisor 3
    standard_deviations = torch.tensor([[(4 / 3) ** 0.5], [1.0]])
    torch.testing.assert_close(advantages(REWARDS, "prompt"), CENTRED / standard_deviations)


def test_batch_normalisation_divides_by_one_standard_deviation_of_all_advantages():
    torch.testing.assert_close(advantages(REWARDS, "batch"), CENTRED / (7 / 7) ** 0.5)
    torch.testing.assert_close(advantages(REWARDS[:1], "batch"), CENTRED[:1] / (4 / 3) ** 0.5)


@pytest.mark.parametrize("normalisation", ["prompt", "batch", "none"])
def test_equal_rewards_have_no_advantage(normalisation):
    assert torch.equal(advantages(torch.ones(2, 4), normalisation), torch.zeros(2, 4))


def test_zero_variance_filter_drops_all_correct_and_all_wrong_prompts():
    correct = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 1]])
    assert active_prompts(correct, zero_variance_filter=True).tolist() == [False, False, True]
    assert active_prompts(correct, zero_variance_filter=False).all()


def test_rewards_are_plus_and_minus_one():
    correct = torch.tensor([True, False])
    for length_control in ("interruption", "none"):
        assert reward(correct, torch.tensor([14, 14]), 14, length_control, 1 / 7).tolist() == [1.0, -1.0]


def test_length_penalty_ramps_over_the_last_window_of_correct_completions_only():
    # L_max = 28, L_cache = 4: no penalty up to 24 tokens, -1 at 28
    length = torch.tensor([1, 24, 25, 27, 28, 28])
    correct = torch.tensor([True, True, True, True, True, False])
    expected = torch.tensor([1.0, 1.0, 0.75, 0.25, 0.0, -1.0])
    torch.testing.assert_close(reward(correct, length, 28, "penalty", 1 / 7), expected)


def test_random_rewards_are_fair_coins_that_know_nothing() -> None:
    correct = torch.arange(4000).view(1000, 4) % 4 == 0
    assert torch.equal(judged(correct, "verified", (0,)), correct)
    coins = judged(correct, "random", (0, 4, 7))
    assert torch.equal(coins, judged(~correct, "random", (0, 4, 7)))
    assert not torch.equal(coins, judged(correct, "random", (0, 4, 8)))
    assert coins.float().mean() == pytest.approx(0.5, abs=0.03)
    assert coins[correct].float().mean() == pytest.approx(0.5, abs=0.05)
