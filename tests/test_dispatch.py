"""A value that a setting may have does something of its own: one that is new and has no branch is found.

A choice is a field of settings whose type is a ``Literal`` of words. The package may act on it by

- a ``match`` that names every value and ends in ``assert_never``, which mypy checks too,
- a module's table, annotated ``dict[<the Literal>, ...]``, with every value as a key, or
- settings with a field for every value (``getattr``),

but not by an ``if``, whose other branch would take any new value.
"""

import ast
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

import rlscape
from rlscape.rl.losses import loss_named
from rlscape.settings.recipe import Loss

Values = frozenset[str]

MODULES = {
    info.name: importlib.import_module(info.name) for info in pkgutil.walk_packages(rlscape.__path__, "rlscape.")
}
TREES = {name: ast.parse(Path(str(module.__file__)).read_text()) for name, module in MODULES.items()}


def literals(annotation: Any) -> Iterator[Values]:
    """The Literals of words in a type, however deep."""
    if get_origin(annotation) is Literal:
        values = frozenset(value for value in get_args(annotation) if isinstance(value, str))
        if len(values) > 1:
            yield values
    else:
        for part in get_args(annotation):
            yield from literals(part)


def subclasses(kind: type) -> Iterator[type]:
    for found in kind.__subclasses__():
        yield found
        yield from subclasses(found)


SETTINGS = [kind for kind in subclasses(BaseModel) if kind.__module__ in MODULES]
CHOICES: dict[str, Values] = {
    f"{kind.__name__}.{name}": values
    for kind in SETTINGS
    for name, field in kind.model_fields.items()
    for values in literals(field.annotation)
}
"""Class and field -> its values."""


def tables(module: ModuleType) -> dict[str, tuple[Values, Values]]:
    """A module's tables by choice: name -> (keys that the type allows, keys that there are)."""
    found = {}
    for name, annotation in getattr(module, "__annotations__", {}).items():
        if get_origin(annotation) in (dict, Mapping) and get_origin(get_args(annotation)[0]) is Literal:
            found[name] = frozenset(get_args(get_args(annotation)[0])), frozenset(getattr(module, name))
    return found


def words(node: ast.AST) -> Values:
    return frozenset(each.value for each in ast.walk(node) if isinstance(each, ast.Constant))


def matches(tree: ast.AST) -> Iterator[tuple[int, Values, bool]]:
    """Of every ``match`` on words: its line, the words of its cases, and whether the last case is ``assert_never``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Match):
            patterns = [case.pattern for case in node.cases]
            named = [each for each in patterns if isinstance(each, ast.MatchValue | ast.MatchOr)]
            last = ast.unparse(node.cases[-1])
            yield node.lineno, frozenset().union(*map(words, named)), last.startswith("case _:\n    assert_never(")


def comparisons(tree: ast.AST, module: ModuleType) -> Iterator[tuple[int, str]]:
    """Every ``if`` that compares a choice with one of its values; a refusal (nothing but ``raise``) is none."""
    by_name: dict[str, set[str]] = {}
    """Of fields, as ``.field``, and of parameters whose type is a choice."""
    for field, values in CHOICES.items():
        by_name.setdefault("." + field.partition(".")[2], set()).update(values)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and isinstance(node.annotation, ast.Name):
            for values in literals(getattr(module, node.annotation.id, None)):
                if values in CHOICES.values():
                    by_name.setdefault(node.arg, set()).update(values)
    for node in ast.walk(tree):
        if not isinstance(node, ast.If | ast.IfExp):
            continue
        if isinstance(node, ast.If) and not node.orelse and isinstance(node.body[0], ast.Raise):
            continue
        for test in (each for each in ast.walk(node.test) if isinstance(each, ast.Compare)):
            for side in (test.left, *test.comparators):
                name = f".{side.attr}" if isinstance(side, ast.Attribute) else ast.unparse(side)
                if by_name.get(name, set()) & words(test):
                    yield test.lineno, ast.unparse(test)


def dispatched() -> set[Values]:
    """Sets of values on each of which the package acts in a way that covers all of them."""
    found = {keys for module in MODULES.values() for allowed, keys in tables(module).values() if allowed == keys}
    found |= {values for tree in TREES.values() for _, values, exhaustive in matches(tree) if exhaustive}
    fields = [set(kind.model_fields) for kind in SETTINGS]
    return found | {values for values in CHOICES.values() if any(values <= names for names in fields)}


OF_THE_WORKFLOW = {"Figure.measurements"}
"""Choices that name files: Snakemake stops where no rule makes one."""
FUNCTIONS = {"Recipe.loss"}
"""Choices that name functions, see below."""


@pytest.mark.parametrize("choice", sorted(CHOICES.keys() - OF_THE_WORKFLOW - FUNCTIONS))
def test_every_value_of_a_choice_has_a_branch(choice: str) -> None:
    assert CHOICES[choice] in dispatched(), f"nothing covers exactly {sorted(CHOICES[choice])}"


@pytest.mark.parametrize("name", MODULES)
def test_tables_have_every_key_that_their_type_allows(name: str) -> None:
    for table, (allowed, keys) in tables(MODULES[name]).items():
        assert allowed == keys, f"{table}: {sorted(allowed ^ keys)}"


@pytest.mark.parametrize("name", MODULES)
def test_a_match_on_a_choice_names_every_value_and_no_other(name: str) -> None:
    for line, values, exhaustive in matches(TREES[name]):
        if exhaustive or (values and any(values <= choice for choice in CHOICES.values())):
            assert exhaustive, f"{name}:{line}: end the match with `case _: assert_never(...)`"
            assert values in CHOICES.values(), f"{name}:{line}: {sorted(values)} are the values of no setting"


@pytest.mark.parametrize("name", MODULES)
def test_no_if_asks_for_one_value_and_takes_all_others_alike(name: str) -> None:
    assert not list(comparisons(TREES[name], MODULES[name]))


SOURCE = """
def function(settings, optimizer: Optimizer):
    {body}
"""


@pytest.mark.parametrize(
    "body",
    [
        "return 1 if settings.storage == 'bf16' else 2",
        "return 1 if settings.data in ('self', 'likeliest') else 2",
        "return 1 if optimizer != 'sgd' else 2",
        "return 1 if settings.mask and settings.kind == 'lora' else 2",
    ],
)
def test_an_if_on_a_choice_is_found(body: str) -> None:
    assert list(comparisons(ast.parse(SOURCE.format(body=body)), MODULES["rlscape.settings.run"]))


def test_every_loss_is_the_function_of_its_name() -> None:
    assert [loss_named(loss).__name__ for loss in get_args(Loss)] == list(get_args(Loss))


def test_a_loss_without_its_function_is_an_error_that_names_both() -> None:
    with pytest.raises(NotImplementedError, match="Recipe.loss may be 'new'.*rlscape.rl.losses has no function new"):
        loss_named("new")


def test_a_match_that_lacks_a_value_is_found() -> None:
    source = """
match settings.optimizer:
    case "adamw":
        pass
    case _:
        assert_never(settings.optimizer)
"""
    (_, values, exhaustive), *_ = matches(ast.parse(source))
    assert exhaustive and values not in CHOICES.values()
