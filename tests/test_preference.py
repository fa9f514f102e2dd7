"""DPO and SimPO at the smoke scale: what a pair is, that training widens its margin, that a run repeats exactly."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence

from rlscape.catalogue import load_scale, resolve_run
from rlscape.errors import CheckpointError
from rlscape.geometry.snapshots import read_snapshot
from rlscape.models.build import build_model, load_decoder, load_model, save_model
from rlscape.tasks.math import make_sets
from rlscape.tasks.vocabulary import build_tokenizer
from rlscape.training.preference import preference_pairs, train_preference
from rlscape.training.trl_runs import own_samples
from tests.solver import make_solver

pytestmark = pytest.mark.training

CONFIG = load_scale(Path(__file__).parents[1] / "config" / "smoke.yaml")
METHODS = ("dpo", "simpo")


@pytest.fixture(scope="module")
def solver(tmp_path_factory):
    return make_solver(resolve_run(CONFIG, "sft-s0"), tmp_path_factory.mktemp("solver"))


def settings_of(solver, method, seed=0):
    settings = resolve_run(CONFIG, f"{method}-s{seed}")
    return settings.changed(
        tasks=solver[1].tasks,
        preference=settings.preference.changed(steps=6, learning_rate=1e-3, warmup_steps=0),
        drift_prompts=4,
    )


def train(solver, directory, method, seed=0):
    return train_preference(
        settings_of(solver, method, seed), solver[0], directory, lambda decoder, step: {"pass_rate": 0.0}
    )


@pytest.fixture(scope="module", params=METHODS)
def trained(request, solver, tmp_path_factory):
    return request.param, train(solver, tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module", params=METHODS)
def trained_on_all_pairs(request, solver, tmp_path_factory):
    """Every step sees every pair: losses fall without the noise of batches."""
    settings = settings_of(solver, request.param)
    settings = settings.changed(preference=settings.preference.changed(pairs_per_step=1000), snapshots=True)
    directory = tmp_path_factory.mktemp(f"{request.param}-all")
    return request.param, train_preference(settings, solver[0], directory, lambda decoder, step: {"pass_rate": 0.0})


@pytest.fixture(scope="module")
def groups(solver):
    settings = settings_of(solver, "dpo")
    problems = make_sets(settings.tasks["math"]).training
    return problems, own_samples(settings, load_decoder(solver[0]), problems, settings.preference.samples_per_prompt)


def test_own_samples_answer_every_problem_in_order(groups):
    problems, samples = groups
    for problem, group in zip(problems, samples, strict=True):
        assert len(group.completions) == 16
        assert all(problem.verify(c.ids.tolist()) == c.correct for c in group.completions)
        assert not any(c.interrupted for c in group.completions)


def test_a_pair_is_a_correct_and_an_incorrect_completion_of_one_training_problem(groups):
    problems, samples = groups
    known = {problem.prompt: problem for problem in problems}
    sampled = {
        problem.prompt: [c.ids.tolist() for c in group.completions] for problem, group in zip(*groups, strict=True)
    }
    tokenizer = build_tokenizer()
    pairs = preference_pairs(problems, samples)
    assert len(pairs) > 20
    for pair in pairs:
        prompt, problem = pair["prompt"], known[pair["prompt"]]
        ids = {side: tokenizer(prompt + pair[side])["input_ids"] for side in ("chosen", "rejected")}
        for side, correct in (("chosen", True), ("rejected", False)):
            assert ids[side][: len(problem.prompt_ids)] == problem.prompt_ids
            completion = ids[side][len(problem.prompt_ids) :]
            assert completion in sampled[prompt]  # word for word, its end included
            assert problem.verify(completion) is correct


def test_problems_that_are_always_or_never_solved_give_no_pair(groups):
    problems, samples = groups
    for problem, group in zip(problems, samples, strict=True):
        correct = sum(c.correct for c in group.completions)
        wrong = sum(not c.correct and not c.truncated for c in group.completions)
        assert len(preference_pairs([problem], [group])) == min(correct, wrong)


def log_probs(model, pairs, side):
    """Of each pair's completion, per token."""
    tokenizer = build_tokenizer()
    starts = [len(tokenizer(pair["prompt"])["input_ids"]) for pair in pairs]
    ids = [torch.tensor(tokenizer(pair["prompt"] + pair[side])["input_ids"]) for pair in pairs]
    with torch.no_grad():
        predicted = model(pad_sequence(ids, batch_first=True)).logits.log_softmax(-1)
    return [
        each[range(start - 1, len(tokens) - 1), tokens[start:]]
        for each, start, tokens in zip(predicted, starts, ids, strict=True)
    ]


