"""What README says about adding a task, a loss, a base and arms, done in a copy and run through the pipeline."""

import re
import shutil
from pathlib import Path

import pytest

from rlscape.settings.reading import load_config
from tests.pipeline_copy import Copy

TASKS = """\
tasks:
  largest:
    operations: [1, 2]
    downstream_operations: [3, 3]
    pool_size: 24
    validation_size: 8
    downstream_size: 4
"""
ARMS = {
    "scalerl": '    "largest": rl("largest digit", "scalerl", base="largest", tasks=("largest",), loss="reinforce"),\n',
    "off_principals": '    "rlvr_reinforce": rl("RLVR, REINFORCE", "rlvr", loss="reinforce"),\n',
}


def block_after(readme: str, words: str) -> str:
    """The first fenced block after some words."""
    found = re.search(r"```\w+\n(.*?)```", readme[readme.index(words) :], re.DOTALL)
    assert found, words
    return found[1]


def insert(file: Path, before: str, text: str) -> None:
    content = file.read_text()
    assert before in content, f"{file} has no {before!r}"
    file.write_text(content.replace(before, text + before, 1))


@pytest.fixture
def extended(tmp_path: Path, repository: Path) -> Copy:
    """A copy with a task, a loss, a base and an arm of each paper more."""
    copy = Copy.of(repository, tmp_path)
    readme = (repository / "README.md").read_text()
    source = copy.root / "src" / "rlscape"
    shutil.copy(repository / "tests" / "example_task.py", source / "tasks" / "largest.py")
    insert(source / "tasks" / "registry.py", '    "code": code.TASK,\n', '    "largest": largest.TASK,\n')
    insert(source / "tasks" / "registry.py", "math, planning", "largest, ")
    losses = source / "rl" / "losses.py"
    losses.write_text(f"{losses.read_text()}\n\n{block_after(readme, '**Add a loss.**')}")
    insert(source / "settings" / "recipe.py", '"cispo", ', '"reinforce", ')
    for paper, line in ARMS.items():
        insert(
            source / "catalogue" / f"{paper}.py",
            '    "scalerl": rl(' if paper == "scalerl" else '    "rlvr": rl(',
            line,
        )
    smoke = copy.root / "config" / "smoke.yaml"
    smoke.write_text(smoke.read_text().replace("tasks:\n", TASKS, 1))
    insert(smoke, "  joint:\n", block_after(readme, "**Add a base.**"))
    return copy


@pytest.mark.more
def test_a_task_a_loss_a_base_and_arms_as_readme_adds_them_run_through_the_pipeline(
    extended: Copy, repository: Path
) -> None:
    results = "results/smoke"
    seed = load_config(repository / "config" / "smoke.yaml").first_seed
    targets = [f"{results}/fits/largest-s{seed}.json", f"{results}/geometry/rlvr_reinforce-s{seed}/summary.json"]
    finished = extended.snakemake(*targets, "--cores", "2")
    assert finished.returncode == 0, finished.stdout
    assert all((extended.root / target).exists() for target in targets)
    for scale in ("smoke", "default", "evidence", "gpu"):
        assert extended.would_run("all", scale=scale)
