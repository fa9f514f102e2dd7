"""The house: who may import whom, what is left out of the digests that decide about reruns, and how long a file is."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from rlscape.imports import DATA_MODULES, imported_modules
from rlscape.schema import Settings

ROOMS = (
    *("errors", "files", "imports", "machine", "random_matrices", "schema", "tasks", "settings", "paths", "catalogue"),
    *("kernels", "models", "geometry", "rl", "training", "scaling", "results", "claims", "figures"),
    *("power", "gallery", "tools", "pipeline", "cli"),
)
"""From the ground up: a room may import from those before it."""
VALIDATORS = {"field_validator", "model_validator"}
LONGEST = 400
"""Lines of a file."""


@pytest.fixture
def package(repository: Path) -> Path:
    return repository / "src" / "rlscape"


def modules_of(package: Path) -> dict[str, Path]:
    names = {".".join(file.relative_to(package).with_suffix("").parts): file for file in package.rglob("*.py")}
    return {name.removesuffix(".__init__"): file for name, file in names.items() if name != "__init__"}


def edges_of(package: Path) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports; a package's own front page is no edge of its modules."""
    modules = modules_of(package)
    return {name: {other for other in imported_modules(file) if other in modules} for name, file in modules.items()}


def test_no_import_runs_back(package: Path) -> None:
    edges = edges_of(package)
    assert {name.partition(".")[0] for name in edges} == set(ROOMS)
    floor = {room: index for index, room in enumerate(ROOMS)}
    back = {
        f"{name} imports {other}"
        for name, others in edges.items()
        for other in others
        if floor[other.partition(".")[0]] > floor[name.partition(".")[0]]
    }
    assert not back


def test_no_modules_import_each_other_in_a_circle(package: Path) -> None:
    edges = edges_of(package)
    done: set[str] = set()

    def follow(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for other in edges[name] - {name.rpartition(".")[0]}:
                follow(other, (*path, name))
            done.add(name)

    for name in edges:
        follow(name, ())


def statements(package: Path, module: str) -> Iterator[ast.stmt]:
    yield from ast.parse(modules_of(package)[module].read_text()).body


@pytest.mark.parametrize("module", sorted(DATA_MODULES))
def test_what_is_left_out_of_digests_defines_nothing_that_a_job_calls(package: Path, module: str) -> None:
    """Public functions and methods would be logic: edited, they would change results, and nothing would run again."""
    for statement in statements(package, module):
        if isinstance(statement, ast.FunctionDef):
            assert statement.name.startswith("_"), statement.name
        if isinstance(statement, ast.ClassDef):
            assert issubclass(getattr(import_module(f"rlscape.{module}"), statement.name), Settings)
            for part in statement.body:
                assert isinstance(part, ast.AnnAssign | ast.Expr | ast.FunctionDef), ast.unparse(part)
                if isinstance(part, ast.FunctionDef):
                    decorators = {ast.unparse(decorator).partition("(")[0] for decorator in part.decorator_list}
                    assert decorators & VALIDATORS, f"{statement.name}.{part.name}"


def test_what_jobs_take_from_modules_left_out_are_types(package: Path) -> None:
    """Tables and numbers reach a job resolved, through the catalogue; only the tasks' own are looked up by name."""
    looks_up = {"catalogue", "settings", "tasks"}
    for name, file in modules_of(package).items():
        for node in ast.walk(ast.parse(file.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) and node.module else ""
            if module.removeprefix("rlscape.") in DATA_MODULES and name.partition(".")[0] not in looks_up:
                for alias in node.names:
                    taken = getattr(import_module(module), alias.name)
                    assert alias.name == "TASKS" or is_type(taken), f"{name} takes {alias.name} from {module}"


def is_type(value: object) -> bool:
    """A class, or what ``typing`` makes: Literal, Annotated."""
    return isinstance(value, type) or type(value).__module__ == "typing"


def test_who_looks_up_tasks_makes_their_problems_too(package: Path) -> None:
    """Digests of jobs that make problems must name their tasks; ``tasks.sets`` is how they are told.

    The catalogue asks of what kind a task is, and makes none.
    """
    for name, others in edges_of(package).items():
        text = modules_of(package)[name].read_text()
        if "TASKS[" in text and name not in ("catalogue.resolve", "settings.reading", "tasks.registry", "tasks.sets"):
            assert "tasks.sets" in others, name


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "workflow"])
def test_no_file_is_long(repository: Path, folder: str) -> None:
    files = [file for pattern in ("*.py", "*.smk") for file in (repository / folder).rglob(pattern)]
    lengths = {str(file.relative_to(repository)): len(file.read_text().splitlines()) for file in files}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}
