"""Calling the entries of ``rlscape.pipeline`` as rules do."""

import sys
from collections.abc import Callable

import pytest

from rlscape.pipeline.entry import run


def run_entry(rule: Callable[..., None], monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    """Run a rule's function with ``--option value`` for each of ``options``; bad input raises SystemExit(1)."""
    arguments = []
    for name, value in options.items():
        arguments += [
            f"--{name.replace('_', '-')}",
            *(map(str, value) if isinstance(value, list) else [str(value)]),
        ]
    monkeypatch.setattr(sys, "argv", [rule.__name__, *arguments])
    run(rule)
