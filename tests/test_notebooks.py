"""The notebooks are valid, hold no outputs, and take the configuration as their one parameter."""

import ast
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def test_there_is_a_notebook_for_each_half() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == ["geometry", "scaling"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_notebook_is_valid_and_clean(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_notebook_has_one_parameter(notebook: nbformat.NotebookNode) -> None:
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert 'config = load_scale(os.environ.get("RLSCAPE_CONFIG", "config/config.yaml"))' in cell.source


def test_notebook_only_reads(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        tree = ast.parse("\n".join(line for line in cell.source.splitlines() if not line.startswith("%")))
        modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        ours = {module for module in modules if module and module.startswith("rlscape")}
        allowed = ("rlscape.catalogue", "rlscape.paths", "rlscape.figures", "rlscape.results")
        assert all(module.startswith(allowed) for module in ours), ours
