"""A checkpoint and a task of one's own, as README has them, through the pipeline: here a tiny random model."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.chat_model import make_chat_model
from tests.pipeline_copy import Copy

pytestmark = pytest.mark.training

FIGURE = "off_principals_fig5"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Copy:
    """The repository with the scale that README shows, whose checkpoint is a directory and whose numbers are small."""
    copied = Copy.of(repository, tmp_path_factory.mktemp("rlscape"))
    readme = (repository / "README.md").read_text()
    (text,) = re.findall(r"```yaml\n(scale: mine\n.*?)```", readme, re.DOTALL)
    values = yaml.safe_load(text)
    make_chat_model(copied.root / "my-model")
    values["bases"]["mine"] = {
        "checkpoint": "my-model",
        "start": {"steps": 60, "sequences_per_step": 12, "learning_rate": 1e-2},
    }
    values["tasks"]["math"] |= {"pool_size": 64, "validation_size": 32}
    for paper in ("scalerl", "off_principals"):
        values[paper]["rl"] |= {"steps": 4, "prompt_scale": 0.0625, "learning_rate": 1e-3, "answer_tokens": 16}
        values[paper]["evaluation"] |= {"evaluations": 2, "prompts": 32}
    (copied.root / "config" / "mine.yaml").write_text(yaml.safe_dump(values))
    return copied


def test_the_figure_is_made(copy: Copy) -> None:
    finished = copy.snakemake(FIGURE, "--cores", "1", scale="mine")
    assert finished.returncode == 0, finished.stdout
    results = copy.root / "results" / "mine"
    assert (copy.root / "figures" / "mine" / "off_principals" / "fig05.png").exists()
    base = json.loads((results / "bases" / "mine" / "base.json").read_text())
    assert base["rounded"]["pass_rate"] > 0
    assert (results / "runs" / "rlvr-s0" / "model" / "chat_template.jinja").exists()
    metrics = pd.read_parquet(results / "runs" / "rlvr-s0" / "metrics.parquet")
    assert (metrics["lenient_pass_rate"] >= metrics["pass_rate"]).all()
    assert json.loads((results / "bases" / "mine" / "evaluation.json").read_text())["chance_rate"] > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("checkpoint: my-model", "checkpoint: other-model", "bases.mine.checkpoint: other-model: no such directory"),
        ("dataset: simple_equations", "dataset: equations", "tasks.math.dataset: Value error, reasoning-gym has no"),
        ("source: gym", "source: gymn", "config/mine.yaml: tasks.math.source: no such task"),
    ],
)
def test_what_cannot_run_is_named_before_anything_starts(copy: Copy, old: str, new: str, message: str) -> None:
    with copy.edited("config/mine.yaml", old, new):
        finished = copy.snakemake(FIGURE, "--cores", "1", scale="mine")
    assert finished.returncode and message in finished.stdout and "Traceback" not in finished.stdout
