"""The RL trainer: reproducible, resumable, and each recipe field does what it says."""

import copy
import random
from pathlib import Path

import pandas as pd
import pytest
import torch

from rlscape.catalogue import resolve_run
from rlscape.errors import CheckpointError, KernelError
from rlscape.models.build import as_decoder, build_model, save_model
from rlscape.rl import trainer as trainer_module
from rlscape.rl.losses import policy_loss
from rlscape.rl.rollout import Completion, Group
from rlscape.settings.reading import load_config
from rlscape.tasks.vocabulary import END_THINK_ID, EOS_ID, THINK_ID, encode
from rlscape.training.rl import make_trainer, train_rl

pytestmark = pytest.mark.training

CONFIG = load_config(Path(__file__).parents[1] / "config" / "smoke.yaml")
STEPS = 6


def settings_of(arm, **recipe_changes):
    run = resolve_run(CONFIG, f"{arm}-s0")
    return run.changed(
        rl=run.rl.changed(steps=STEPS, checkpoint_seconds=0.0, learning_rate=3e-3).model_dump(),
        evaluation=run.evaluation.changed(evaluations=2).model_dump(),
        recipe=run.recipe.changed(**recipe_changes).model_dump(),
    )


def guessing_model(settings):
    """A model that answers at once and at random: the cheapest policy whose rewards vary."""
    model = build_model(settings.base.model, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        answers = encode("0")[0] + torch.randint(10, (64,), generator=generator)
        prompt = torch.tensor(encode("3 + 4 =")).expand(64, -1)
        tail = torch.tensor([THINK_ID, END_THINK_ID]).expand(64, -1)
        ids = torch.cat([prompt, tail, answers[:, None], torch.full((64, 1), EOS_ID)], dim=1)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return as_decoder(model)


@pytest.fixture(scope="module")
def base():
    return guessing_model(settings_of("scalerl"))


def train(settings, base, **arguments):
    trainer = make_trainer(settings, copy.deepcopy(base), **arguments)
    trainer.run()
    return trainer


def assert_same_run(first, second):
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert pd.DataFrame(first.updates).equals(pd.DataFrame(second.updates))
    assert (
        pd.DataFrame(first.metrics)
        .drop(columns="wall_seconds")
        .equals(pd.DataFrame(second.metrics).drop(columns="wall_seconds"))
    )


def test_same_settings_give_the_same_run_bit_for_bit_and_another_seed_does_not(base):
    settings = settings_of("scalerl")
    first = train(settings, base)
    assert_same_run(first, train(settings, base))
    other = train(settings.changed(seed=1), base)
    assert not pd.DataFrame(first.updates).equals(pd.DataFrame(other.updates))


@pytest.mark.parametrize("arm", ["scalerl", "deepseek_grpo", "rlvr_noise"])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(base, arm, tmp_path):
    settings = settings_of(arm)
    uninterrupted = train(settings, base)
    assert pd.DataFrame(uninterrupted.updates).gradient_norm.gt(0).any()

    def kill(step):
        if step == 3:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint.pt"
    killed = make_trainer(settings, copy.deepcopy(base), after_step=kill)
    with pytest.raises(KeyboardInterrupt):
        killed.run(checkpoint)
    resumed = make_trainer(settings, copy.deepcopy(base))
    resumed.run(checkpoint)
    assert_same_run(uninterrupted, resumed)


@pytest.mark.more
def test_a_run_killed_at_twenty_random_points_equals_the_uninterrupted_one(base, tmp_path):
    settings = settings_of("scalerl")
    settings = settings.changed(rl=settings.rl.changed(steps=40))
    points = sorted(random.Random(0).sample(range(1, 40), 20))

    def kill(step):
        if step in points:
            points.remove(step)
            raise KeyboardInterrupt

    for _ in range(20):
        with pytest.raises(KeyboardInterrupt):
            make_trainer(settings, copy.deepcopy(base), after_step=kill).run(tmp_path / "checkpoint.pt")
    resumed = make_trainer(settings, copy.deepcopy(base), after_step=kill)
    resumed.run(tmp_path / "checkpoint.pt")
    assert_same_run(train(settings, base), resumed)


def test_a_run_does_not_go_on_with_other_kernels(base, tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint.pt"
    trainer = make_trainer(settings_of("scalerl"), copy.deepcopy(base))
    for started, now, remedy in (
        ("torch", "compiled-1", "set RLSCAPE_KERNELS=torch to go on, or delete it"),
        ("compiled-1", "compiled-2", "go on where it started, or delete it"),
    ):
        monkeypatch.setattr(trainer, "kernels", started)
        trainer.save_checkpoint(checkpoint)
        monkeypatch.setattr(trainer, "kernels", now)
        with pytest.raises(KernelError, match=rf"other kernels \({started}\) than .* \({now}\); {remedy}"):
            trainer.load_checkpoint(checkpoint)


def test_a_run_does_not_go_on_from_the_checkpoint_of_another_base(tmp_path):
    settings = settings_of("scalerl")
    first, second = tmp_path / "first", tmp_path / "second"
    for seed, directory in enumerate((first, second)):
        save_model(build_model(settings.base.model, seed), directory)
    train_rl(settings, first, tmp_path)  # leaves the checkpoint of its last step
    after = train_rl(settings, second, tmp_path).trainer
    assert_same_run(after, train_rl(settings, second, tmp_path / "elsewhere").trainer)


def test_a_damaged_or_foreign_checkpoint_is_refused_by_name(base, tmp_path):
    settings = settings_of("scalerl")
    checkpoint = tmp_path / "checkpoint.pt"
    trainer = make_trainer(settings, copy.deepcopy(base))
    trainer.save_checkpoint(checkpoint)
    with pytest.raises(CheckpointError, match="other settings"):
        make_trainer(settings.changed(seed=1), copy.deepcopy(base)).load_checkpoint(checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="checkpoint.pt: damaged.*delete"):
        make_trainer(settings, copy.deepcopy(base)).load_checkpoint(checkpoint)


def group_of(prompt, lengths, correct):
    """A group with given lengths and outcomes; the tokens are arbitrary."""
    completions = []
    for length, outcome in zip(lengths, correct, strict=True):
        ids = torch.arange(length) % 10 + encode("0")[0]
        completions.append(
            Completion(
                ids=ids,
                log_probs=torch.full((length,), -3.0),
                versions=torch.zeros(length, dtype=torch.long),
                loss_mask=torch.ones(length, dtype=torch.bool),
                truncated=False,
                interrupted=False,
                correct=outcome,
            )
        )
    return Group(prompt, 0, completions)


def gradient(settings, base, groups):
    """Gradient of one update, before clipping has an effect."""
    trainer = make_trainer(settings, copy.deepcopy(base))
    rewards = torch.tensor([[2.0 * c.correct - 1 for c in group.completions] for group in groups])
    trainer.rl = trainer.rl.changed(max_gradient_norm=1e9)
    trainer.optimizer.zero_grad = lambda: None
    trainer.update(groups, rewards)
    return torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()])


