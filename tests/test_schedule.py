"""Virtual time, staleness bounds and prompt order of both schedules."""

import numpy as np
import pytest
import torch

from rlscape.catalogue.recipes import SCALERL
from rlscape.results.clock import seconds_per_update
from rlscape.rl.batches import most_outstanding
from rlscape.rl.clock import Clock
from rlscape.rl.prompts import PromptStream
from rlscape.rl.rollout import Budget, Generator
from rlscape.rl.schedule import SCHEDULES
from rlscape.settings.training import RLSettings
from rlscape.tasks.vocabulary import EOS_ID
from tests.test_rollout import PROBLEMS, force_head, make_model

RL = RLSettings(steps=20, learning_rate=1e-3, warmup_steps=0, thinking_tokens=14, answer_tokens=4)


def make_schedule(name, k, batch=3, generations=2, decode_utilisation=1 / 12, in_flight=None):
    recipe = SCALERL.changed(
        schedule=name, off_policy_steps=k, generations_per_prompt=generations, batches_in_flight=in_flight
    )
    model = make_model()
    force_head(model, EOS_ID, 0.2)  # lengths vary widely
    budget = Budget.of(RL, interrupted=False)
    random = torch.Generator().manual_seed(0)
    slots = most_outstanding(recipe, batch) * generations
    generator = Generator(model, PROBLEMS, slots, budget, "fp32", 1.0, random, "fp32")
    clock = Clock.of(RL.changed(decode_utilisation=decode_utilisation), 10_000)
    prompts = PromptStream(len(PROBLEMS), None, np.random.default_rng(0))
    return SCHEDULES[name](model, generator, clock, prompts, recipe, batch)


def run(schedule, updates):
    """Staleness of every trained token, per update."""
    staleness = []
    for _ in range(updates):
        batch = schedule.next_batch()
        completions = [completion for group in batch for completion in group.completions]
        assert len(completions) == schedule.batch * schedule.generations
        versions = torch.cat([completion.versions for completion in completions])
        staleness.append(schedule.version - versions)
        schedule.finish_update(sum(len(completion.ids) for completion in completions))
    return staleness


@pytest.mark.parametrize("k", [1, 2, 4, 8])
@pytest.mark.parametrize("decode_utilisation", [0.01, 1 / 12, 1.0])
def test_pipeline_is_never_more_than_k_steps_stale(k, decode_utilisation):
    schedule = make_schedule("pipeline", k, decode_utilisation=decode_utilisation)
    staleness = torch.cat(run(schedule, 40))
    assert staleness.min() >= 0
    assert staleness.max() <= k


def test_a_pipeline_with_fewer_batches_in_flight_stays_within_its_bound():
    full, loose = (torch.cat(run(make_schedule("pipeline", 8, in_flight=count), 60)).float() for count in (None, 4))
    assert full[-500:].mean() > 6.5
    assert 2.5 < loose[-500:].mean() < 4.5 and loose.max() <= 8


def test_batches_in_flight_are_those_of_a_pipeline_within_its_bound():
    with pytest.raises(ValueError, match=r"batches_in_flight \(9\): more than off_policy_steps \(8\)"):
        SCALERL.changed(batches_in_flight=9)
    with pytest.raises(ValueError, match="batches_in_flight: ppo_off_policy generates off_policy_steps batches"):
        SCALERL.changed(schedule="ppo_off_policy", batches_in_flight=2)


@pytest.mark.parametrize("decode_utilisation", [1 / 24, 1 / 12, 1 / 6])
@pytest.mark.parametrize("name", SCHEDULES)
def test_compute_per_update_is_what_the_algebra_of_the_clock_says(name, decode_utilisation):
    schedule = make_schedule(name, 4, decode_utilisation=decode_utilisation)
    tokens, updates, clock = 0, 120, schedule.clock
    for _ in range(updates):
        batch = schedule.next_batch()
        trained = sum(len(completion.ids) for group in batch for completion in group.completions)
        schedule.finish_update(trained)
        tokens += trained
    seconds = (clock.seconds_per_generated_token, clock.seconds_per_trained_token)
    expected = seconds_per_update(name, *(tokens / updates * each for each in seconds))
    assert clock.trainer / updates == pytest.approx(expected, rel=0.1)


def test_pipeline_k_binds_and_sequences_mix_versions():
    schedule = make_schedule("pipeline", 4)
    mixed = False
    reached = 0
    for _ in range(40):
        batch = schedule.next_batch()
        for completion in (completion for group in batch for completion in group.completions):
            mixed |= len(completion.versions.unique()) > 1
            reached = max(reached, int(schedule.version - completion.versions.min()))
        schedule.finish_update(60)
    assert mixed
    assert reached >= 3


def test_ppo_update_j_is_j_minus_one_steps_stale():
    staleness = run(make_schedule("ppo_off_policy", 4), 8)
    assert [values.unique().tolist() for values in staleness] == [[0], [1], [2], [3]] * 2


def test_alternating_phases_leave_both_pools_idle_and_cost_more_time():
    pipeline, ppo = make_schedule("pipeline", 4), make_schedule("ppo_off_policy", 4)
    run(pipeline, 40)
    run(ppo, 40)
    assert ppo.clock.generator_idle > 0 and ppo.clock.trainer_idle > 0
    assert ppo.clock.compute > 1.3 * pipeline.clock.compute


def test_clock_books_rates_and_waiting():
    clock = Clock.of(RL, parameters=1000)
    clock.generate(100)
    generating = 100 * 2 * 1000 / (64 * 1e9 / 12)
    assert clock.generator == pytest.approx(generating)
    clock.train(100)
    training = 100 * 6 * 1000 / (16 * 1e9)
    assert clock.trainer == pytest.approx(generating + training)
    assert generating == pytest.approx(training)  # the 64:16 split at which neither pool waits
    assert clock.trainer_idle == pytest.approx(generating)
    assert not clock.trainer_is_free
    clock.wait_for_trainer()
    assert clock.generator == clock.trainer and clock.generator_idle == pytest.approx(training)
    assert clock.compute == pytest.approx(80 * (generating + training))


def test_an_epoch_visits_every_prompt_once_and_order_depends_on_the_generator():
    first = PromptStream(10, None, np.random.default_rng(0)).take(20)
    assert sorted(first[:10]) == sorted(first[10:]) == list(range(10))
    assert first != PromptStream(10, None, np.random.default_rng(1)).take(20)


def test_no_positive_resampling_drops_easy_prompts_from_later_epochs_for_good():
    stream = PromptStream(10, 0.9, np.random.default_rng(0))
    stream.take(10)
    stream.record(3, 0.9)
    stream.record(4, 0.89)
    later = stream.take(27)
    assert 3 not in later and later.count(4) == 3
    assert stream.pool_size == 9


def test_an_exhausted_pool_returns_whole():
    stream = PromptStream(2, 0.9, np.random.default_rng(0))
    for prompt in stream.take(2):
        stream.record(prompt, 1.0)
    assert stream.pool_size == 0
    assert sorted(stream.take(2)) == [0, 1]


def test_a_restored_prompt_stream_goes_on_as_before():
    stream = PromptStream(10, 0.9, np.random.default_rng(0))
    stream.take(7)
    stream.record(1, 1.0)
    state = stream.state_dict()
    expected = stream.take(30)
    other = PromptStream(10, 0.9, np.random.default_rng(5))
    other.load_state_dict(state)
    assert other.take(30) == expected
