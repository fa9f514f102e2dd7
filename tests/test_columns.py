"""The columns of a run's tables are those that are listed where they are written."""

import re

import pytest

from rlscape.catalogue import load_scale, resolve_run
from rlscape.models.build import build_model, save_model
from rlscape.pipeline.train import train_by_method
from rlscape.rl.trainer import RLTrainer
from rlscape.tasks.base import column_prefix
from rlscape.tasks.registry import TASKS
from rlscape.training.trl_runs import Recorder
from tests.synthetic import ROOT

pytestmark = pytest.mark.training

CONFIG = load_scale(ROOT / "config" / "smoke.yaml")
DIVERGENCES = {"kl_from_start", "kl_to_start", "kl_step"}
PREFIXES = re.compile(rf"^({'|'.join(prefix for task in TASKS if (prefix := column_prefix(task)))})?(downstream_)?")


def listed(function) -> set[str]:
    """The columns that a docstring lists: what stands before the colon of each point."""
    points = re.findall(r"^ *- (.*?):", function.__doc__, re.MULTILINE)
    return {name for point in points for name in re.findall(r"``(\w+)``", point)}


def run(arm, directory):
    settings = resolve_run(CONFIG, f"{arm}-s0")
    save_model(build_model(settings.base.model, seed=0), directory / "base")
    return train_by_method(settings, directory / "base", directory, "cpu")


def columns(rows) -> set[str]:
    return {PREFIXES.sub("", name) for row in rows for name in row}


def test_of_reinforcement_learning_on_two_tasks(tmp_path):
    trained = run("math_and_code", tmp_path)
    assert {"downstream_pass_rate", "code_pass_rate", "code_downstream_samples"} <= set(trained.metrics[0])
    assert columns(trained.metrics) == listed(RLTrainer.evaluate)
    assert columns(trained.updates) == listed(RLTrainer.train_step) - DIVERGENCES


def test_of_reinforcement_learning_that_is_tracked(tmp_path):
    trained = run("rlvr", tmp_path)
    assert columns(trained.metrics) == listed(RLTrainer.evaluate)
    assert columns(trained.updates) == listed(RLTrainer.train_step)


def test_of_supervised_fine_tuning(tmp_path):
    trained = run("sft", tmp_path)
    assert columns(trained.metrics) == listed(RLTrainer.evaluate)
    assert columns(trained.updates) == listed(Recorder.on_log)
