"""Execute a notebook.

The notebook's cell tagged ``parameters`` defines ``config`` for whoever opens it by hand; here it is
replaced by the given settings. Paths in the notebook are relative to the working directory.
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from rlscape.errors import UserError
from rlscape.files import atomic
from rlscape.pipeline.entry import run
from rlscape.settings.scale import Config

PARAMETERS = "parameters"
"""Tag of the cell that is replaced."""


class NotebookError(UserError):
    """A notebook that cannot be executed."""


def set_config(notebook: nbformat.NotebookNode, config: Config, source: str) -> None:
    """Replace the cell tagged ``parameters`` by ``config = ...``.

    Raises:
        NotebookError: not exactly one cell has the tag.
    """
    tagged = [cell for cell in notebook.cells if PARAMETERS in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise NotebookError(f"{source}: {len(tagged)} cells are tagged {PARAMETERS!r}; tag one")
    (cell,) = tagged
    settings = config.model_dump_json()
    cell.source = f"from rlscape.settings.scale import Config\n\nconfig = Config.model_validate_json({settings!r})"


def execute(source: Path, config: Config, output: Path) -> None:
    """Run all cells in a new kernel and write the notebook with its outputs.

    Raises:
        NotebookError: the file is missing or has no parameters cell, or a cell failed; ``output`` is kept.
    """
    try:
        notebook = nbformat.read(source, as_version=4)
    except FileNotFoundError:
        raise NotebookError(f"{source}: no such notebook") from None
    set_config(notebook, config, str(source))
    here = {"metadata": {"path": str(Path.cwd())}}
    client = NotebookClient(notebook, kernel_name="python3", resources=here)
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookError(f"{source}: a cell failed\n{error}") from None
    with atomic(output) as path:
        nbformat.write(notebook, path)


def execute_notebook(notebook: Path, settings: Config, output: Path) -> None:
    """Write the notebook with its outputs."""
    execute(notebook, settings, output)


if __name__ == "__main__":
    run(execute_notebook)
