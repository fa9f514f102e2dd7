"""Calling the entries of ``rlscape.cli`` as rules do."""

import sys
from types import ModuleType

import pytest

from rlscape.errors import fail_clearly


def run_entry(entry: ModuleType, monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    """Run an entry with ``--option value`` for each of ``options``; bad input raises SystemExit(1)."""
    arguments = []
    for name, value in options.items():
        arguments += [
            f"--{name.replace('_', '-')}",
            *(map(str, value) if isinstance(value, list) else [str(value)]),
        ]
    monkeypatch.setattr(sys, "argv", [entry.__name__, *arguments])
    fail_clearly(entry.main)
