"""Supervised fine-tuning at the smoke scale: what it trains on, what it records, that it repeats exactly."""

from pathlib import Path

import pytest
import torch

from rlscape.catalogue import resolve_run
from rlscape.config import load_config
from rlscape.models.build import build_model, load_model, save_model
from rlscape.sft import IGNORED, tokenized_traces, train_sft
from rlscape.tasks.math import make_sets, trace

CONFIG = load_config(Path(__file__).parents[1] / "config" / "smoke.yaml")
SETTINGS = resolve_run(CONFIG, "sft-s0")
PROBLEMS = make_sets(SETTINGS.math).training


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("base")
    save_model(build_model(SETTINGS.base.model, seed=0), directory)
    return directory


def train(base, directory, settings=SETTINGS):
    return train_sft(settings, base, directory, lambda model, step: {"pass_rate": 0.0})


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    return train(base, tmp_path_factory.mktemp("run"))


def test_the_loss_covers_a_correct_completion_and_nothing_else():
    for problem, row in zip(PROBLEMS, tokenized_traces(PROBLEMS), strict=True):
        prompt = len(problem.prompt_ids)
        assert row["input_ids"][:prompt] == list(problem.prompt_ids)
        assert row["labels"] == [IGNORED] * prompt + row["input_ids"][prompt:]
        assert problem.verify(row["input_ids"][prompt:])


def test_a_row_per_evaluation_with_exact_costs(trained, base):
    _, rows = trained
    assert [row["step"] for row in rows] == [0, 3, 6]
    assert rows[0] | {"wall_seconds": 0} == {
        "step": 0,
        "compute": 0,
        "flops": 0,
        "tokens_generated": 0,
        "tokens_trained": 0,
        "wall_seconds": 0,
        "pass_rate": 0.0,
    }
    epoch = sum(len(trace(problem)) for problem in PROBLEMS)  # 48 problems: three steps of 16
    parameters = sum(parameter.numel() for parameter in load_model(base).parameters())
    assert [row["tokens_trained"] for row in rows] == [0, epoch, 2 * epoch]
    assert rows[-1]["flops"] == 6 * parameters * 2 * epoch
    assert rows[-1]["compute"] == rows[-1]["flops"] / SETTINGS.rl.accelerator_flops


def test_training_changes_fp32_master_weights_in_every_matrix(trained, base):
    for (name, before), after in zip(load_model(base).named_parameters(), trained[0].parameters(), strict=True):
        assert after.dtype == torch.float32, name
        assert not torch.equal(before, after), name


def test_the_same_settings_give_the_same_weights_and_another_seed_gives_others(trained, base, tmp_path):
    again, _ = train(base, tmp_path / "again")
    other, _ = train(base, tmp_path / "other", SETTINGS.changed(seed=1))
    for first, second, third in zip(trained[0].parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second)
        assert not torch.equal(first, third)


def test_a_run_without_sft_settings_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match="rlvr-s0 has no SFT settings"):
        train(base, tmp_path, resolve_run(CONFIG, "rlvr-s0"))
