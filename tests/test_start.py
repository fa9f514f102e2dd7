"""How a checkpoint becomes a base."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlscape.catalogue import base_of, load_scale, tasks_of
from rlscape.errors import CheckpointError, ConfigError
from rlscape.files import read_json
from rlscape.models.build import load_decoder
from rlscape.pipeline.start_base import start_base
from rlscape.settings.base_model import CheckpointSettings, StartSettings
from rlscape.settings.training import EvaluationSettings, RLSettings
from rlscape.tasks.registry import TASKS
from rlscape.tasks.sets import make_task_sets
from rlscape.tasks.speech import WORDS, Chat
from rlscape.training.start import start_problems
from tests.chat_model import SUMS, make_chat_model
from tests.test_config import SCALES, relative

RL = RLSettings(steps=2, learning_rate=1e-3, warmup_steps=0, thinking_tokens=10, answer_tokens=6)
EVALUATION = EvaluationSettings(evaluations=2, prompts=12, samples_per_prompt=128, downstream_prompts=0, final_factor=1)
TASK = TASKS["sums"].settings.model_validate(SUMS)
START = StartSettings(steps=150, sequences_per_step=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chat_model(tmp_path_factory.mktemp("checkpoint"))


def make_base(checkpoint: Path, output: Path, start: StartSettings | None) -> dict:
    settings = CheckpointSettings(checkpoint=str(checkpoint), start=start)
    # As many sums of one digit are too few for a start of its own.
    tasks = {"math": TASK.changed(digits=(1, 2))}
    start_base("mine", settings, checkpoint, tasks, RL, EVALUATION, output)
    return read_json(output / "base.json")


@pytest.mark.training
def test_a_start_teaches_the_form_and_records_what_rounding_costs(checkpoint: Path, tmp_path: Path) -> None:
    record = make_base(checkpoint, tmp_path / "base", START)
    before, after = (record["before_rounding"][index]["pass_rate"] for index in (0, -1))
    assert before == 0 < after
    assert 0 < record["rounded"]["pass_rate"] <= record["rounded"]["lenient_pass_rate"]
    decoder = load_decoder(tmp_path / "base")
    assert all(torch.equal(values, values.bfloat16().float()) for values in decoder.parameters())
    assert not list(tmp_path.glob(".mine*"))
    weights, lost = (load_file(tmp_path / "base" / part / "model.safetensors") for part in ("", "discarded"))
    assert lost.keys() == weights.keys() and any(values.any() for values in lost.values())
    for name, values in lost.items():  # at most half of the distance to the next bf16 value
        assert (values.float().abs() <= weights[name].abs() * 2**-8 + 1e-30).all()
    assert Chat(tmp_path / "base").marks == Chat(checkpoint).marks


@pytest.mark.training
def test_the_same_start_gives_the_same_base(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_base(checkpoint, tmp_path / name, START)
    one, two = (load_decoder(tmp_path / name).state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_base_that_solves_nothing_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"bases\.mine\.start: no sample of the first task is correct"):
        make_base(checkpoint, tmp_path / "base", None)
    assert not (tmp_path / "base").exists()


def test_problems_of_a_start_are_in_no_set_of_the_task(checkpoint: Path) -> None:
    tasks, speech = {"math": TASK.changed(digits=(1, 2))}, Chat(checkpoint)
    problems = start_problems(tasks, StartSettings(steps=3, sequences_per_step=8, learning_rate=1e-3), speech)
    used = {problem.prompt for problems in make_task_sets(tasks, speech)["math"] for problem in problems}
    assert len({problem.prompt for problem in problems}) == 24
    assert not used & {problem.prompt for problem in problems}


def test_a_task_with_too_few_problems_for_a_start_is_named(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"tasks\.math: "):
        start_problems({"math": TASK}, START, Chat(checkpoint))


@pytest.mark.parametrize("file", SCALES, ids=relative)
def test_every_start_of_a_scale_has_enough_problems(file: Path) -> None:
    config = load_scale(file)
    for name, base in config.bases.items():
        if isinstance(base, CheckpointSettings) and base.start is not None:
            arms = (arm for arm in config.seeds if base_of(config, arm) == name)
            tasks = {task: config.tasks[task] for arm in arms for task in tasks_of(arm)}
            problems = start_problems(tasks, base.start, WORDS)
            assert len(problems) == base.start.steps * base.start.sequences_per_step
