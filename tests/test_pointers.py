"""Comments, docstrings and Markdown name only files, modules and attributes that exist."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "rlscape"
GENERATED = re.compile(r"results\b|figures/(?!gallery)")
"""What only the pipeline makes."""
SOURCES = (".py", ".smk", ".yaml", ".md", ".rst")
WORD = re.compile(r"[^\s`'\"()\[\],;|=]+")
PLACEHOLDER = re.compile(r"[<>{}*$]|://")
MODULE = re.compile(rf"(?<![\w./-]){PACKAGE}(?:\.\w+)+")
ROLE = re.compile(rf":(?:mod|class|func|meth|data|attr|exc):`~?(?!{PACKAGE}\.)([\w.]+)`")
"""A name of the module that says it, or of one beside it."""


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that people read: all of a text, comments and docstrings of a program."""
    text = file.read_text()
    if file.suffix in (".md", ".rst"):
        yield from enumerate(text.splitlines(), 1)
    elif file.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Expr(ast.Constant(str(docstring))):
                    yield from enumerate(docstring.splitlines(), node.lineno)
    else:
        yield from ((number, line.partition("#")[2]) for number, line in enumerate(text.splitlines(), 1))


@cache
def names_of(module: Path) -> dict[str, str]:
    """What a module and its classes define or import, each with the dotted name that it is imported by, if it is."""
    names: dict[str, str] = {}
    nodes: list[ast.AST] = [ast.parse(module.read_text())] if module.exists() else []
    while nodes:
        node = nodes.pop()
        match node:
            case ast.FunctionDef():
                attributes = [
                    inner.attr
                    for inner in ast.walk(node)
                    if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store)
                ]
                names |= dict.fromkeys([node.name, *attributes], "")
                continue  # its variables are nobody else's
            case ast.ClassDef():
                names[node.name] = ""
            case ast.Name(name, ast.Store()):
                names[name] = ""
            case ast.Import() | ast.ImportFrom():
                source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                names |= {alias.asname or alias.name: source + alias.name for alias in node.names}
        nodes += ast.iter_child_nodes(node)
    return names


def is_there(path: Path) -> bool:
    """Whether there is such a file, or a directory that holds more than caches of what was in it."""
    return path.is_file() or any(file.is_file() and "__pycache__" not in file.parts for file in path.rglob("*"))


def is_defined(name: str, place: Path, source: Path) -> bool:
    """Whether the dotted ``name`` leads to something, from the directory of a package or the file of a module."""
    first, _, rest = name.partition(".")
    for inner in (place / first, place / f"{first}.py"):
        if is_there(inner):
            return not rest or is_defined(rest, inner, source)
    names = names_of(place / "__init__.py" if place.is_dir() else place)
    if rest and names.get(first):
        imported = f"{names[first]}.{rest}"
        return not imported.startswith(f"{PACKAGE}.") or is_defined(imported, source, source)
    return all(part in names for part in name.split("."))


def dead_pointers(root: Path) -> list[str]:
    """``file:line: pointer`` for each that leads nowhere."""
    source = root / "src"
    top = [path for path in root.iterdir() if not path.name.startswith(".") and path.name != "results"]
    tree = [file for path in top for file in ([path] if path.is_file() else path.rglob("*"))]
    file_names = {file.name for file in tree}
    heads = {path.name for path in top} | {PACKAGE}

    def exists(word: str, file: Path) -> bool:
        word, *placeholder = PLACEHOLDER.split(word, maxsplit=1)
        if placeholder:
            word = word.rpartition("/")[0]
        head, slash, _ = word.partition("/")
        if GENERATED.match(word) or not (word.endswith(SOURCES) or (slash and head in heads)):
            return True  # no pointer
        return is_there(root / word) or is_there(file.parent / word) if slash else word in file_names

    found = []
    for file in sorted(file for file in tree if file.suffix in SOURCES or file.name in ("Snakefile", "Makefile")):
        for line, text in prose(file):
            words = [word.partition("#")[0].rstrip(".:") for word in WORD.findall(text)]
            dead = [word for word in words if not exists(word, file)]
            dead += [name for name in MODULE.findall(text) if not is_defined(name, source, source)]
            local = [name for name in ROLE.findall(text) if not is_defined(name, file, source)]
            dead += [name for name in local if not is_defined(name, file.parent, source)]
            found += [f"{file.relative_to(root)}:{line}: {pointer}" for pointer in dead]
    return found


def test_what_comments_docstrings_and_markdown_point_to_exists(repository: Path) -> None:
    dead = dead_pointers(repository)
    assert not dead, "\n".join(dead)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    files = {
        "Snakefile": 'report: "old.md"\n# in config/old.yaml\n',
        "config/a.yaml": "key: old.md  # in config/old.yaml\n",
        "README.md": "in config/old.yaml, config/a.yaml\n",
        "src/rlscape/a.py": "from rlscape.inner.deep import B\n",
        "src/rlscape/moved/__pycache__/x.pyc": "",
        "src/rlscape/inner/deep.py": "class B:\n    size: int\n    def of(self):\n        local = self.kept = 0\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_comments_of_programs_and_all_of_a_text_are_read(small: Path) -> None:
    (small / "src" / "rlscape" / "a.py").write_text('x = "old.md"  # old.md\n"""of x,\nold.md"""\n')
    assert dead_pointers(small) == [
        "README.md:1: config/old.yaml",
        "Snakefile:2: config/old.yaml",
        "config/a.yaml:1: config/old.yaml",
        "src/rlscape/a.py:1: old.md",
        "src/rlscape/a.py:3: old.md",
    ]


@pytest.mark.parametrize(
    "pointer",
    [
        *("config/", "deep.py", "inner/deep.py", "src/rlscape/a.py#L1", "src/rlscape/inner/<name>.py"),
        *("results/old.md", "<results>/old.md", "figures/small/old.md", "https://example.org/config/old.md", "and/or"),
        *("rlscape.inner", "rlscape.inner.<name>", "rlscape.inner.deep.B.size", ":attr:`~rlscape.a.B.kept`"),
        *(":mod:`inner`", ":class:`B`", ":meth:`B.of`"),
    ],
)
def test_what_is_there_or_will_be_made_is_not_dead(pointer: str, small: Path) -> None:
    (small / "src" / "rlscape" / "b.py").write_text(f"from rlscape.a import B  # see {pointer}.\n")
    assert not [found for found in dead_pointers(small) if found.startswith("src/")]


@pytest.mark.parametrize(
    "pointer",
    [
        *("config/old/", "old.py", "inner/old.py", "rlscape/inner/", "figures/gallery/old.md", "src/old/<name>.py"),
        *("src/rlscape/moved/", "rlscape.moved"),
        *("rlscape.old", "rlscape.inner.deep.B.old", "rlscape.inner.deep.local", "rlscape.a.B.old"),
        *(":mod:`old`", ":class:`A`", ":meth:`B.old`"),
    ],
)
def test_what_is_not_there_is_dead(pointer: str, small: Path) -> None:
    (small / "src" / "rlscape" / "b.py").write_text(f"from rlscape.a import B  # see {pointer}.\n")
    assert len([found for found in dead_pointers(small) if found.startswith("src/rlscape/b.py:1: ")]) == 1
