"""Held-out evaluation: complete, reproducible, with an honest standard error."""

import numpy as np
import pytest

from rlscape.rl import evaluate as module
from rlscape.rl.evaluate import Evaluator, evaluation_steps, standard_error
from rlscape.settings.training import EvaluationSettings, RLSettings
from rlscape.tasks.math import MathSettings, make_sets
from tests.test_rollout import make_model

pytestmark = pytest.mark.training

RL = RLSettings(steps=2, learning_rate=1e-3, warmup_steps=0, thinking_tokens=12, answer_tokens=4)
SETS = {
    "": make_sets(
        MathSettings(
            operations=(1, 3), downstream_operations=(4, 5), pool_size=10, validation_size=9, downstream_size=5
        )
    )
}


SETTINGS = EvaluationSettings(evaluations=2, prompts=9, samples_per_prompt=4, final_factor=2, downstream_prompts=5)


def evaluator():
    return Evaluator(SETS, SETTINGS, RL, 1.0)


def test_every_problem_is_sampled_also_when_slots_run_out(monkeypatch):
    monkeypatch.setattr(module, "MAX_SLOTS", 8)
    row = evaluator().evaluate(make_model(), seed=(0,), factor=2)
    assert row["samples"] == 9 * 4 * 2
    assert row["downstream_samples"] == 5 * 2


def test_an_evaluation_depends_on_its_model_and_its_seed_alone():
    """Not on what the same evaluator has measured before."""
    used = evaluator()
    used.evaluate(make_model(seed=1), seed=(1,))
    again = used.evaluate(make_model(), seed=(0,))
    assert again == evaluator().evaluate(make_model(), seed=(0,))
    assert again["entropy"] != used.evaluate(make_model(), seed=(1,))["entropy"]
    assert again["entropy"] != used.evaluate(make_model(seed=1), seed=(0,))["entropy"]


def test_standard_error_is_the_sampling_error_on_these_problems():
    """Problems of known pass rates: the error of the mean over repeated evaluations."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(size=(40, 1))
    draws = rng.random((2000, 40, 4)) < rates
    measured = draws.mean(axis=(1, 2)).std()
    estimated = np.mean([standard_error(draw.astype(float)) for draw in draws])
    assert estimated == pytest.approx(measured, rel=0.05)
    certain = np.array([[1.0] * 4, [0.0] * 4])
    assert standard_error(certain) == 0  # no sampling noise, however different the problems are


def test_a_row_of_metrics_covers_both_sets_and_the_final_factor():
    row = evaluator().evaluate(make_model(), seed=(0, 2, 1), factor=2)
    assert row["samples"] == 9 * 4 * 2
    assert row["downstream_samples"] == 5 * 2
    assert {"pass_rate_se", "entropy", "truncation_rate", "mean_length"} <= row.keys()


def test_evaluation_steps_start_at_zero_and_end_with_the_run():
    settings = EvaluationSettings(evaluations=4, prompts=1, samples_per_prompt=1, downstream_prompts=0)
    assert evaluation_steps(settings, 10) == [0, 2, 5, 8, 10]
