"""Executing a notebook: settings arrive, a failing cell keeps earlier output, rules know the code."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from rlscape.catalogue import FIGURES
from rlscape.imports import source_files
from rlscape.pipeline.execute_notebook import NotebookError, execute
from rlscape.settings.reading import load_config
from rlscape.settings.scale import Config


@pytest.fixture
def config(repository: Path) -> Config:
    return load_config(repository / "config" / "smoke.yaml")


def write_notebook(path: Path, *sources: str, tag_first: bool = True) -> Path:
    cells = [v4.new_code_cell(source) for source in sources]
    if tag_first:
        cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


def test_the_parameters_cell_is_replaced(tmp_path: Path, config: Config) -> None:
    source = write_notebook(tmp_path / "in.ipynb", "config = None", "print(config.scale)")
    execute(source, config, tmp_path / "out.ipynb")
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert executed.cells[1].outputs[0].text == "smoke\n"
    assert nbformat.read(source, as_version=4).cells[0].source == "config = None"


@pytest.mark.parametrize(
    ("sources", "tag_first", "message"),
    [
        (("config = None", "raise RuntimeError('no data')"), True, "no data"),
        (("config = None",), False, "0 cells are tagged 'parameters'"),
    ],
)
def test_a_failure_is_one_error_and_keeps_earlier_output(
    tmp_path: Path, config: Config, sources: tuple[str, ...], tag_first: bool, message: str
) -> None:
    output = tmp_path / "out.ipynb"
    output.write_text("earlier")
    source = write_notebook(tmp_path / "in.ipynb", *sources, tag_first=tag_first)
    with pytest.raises(NotebookError, match=message):
        execute(source, config, output)
    assert output.read_text() == "earlier"


def test_rules_know_every_module_that_a_notebook_imports(repository: Path) -> None:
    package = repository / "src" / "rlscape"
    figures = [f"figures.{figure.paper}.{figure.stem}" for figure in FIGURES]
    known = set(source_files(package, ["pipeline.execute_notebook", "figures.registry", *figures]))
    for file in (repository / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(file, as_version=4).cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        modules = re.findall(r"^from rlscape\.(\S+) import", code, flags=re.MULTILINE)
        assert modules and set(source_files(package, modules)) <= known, file
