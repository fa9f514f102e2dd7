"""Supervised fine-tuning at the smoke scale: what it trains on, what it records, that it repeats exactly."""

from pathlib import Path

import pytest
import torch

from rlscape.catalogue import load_scale, resolve_run
from rlscape.errors import CheckpointError, ConfigError
from rlscape.geometry.snapshots import snapshot_steps, stream_history
from rlscape.models.build import build_model, load_model, save_model
from rlscape.rl.rollout import Completion, Group
from rlscape.tasks.math import make_sets, trace
from rlscape.tasks.vocabulary import encode
from rlscape.training.sft import likeliest_traces, own_traces, reference_traces, tokenized, train_sft
from rlscape.training.trl_runs import IGNORED
from tests.solver import make_solver
from tests.tuned_models import assert_change_kept

pytestmark = pytest.mark.training

CONFIG = load_scale(Path(__file__).parents[1] / "config" / "smoke.yaml")
SETTINGS = resolve_run(CONFIG, "sft-s0")
GENTLE = SETTINGS.rl.changed(adam_epsilon=1.0)
PROBLEMS = make_sets(SETTINGS.tasks["math"]).training


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("base")
    save_model(build_model(SETTINGS.base.model, seed=0), directory)
    return directory


def train(base, directory, settings=SETTINGS, teacher=None):
    return train_sft(settings, base, directory, lambda decoder, step: {"pass_rate": 0.0}, teacher=teacher)


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    return train(base, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def solver(tmp_path_factory):
    return make_solver(SETTINGS, tmp_path_factory.mktemp("solver"))


def test_the_loss_covers_a_correct_completion_and_nothing_else():
    for problem, row in zip(PROBLEMS, tokenized(reference_traces(PROBLEMS)), strict=True):
        prompt = len(problem.prompt_ids)
        assert row["input_ids"][:prompt] == list(problem.prompt_ids)
        assert row["labels"] == [IGNORED] * prompt + row["input_ids"][prompt:]
        assert problem.verify(row["input_ids"][prompt:])


def test_a_row_per_evaluation_with_exact_costs_and_the_size_of_the_update(trained, base):
    rows = trained.metrics
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert rows[0] | {"wall_seconds": 0, "x": 0} == {
        "step": 0,
        "compute": 0,
        "flops": 0,
        "tokens_generated": 0,
        "tokens_trained": 0,
        "wall_seconds": 0,
        "pass_rate": 0.0,
        "x": 0,
        "sparsity": 1.0,
        "relative_norm": 0.0,
    }
    epoch = sum(len(trace(problem)) for problem in PROBLEMS)  # 48 problems: three steps of 16
    parameters = sum(parameter.numel() for parameter in load_model(base).parameters())
    trained_tokens = [row["tokens_trained"] for row in rows]
    assert trained_tokens == sorted(set(trained_tokens)) and trained_tokens[0] == 0 and trained_tokens[-1] == 2 * epoch
    assert rows[-1]["flops"] == 6 * parameters * 2 * epoch
    assert rows[-1]["compute"] == rows[-1]["flops"] / SETTINGS.rl.accelerator_flops
    assert 0 < rows[1]["x"] < rows[2]["x"]


def test_a_row_per_update_with_the_divergence_from_the_start(trained):
    updates = trained.updates
    assert [row["step"] for row in updates] == [1, 2, 3, 4, 5, 6]
    assert sum(row["tokens_trained"] for row in updates) == trained.metrics[-1]["tokens_trained"]
    assert updates[-1]["loss"] < updates[0]["loss"]
    assert all(row["gradient_norm"] > 0 for row in updates)
    assert updates[0]["kl_step"] == updates[0]["kl_to_start"] > 0
    assert updates[-1]["kl_from_start"] > updates[0]["kl_from_start"]


def test_divergences_only_where_they_are_asked_for(base, tmp_path):
    run = train(base, tmp_path, SETTINGS.changed(drift_prompts=0))
    assert "x" in run.metrics[-1] and "kl_step" not in run.updates[-1]


def test_the_loss_is_the_mean_over_the_tokens_of_all_completions(base, tmp_path):
    run = train(base, tmp_path, changed(steps=1, sequences_per_step=len(PROBLEMS)))
    model, values = load_model(base), []
    for prompt, completion in reference_traces(PROBLEMS):
        logits = model(torch.tensor([[*prompt, *completion]])).logits[0].detach()
        predicted = logits[len(prompt) - 1 : -1].log_softmax(-1)
        values.append(-predicted.gather(-1, torch.tensor(completion)[:, None]))
    assert run.updates[0]["loss"] == pytest.approx(float(torch.cat(values).mean()), rel=1e-6)


def test_several_passes_make_one_step(base, tmp_path):
    """AdamW's first step is plus or minus the rate, however small a gradient is: a large epsilon keeps to gradients."""
    one, four = (
        train(base, tmp_path / str(passes), changed(steps=2, passes=passes).changed(rl=GENTLE)) for passes in (1, 4)
    )
    for first, second in zip(one.updates, four.updates, strict=True):
        assert first["tokens_trained"] == second["tokens_trained"]
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
        assert first["gradient_norm"] == pytest.approx(second["gradient_norm"], rel=1e-4)
    for a, b in zip(one.model.parameters(), four.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_snapshots_of_the_evaluations_after_the_first(trained, base):
    assert snapshot_steps(trained.snapshots) == [2, 4, 6]
    after = dict(trained.model.named_parameters())
    for name, before, history in stream_history(base, trained.snapshots):
        assert_change_kept(history[6], before, after[name])
        assert not torch.equal(history[2], history[6]), name


def test_training_changes_fp32_master_weights_in_every_matrix(trained, base):
    for (name, before), after in zip(load_model(base).named_parameters(), trained.model.parameters(), strict=True):
        assert after.dtype == torch.float32, name
        assert not torch.equal(before, after), name


def equal(first, second):
    return [torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True)]


def test_the_same_settings_give_the_same_weights_and_another_seed_gives_others(trained, base, tmp_path):
    assert all(equal(trained, train(base, tmp_path / "again")))
    assert not any(equal(trained, train(base, tmp_path / "other", SETTINGS.changed(seed=1))))


def changed(**changes):
    return SETTINGS.changed(sft=SETTINGS.sft.changed(**changes))


def test_noise_weights_sequences_with_mean_one(trained, base, tmp_path):
    noisy = train(base, tmp_path / "noisy", changed(noise=1.0))
    assert not any(equal(trained, noisy))
    assert all(equal(noisy, train(base, tmp_path / "again", changed(noise=1.0))))
    # As the noise vanishes, the loss becomes that of trl.
    quiet, plain = (train(base, tmp_path / name, changed(noise=n, steps=1)) for name, n in (("q", 1e-9), ("p", 0.0)))
    assert quiet.updates[0]["loss"] == pytest.approx(plain.updates[0]["loss"], rel=1e-6)
    assert quiet.updates[0]["gradient_norm"] == pytest.approx(plain.updates[0]["gradient_norm"], rel=1e-5)
    assert noisy.updates[0]["loss"] != pytest.approx(plain.updates[0]["loss"], rel=1e-3)


def completion(text, correct, log_prob=0.0):
    ids = torch.tensor(encode(text))
    log_probs = torch.full(ids.shape, log_prob / len(ids))
    return Completion(ids, log_probs, ids, ids, truncated=False, interrupted=False, correct=correct)


def test_the_likeliest_trace_is_the_correct_sample_of_highest_probability():
    samples = [[("1 <eos>", True, -3), ("2 <eos>", True, -1), ("3 <eos>", False, -0.5)], [("4 <eos>", False, -0.1)]]
    groups = [Group(i, 0, [completion(*sample) for sample in each]) for i, each in enumerate(samples)]
    assert likeliest_traces(PROBLEMS[:2], groups) == [(PROBLEMS[0].prompt_ids, encode("2 <eos>"))]


def test_own_traces_are_the_correct_samples_one_problem_after_the_other():
    texts = [[("1 <eos>", True), ("2 <eos>", False), ("3 <eos>", True)], [("4 <eos>", False)], [("5 <eos>", True)]]
    groups = [Group(i, 0, [completion(*sample) for sample in samples]) for i, samples in enumerate(texts)]
    prompts = [problem.prompt_ids for problem in PROBLEMS]
    expected = [(prompts[0], encode("1 <eos>")), (prompts[2], encode("5 <eos>")), (prompts[0], encode("3 <eos>"))]
    assert own_traces(PROBLEMS[:3], groups) == expected
    assert own_traces(PROBLEMS[:1], groups[:1]) == expected[:1]  # as many as there are problems


def test_a_model_trains_on_its_own_correct_samples(solver, tmp_path, monkeypatch):
    base, settings = solver
    used = []
    monkeypatch.setattr("rlscape.training.sft.tokenized", lambda traces: used.extend(traces) or tokenized(traces))
    settings = settings.changed(sft=settings.sft.changed(data="self", steps=2))
    run = train(base, tmp_path, settings)
    problems = {tuple(problem.prompt_ids): problem for problem in make_sets(settings.tasks["math"]).training}
    assert used and all(problems[tuple(prompt)].verify(ids) for prompt, ids in used)
    reference = reference_traces(list(problems.values()))
    assert len(used) <= len(reference) and not all(trace in reference for trace in used)  # they are its own
    first, last = run.metrics[0], run.metrics[-1]
    assert first["tokens_generated"] == last["tokens_generated"] > 0
    assert first["flops"] / (2 * first["tokens_generated"]) == pytest.approx(
        (last["flops"] - first["flops"]) / (6 * last["tokens_trained"])
    )


def test_a_teacher_samples_in_place_of_the_model(base, solver, tmp_path):
    """Of a base that solves nothing; what is trained is still the base."""
    teacher, settings = solver
    run = train(base, tmp_path, settings.changed(sft=settings.sft.changed(data="self", steps=2)), teacher=teacher)
    last = run.metrics[-1]
    assert last["tokens_generated"] > 0 < last["tokens_trained"]
    assert 0 < last["relative_norm"] < 0.5  # of the base, at random, from which the teacher is far


def test_a_mixture_of_experts_trains_too(tmp_path):
    mixture = CONFIG.bases["moe"]
    save_model(build_model(mixture.model, seed=0), tmp_path / "base")
    run = train(tmp_path / "base", tmp_path, SETTINGS.changed(base=mixture.model_dump()))
    losses = [row["loss"] for row in run.updates]
    assert len(losses) == SETTINGS.sft.steps and losses[-1] < losses[0]


def test_a_base_that_solves_nothing_has_no_samples_to_train_on(base, tmp_path):
    with pytest.raises(CheckpointError, match="no sample is correct"):
        train(base, tmp_path, changed(data="self", samples_per_prompt=1))


def test_a_run_without_sft_settings_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match="rlvr-s0 has no SFT settings"):
        train(base, tmp_path, resolve_run(CONFIG, "rlvr-s0"))