def test_micro_batches_do_not_change_the_gradient(base, monkeypatch):
    settings = settings_of("scalerl", generations_per_prompt=4)
    groups = [group_of(0, [13, 19, 5, 4], [1, 0, 0, 1]), group_of(1, [18, 12, 6, 7], [0, 0, 0, 1])]
    calls = []
    monkeypatch.setattr(trainer_module, "policy_loss", lambda *arguments: calls.append(1) or policy_loss(*arguments))
    whole = gradient(settings, base, groups)
    small = settings.changed(rl=settings.rl.changed(micro_batch_tokens=64).model_dump())
    split = gradient(small, base, groups)
    assert len(calls) == 1 + 2, "the second time in two parts"
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-4 * whole.abs().max().item())
    assert whole.norm() > 0


def test_prompts_without_signal_shrink_the_average_unless_filtered(base):
    settings = settings_of("scalerl", generations_per_prompt=2, advantage_normalisation="none")
    useful, useless = group_of(0, [3, 5], [1, 0]), group_of(1, [4, 4], [1, 1])
    alone = gradient(settings, base, [useful])
    diluted = gradient(settings, base, [useful, useless])
    torch.testing.assert_close(2 * diluted, alone, rtol=1e-5, atol=1e-8)


def test_a_pass_rate_does_not_depend_on_what_the_generator_computes_in(base):
    """Bit for bit: whatever a coarse head or body costs is what training on its samples cost."""
    rows = []
    for head, body in (("fp32", "fp32"), ("bf16", "bf16"), ("m1", "bf16")):
        settings = settings_of("qwen_dapo", generator_head=head)
        trainer = make_trainer(settings.changed(rl=settings.rl.changed(generator_precision=body)), copy.deepcopy(base))
        trainer.evaluate()
        rows += trainer.metrics
    assert "downstream_pass_rate" in rows[0]
    assert rows[0] == rows[1] == rows[2]


def test_weights_stored_in_bf16_are_bf16_values_after_every_step(base):
    settings = settings_of("rlvr_bf16_weights")
    trainer = train(settings, base)
    moved = False
    for name, values in trainer.model.state_dict().items():
        assert torch.equal(values, values.bfloat16().float()), name
        moved |= not torch.equal(values, base.state_dict()[name])
    assert moved


def test_noise_moves_every_entry_as_far_as_learning_does_in_no_direction(base):
    settings = settings_of("rlvr_noise")
    (start, end), (_, learnt) = (
        [model.model.layers[0].mlp.down_proj.weight.detach() for model in (base, train(run, base).model)]
        for run in (settings, settings.changed(optimizer="adamw"))
    )
    sizes = [float((after - start).norm()) for after in (end, learnt)]
    assert 0.3 < sizes[0] / sizes[1] < 3
    cosine = float(((end - start) * (learnt - start)).sum()) / (sizes[0] * sizes[1])
    assert abs(cosine) < 5 / start.numel() ** 0.5


def test_random_rewards_train_on_coins_and_report_what_the_verifier_says(base):
    verified = train(settings_of("scalerl"), base)
    settings = settings_of("scalerl", rewards="random")
    random = train(settings, base)
    assert_same_run(random, train(settings, base))
    first, other = (pd.DataFrame(trainer.updates).iloc[0] for trainer in (verified, random))
    assert first.pass_rate == other.pass_rate and first.reward_mean == pytest.approx(2 * first.pass_rate - 1)
    assert other.reward_mean != first.reward_mean


def test_zero_variance_filter_drops_prompts_before_training(base):
    """With the filter the useless prompts cost no trained tokens; without it they do."""
    filtered = train(settings_of("scalerl"), base)
    unfiltered = train(settings_of("scalerl", zero_variance_filter=False), base)
    updates = pd.DataFrame(filtered.updates)
    assert (updates.active_prompts < 3).any()
    assert filtered.tokens_trained < filtered.tokens_generated
    assert unfiltered.tokens_trained == unfiltered.tokens_generated
    assert (pd.DataFrame(unfiltered.updates).active_prompts == 3).all()


def test_on_policy_mismatch_is_small_but_real(base):
    first = pd.DataFrame(train(settings_of("scalerl"), base).updates).iloc[0]
    assert first.staleness_max == 0
    assert 0 < first.log_ratio_mean < 0.01
