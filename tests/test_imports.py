"""The dependency lists of rules: everything that a module imports, and nothing else."""

import gc
from pathlib import Path

import pytest

from rlscape.imports import source_files
from tests.entries import run_entry


@pytest.fixture
def package(tmp_path: Path) -> Path:
    files = {
        "__init__.py": "",
        "a.py": "import os\nfrom rlscape.inner import deep\nfrom rlscape.b import function",
        "b.py": "def function():\n    import rlscape.c",
        "c.py": "from rlscape import a",
        "unused.py": "from rlscape import b",
        "inner/__init__.py": "",
        "inner/deep.py": "import json",
        "inner/other.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(package: Path, *modules: str, leave_out: tuple[str, ...] = ()) -> list[str]:
    return [str(file.relative_to(package)) for file in source_files(package, modules, leave_out)]


def test_follows_imports_also_inside_functions_and_in_circles(package: Path) -> None:
    assert names(package, "a") == ["a.py", "b.py", "c.py", "inner/__init__.py", "inner/deep.py"]


def test_leaves_out_a_module_and_what_only_it_imports(package: Path) -> None:
    assert names(package, "a", leave_out=("b",)) == ["a.py", "inner/__init__.py", "inner/deep.py"]


def test_unknown_module_is_an_error(package: Path) -> None:
    with pytest.raises(ValueError, match="no module zzz"):
        source_files(package, ["zzz"])


def test_scaling_knows_nothing_of_torch_and_training(repository: Path) -> None:
    root = repository / "src" / "rlscape"
    scaling = source_files(root, [f"scaling.{file.stem}" for file in (root / "scaling").glob("[a-z]*.py")])
    assert not [file for file in scaling if "import torch" in file.read_text()]
    assert not {file.parent.name for file in scaling} & {"rl", "models", "geometry", "figures"}


def test_training_knows_nothing_of_figures_and_measurements(repository: Path) -> None:
    root = repository / "src" / "rlscape"
    # The masks of training are those of the measurements.
    files = source_files(root, ["pipeline.train"], leave_out=["training.masks"])
    assert not {file.parent.name for file in files} & {"figures", "scaling"}
    assert {file.stem for file in files if file.parent.name == "geometry"} == {"__init__", "sparsity"}


def test_what_is_compiled_counts_with_the_module_beside_it(package: Path) -> None:
    for name in ("inner/fast.cpp", "inner/fast.h", "inner/notes.md"):
        (package / name).write_text("")
    assert names(package, "b", "inner.deep")[-3:] == ["inner/deep.py", "inner/fast.cpp", "inner/fast.h"]
    assert "inner/fast.cpp" not in names(package, "unused", leave_out=("a",))


def test_a_job_collects_garbage_once_its_modules_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    collecting = []

    def rule() -> None:
        collecting.append(gc.isenabled())

    gc.disable()
    try:
        run_entry(rule, monkeypatch)
    finally:
        gc.enable()
        gc.unfreeze()
    assert collecting == [True]