def test_plain_gradient_descent_takes_the_clipped_gradient_without_momentum_or_decay(base, tmp_path):
    sft = SETTINGS.sft.changed(steps=2, learning_rate=0.5, warmup_steps=0)
    clip = SETTINGS.rl.max_gradient_norm
    run = train(base, tmp_path, SETTINGS.changed(optimizer="sgd", sft=sft))
    norms = [row["gradient_norm"] for row in run.updates]
    assert min(norms) > clip
    moved = [
        after - before for before, after in zip(load_model(base).parameters(), run.model.parameters(), strict=True)
    ]
    # Two steps of equal length, the clip times the rate, which momentum would add up and decay would lengthen
    length = torch.cat([change.flatten() for change in moved]).norm().item()
    assert 0.5 * clip < length <= 2 * 0.5 * clip * (1 + 1e-4)
    one = train(base, tmp_path, SETTINGS.changed(optimizer="sgd", sft=sft.changed(steps=1)))
    single = [
        after - before for before, after in zip(load_model(base).parameters(), one.model.parameters(), strict=True)
    ]
    assert torch.cat([change.flatten() for change in single]).norm().item() == pytest.approx(0.5 * clip, rel=1e-4)


def test_an_optimizer_of_reinforcement_learning_alone_is_refused(base, tmp_path):
    with pytest.raises(ConfigError, match="sft-s0: optimizer: adamw_on_noise is for reinforcement learning only"):
        train(base, tmp_path, SETTINGS.changed(optimizer="adamw_on_noise"))
