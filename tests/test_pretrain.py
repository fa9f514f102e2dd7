"""Pretraining: the curriculum, the batches, and a tiny real run."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from rlscape.errors import ConfigError
from rlscape.models.build import as_decoder, build_model, load_model
from rlscape.settings.base_model import BaseSettings, ModelSettings, PretrainSettings
from rlscape.tasks.code import CodeSettings
from rlscape.tasks.math import MathSettings
from rlscape.tasks.vocabulary import decode, encode
from rlscape.training.pretrain import (
    backward,
    draw_examples,
    draw_operations,
    draw_task,
    learning_rate_factor,
    pretrain,
)

pytestmark = pytest.mark.training

SETTINGS = PretrainSettings(
    steps=20,
    sequences_per_step=16,
    learning_rate=5e-3,
    mix={"math": 1},
    tail_rate=0.2,
    flawed_from=0.6,
    wrong_step_rate=0.1,
    thoughtless_rate=0.3,
    interrupted_rate=0.1,
)
BASE = BaseSettings(
    model=ModelSettings(hidden_size=16, layers=2, heads=2, kv_heads=1, head_dim=8, intermediate_size=24),
    pretraining=SETTINGS,
)
MATH = MathSettings(
    operations=(2, 4),
    downstream_operations=(5, 5),
    tail_operations=(5, 6),
    pool_size=20,
    validation_size=20,
    downstream_size=10,
)
CODE = CodeSettings(
    operations=(1, 2), downstream_operations=(3, 4), pool_size=20, validation_size=20, downstream_size=10
)
JOINT = SETTINGS.changed(mix={"math": 1, "code": 1})
TASKS = {"math": MATH, "code": CODE}
EXAMPLES = [(encode("3 + 4 ="), encode("<think> + 4 7 </think> 7 <eos>")), (encode("1 ="), encode("1 <eos>"))]


def lengths(settings, step, task=MATH, draws=500):
    rng = np.random.default_rng(0)
    return [draw_operations(settings, task, step, rng) for _ in range(draws)]


def test_curriculum_grows_over_the_first_half_and_the_tail_joins_then():
    assert set(lengths(SETTINGS, 0)) == {2}
    assert set(lengths(SETTINGS, 4)) == {2, 3}
    assert set(lengths(SETTINGS, 9)) == {2, 3, 4}
    late = lengths(SETTINGS, 10)
    assert set(late) == {2, 3, 4, 5, 6}
    assert np.mean([length > 4 for length in late]) == pytest.approx(0.2, abs=0.06)
    assert set(lengths(SETTINGS.changed(tail_rate=0), 19)) == {2, 3, 4}


def test_lengths_are_those_of_the_sets_unless_the_task_says_otherwise():
    assert set(lengths(SETTINGS, 19, MATH.changed(tail_operations=None))) == {2, 3, 4, 5}
    other = MATH.changed(pretraining_operations=(1, 3), tail_operations=(8, 8))
    assert [set(lengths(SETTINGS, step, other)) for step in (0, 9, 10)] == [{1}, {1, 2, 3}, {1, 2, 3, 8}]


def test_flaws_begin_at_their_phase():
    settings = SETTINGS.changed(thoughtless_rate=1.0, interrupted_rate=0.0)

    def completions(step):
        examples = draw_examples(settings, TASKS, step, set(), np.random.default_rng(0))
        return [len(completion) for _, completion in examples]

    assert min(completions(11)) >= 3 * 2 + 4
    assert set(completions(12)) == {4}


def test_held_out_problems_never_occur():
    everything = draw_examples(SETTINGS, TASKS, 0, set(), np.random.default_rng(0))
    held_out = {decode(prompt) for prompt, _ in everything[::2]}
    rest = draw_examples(SETTINGS, TASKS, 0, held_out, np.random.default_rng(0))
    assert rest == [example for example in everything if decode(example[0]) not in held_out]
    assert len(rest) < len(everything)


def test_without_code_the_draws_are_those_of_the_recorded_bases():
    """The last sequences of 20 steps, as they were before there was a code task."""
    rng = np.random.default_rng(0)
    steps = [draw_examples(SETTINGS, TASKS, step, set(), rng) for step in range(20)]
    assert [(decode(prompt), decode(completion)) for prompt, completion in steps[-1][-2:]] == [
        ("6 - 5 - 5 * 1 + 0 =", "<think> - 5 7 - 5 2 * 1 6 time is up </think> 6 <eos>"),
        ("5 + 8 * 1 =", "<think> + 8 3 * 1 3 </think> 3 <eos>"),
    ]
    assert rng.random() == 0.6467091795080576


def test_code_has_its_share_and_the_same_curriculum():
    rng = np.random.default_rng(0)

    def lengths(step):
        prompts = [decode(prompt) for _ in range(50) for prompt, _ in draw_examples(JOINT, TASKS, step, set(), rng)]
        shares.append(np.mean(["->" in prompt for prompt in prompts]))
        return {len(prompt.split()) // 2 - 3 for prompt in prompts if "->" in prompt}

    shares = []
    assert [lengths(step) for step in (0, 9, 10)] == [{1}, {1, 2}, {1, 2, 3, 4}]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)


def test_held_out_code_never_occurs():
    everything = draw_examples(JOINT, TASKS, 0, set(), np.random.default_rng(0))
    held_out = {decode(prompt) for prompt, _ in everything if "->" in decode(prompt)}
    rest = draw_examples(JOINT, TASKS, 0, held_out, np.random.default_rng(0))
    assert rest == [example for example in everything if "->" not in decode(example[0])]
    assert 0 < len(rest) < len(everything)


def test_every_task_of_the_mix_takes_settings(tmp_path):
    with pytest.raises(ConfigError, match="joint: pretraining.mix: no settings for code; add them to tasks"):
        pretrain(BASE.changed(pretraining=JOINT), {"math": MATH}, tmp_path, "joint")
    assert not list(tmp_path.iterdir())


def test_parts_of_the_mix_are_relative_and_in_any_order():
    def drawn(mix):
        rng = np.random.default_rng(0)
        return [draw_task(mix, rng) for _ in range(3000)]

    tasks = drawn({"code": 3, "math": 1})
    assert np.mean([task == "code" for task in tasks]) == pytest.approx(0.75, abs=0.03)
    assert drawn({"math": 0.25, "code": 0.75}) == tasks
    assert {task: drawn({"math": 1, "code": 1, "search": 2}).count(task) / 3000 for task in ("math", "search")} == {
        "math": pytest.approx(0.25, abs=0.03),
        "search": pytest.approx(0.5, abs=0.03),
    }


@pytest.mark.parametrize("mix", [{}, {"math": 0}, {"math": 1, "code": -0.5}])
def test_a_mix_without_a_task_or_with_a_part_that_is_not_positive_is_refused(mix):
    with pytest.raises(ValidationError, match="needs at least one task, and a positive number for each"):
        SETTINGS.changed(mix=mix)


def test_loss_and_gradient_are_means_over_completion_tokens():
    model = as_decoder(build_model(BASE.model, seed=0))
    loss = backward(model, EXAMPLES)
    expected = 0.0
    reference = build_model(BASE.model, seed=0)
    for prompt, completion in EXAMPLES:
        ids = torch.tensor([prompt + completion])
        log_probs = reference(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = expected - log_probs.gather(1, torch.tensor(completion)[:, None]).sum() / 9
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for parameter, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_learning_rate_warms_up_and_decays():
    factors = [learning_rate_factor(step, 100) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(left >= right for left, right in zip(factors[4:], factors[5:], strict=False))
    assert factors[-1] < 1e-3


def test_run_is_bitwise_reproducible_and_on_the_bf16_grid(tmp_path):
    for name in ("first", "second"):
        pretrain(BASE, TASKS, tmp_path / name)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second
    model = load_model(tmp_path / "first")
    for parameter in model.parameters():
        assert torch.equal(parameter, parameter.to(torch.bfloat16).to(torch.float32))
    pretrain(BASE.changed(precision="fp32"), TASKS, tmp_path / "unrounded")
    for parameter, rounded in zip(load_model(tmp_path / "unrounded").parameters(), model.parameters(), strict=True):
        assert torch.equal(parameter.to(torch.bfloat16).to(torch.float32), rounded)
        assert parameter.ndim == 1 or not torch.equal(parameter, rounded)
    start = build_model(BASE.model, SETTINGS.seed)
    assert not torch.equal(model.lm_head.weight, start.lm_head.weight)
    record = json.loads((tmp_path / "first" / "base.json").read_text())
    assert record.keys() == {"settings", "kernels", "provenance", "loss", "wall_seconds"}
    assert BaseSettings.model_validate(record["settings"]["base"]) == BASE
    assert record["settings"]["tasks"].keys() == {"math"}
    assert 0 < record["loss"] < np.log(64)


def test_a_quantised_base_is_on_its_grid_before_it_is_rounded(tmp_path):
    base = BaseSettings(
        model=BASE.model.changed(hidden_size=32),
        pretraining=SETTINGS.changed(steps=2),
        quantisation="q4_1",
        precision="fp32",
    )
    pretrain(base, TASKS, tmp_path)
    blocks = load_model(tmp_path).lm_head.weight.view(-1, 32)
    assert max(len(block.unique()) for block in blocks) <= 16


def test_a_joint_base_is_made_of_both_tasks(tmp_path):
    base = BASE.changed(pretraining=JOINT)
    pretrain(base, TASKS, tmp_path)
    record = json.loads((tmp_path / "base.json").read_text())
    assert BaseSettings.model_validate(record["settings"]["base"]) == base
    assert MathSettings.model_validate(record["settings"]["tasks"]["math"]) == MATH
    assert CodeSettings.model_validate(record["settings"]["tasks"]["code"]) == CODE
