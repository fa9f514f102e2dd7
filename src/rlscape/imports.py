"""Which files of this package a module uses: those whose digest Snakemake rules take as the parameter ``code``.

Found by reading import statements, also those inside functions. Nothing is executed, and the list cannot
fall behind the code: a module that gains an import gains a dependency.
"""

import ast
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = "rlscape"
COMPILED = (".cpp", ".h")

DATA_MODULES = frozenset(
    {
        *("settings.base_model", "settings.measurement", "settings.precision", "settings.recipe", "settings.run"),
        *("settings.scale", "settings.training", "tasks.registry"),
        *("catalogue.off_principals", "catalogue.pilots", "catalogue.recipes", "catalogue.scalerl"),
    }
)
"""Modules of settings and of tables of them, and nothing that a job calls. What they say reaches a rule resolved,
through its other parameters, so that adding an arm, a field or a task reruns nothing, while a changed number reruns
just the rules whose settings contain it."""


def source_files(package: Path, modules: Iterable[str], leave_out: Collection[str] = ()) -> list[Path]:
    """The files of some modules and of everything in the package that they import, sorted.

    What is compiled counts with every module beside it.

    Args:
        package: the package's directory, ``.../src/rlscape``.
        modules: names without the package's, e.g. ``pipeline.fit_curve``.
        leave_out: modules that do not count, nor what only they import.

    Raises:
        ValueError: one of ``modules`` does not exist.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    for module in waiting:
        if _file_of(package, module) is None:
            raise ValueError(f"{package}: no module {module}")
    while waiting:
        module = waiting.pop()
        file = _file_of(package, module)
        if file is None or module in found or module in leave_out:
            continue
        found[module] = file
        parent, _, _ = module.rpartition(".")
        waiting += [parent, *imported_modules(file)] if parent else imported_modules(file)
    beside = {source for file in found.values() for suffix in COMPILED for source in file.parent.glob(f"*{suffix}")}
    return sorted({*found.values(), *beside})


def _file_of(package: Path, module: str) -> Path | None:
    path = package.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@cache
def imported_modules(file: Path) -> list[str]:
    """What a file may import from the package, without its name; of ``from rlscape.rl import losses``, two."""
    return list(_read_imports(ast.parse(file.read_text(), str(file))))


def _read_imports(tree: ast.AST) -> Iterator[str]:
    """Candidates: of ``from rlscape.rl import losses`` both ``rl`` and ``rl.losses``."""
    prefix = f"{PACKAGE}."
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.removeprefix(prefix) for name in node.names if name.name.startswith(prefix))
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(prefix):
            module = (node.module or "").removeprefix(prefix)
            yield module
            yield from (f"{module}.{name.name}" for name in node.names)