def margins(model, pairs, reduce):
    chosen, rejected = (map(reduce, log_probs(model.eval(), pairs, side)) for side in ("chosen", "rejected"))
    return torch.stack([one - other for one, other in zip(chosen, rejected, strict=True)])


def test_the_loss_is_that_of_its_method_and_falls_as_the_margin_widens(trained_on_all_pairs, solver, groups):
    method, run = trained_on_all_pairs
    pairs, reduce = preference_pairs(*groups), torch.sum if method == "dpo" else torch.mean
    start, middle = load_model(solver[0]), load_model(solver[0])
    middle.load_state_dict(read_snapshot(solver[0], run.snapshots, 3))
    before, between, after = (margins(model, pairs, reduce) for model in (start, middle, run.model))
    losses = [row["loss"] for row in run.updates]
    beta, gamma = 0.1, 0.5
    required = before if method == "dpo" else gamma / beta  # DPO's reference is the start, whose loss is log 2
    for loss, found in ((losses[0], before), (losses[3], between)):
        assert loss == pytest.approx(-float(logsigmoid(beta * (found - required)).mean()), rel=1e-4)
    assert losses[-1] < losses[0] - 0.01
    assert after.mean() > before.mean() + 0.1


def test_rows_and_costs(trained, solver):
    method, run = trained
    assert [row["step"] for row in run.updates] == [1, 2, 3, 4, 5, 6]
    first, last = run.metrics[0], run.metrics[-1]
    assert (first["step"], last["step"]) == (0, 6)
    assert sum(row["tokens_trained"] for row in run.updates) == last["tokens_trained"] > 0
    assert first["tokens_generated"] == last["tokens_generated"] > 0
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    assert first["flops"] == 2 * parameters * first["tokens_generated"]
    per_token = {"dpo": 8, "simpo": 6}[method]  # DPO's reference model reads every token too
    assert last["flops"] - first["flops"] == per_token * parameters * last["tokens_trained"]
    assert last["x"] > 0 and run.updates[-1]["kl_from_start"] > 0


def test_fp32_masters_and_one_seed_gives_the_same_weights(trained, solver, tmp_path):
    method, run = trained
    again, other = train(solver, tmp_path / "again", method), train(solver, tmp_path / "other", method, seed=1)
    models = (run.model, again.model, other.model)
    for first, second, third in zip(*(model.parameters() for model in models), strict=True):
        assert first.dtype == torch.float32
        assert torch.equal(first, second)
        assert not torch.equal(first, third)


def test_a_base_without_both_kinds_of_samples_is_refused(solver, tmp_path):
    settings = settings_of(solver, "dpo")
    save_model(build_model(settings.base.model, seed=0), tmp_path / "random")
    settings = settings.changed(
        tasks={"math": settings.tasks["math"].changed(pool_size=1)},
        preference=settings.preference.changed(samples_per_prompt=2),
    )
    with pytest.raises(CheckpointError, match="a correct and an incorrect sample"):
        train_preference(settings, tmp_path / "random", tmp_path, lambda decoder, step: {})


def test_a_run_without_preference_settings_is_refused(solver, tmp_path):
    with pytest.raises(ValueError, match="rlvr-s0 has no preference settings"):
        train_preference(resolve_run(CONFIG, "rlvr-s0"), solver[0], tmp_path, lambda decoder, step: {})
