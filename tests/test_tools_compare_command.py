"""``rlscape compare`` on the command line: recipes, text, JSON, plots and errors."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.cli.compare import describe, split_recipe
from rlscape.cli.main import main
from rlscape.errors import MetricsError
from rlscape.tools.curves.log_comparison import LogComparison, compare_logs
from rlscape.tools.curves.logs import Log
from tests.two_recipes import quantity, simulated


def test_recipes_on_the_command_line(tmp_path: Path) -> None:
    odd = tmp_path / "lr=1e-6,b.csv"
    odd.write_text("")
    assert split_recipe(str(odd)) == ("", [odd])
    assert split_recipe("a=x.csv,y.csv") == ("a", [Path("x.csv"), Path("y.csv")])
    assert split_recipe(f"a={odd}") == ("a", [odd])
    assert split_recipe("x.csv") == ("", [Path("x.csv")])
    for text in ("a=", "=x.csv"):
        with pytest.raises(MetricsError, match="NAME=FILE"):
            split_recipe(text)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``rlscape compare`` in this process: exit code, standard output and standard error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rlscape", "compare", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def write(log: Log, path: Path) -> Path:
    frames = [
        pd.DataFrame({"compute": r.x, "pass_rate": r.y, "samples": r.samples, "seed": r.name}) for r in log.series
    ]
    pd.concat(frames).to_csv(path, index=False)
    return path


def test_command(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    rng = np.random.default_rng(11)
    first = write(simulated(rng, runs=2), tmp_path / "grpo.csv")
    second = write(simulated(rng, runs=2, A=0.8), tmp_path / "cispo.csv")
    plot = tmp_path / "plots" / "compare.svg"
    code, text, notes = command(first, f"mine={second}", "--plot", plot)
    assert code == 0, notes
    assert "mine against grpo" in text and "paired t over 2 seeds" in text
    assert "note: grpo: x: column 'compute'" in notes and "<svg" in plot.read_text()
    values = json.loads(command(first, second, "--json")[1])
    assert [recipe["name"] for recipe in values["recipes"]] == ["grpo", "cispo"]
    assert {found["name"] for found in values["pairs"][0]["quantities"]} == {"A", "value", "B", "compute"}


def test_command_takes_one_file_apart(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    rng = np.random.default_rng(12)
    path = write(simulated(rng, runs=3, name="variant {}"), tmp_path / "runs.csv")
    code, text, notes = command(path)
    assert code == 0, notes
    assert "variant 2 against variant 0" in text


def test_command_refuses_what_it_cannot_compare(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    log = simulated(np.random.default_rng(13))
    path = write(log, tmp_path / "a.csv")
    for arguments, part in (
        ((path,), "name another to compare it with"),
        ((path, tmp_path / "absent.csv"), "absent.csv: no such file"),
        ((f"a={path}", f"a={path}"), "two recipes have this name"),
        ((path, f"b={path}", "--plot", "x.pdf"), ".png or .svg"),
    ):
        code, text, message = command(*arguments)
        assert code == 1 and part in message and not text


def test_text_says_what_could_have_been_shown() -> None:
    rng = np.random.default_rng(14)
    comparison: LogComparison = compare_logs({"a": simulated(rng), "b": simulated(rng)})
    found = quantity(comparison.pairs[0], "A")
    text = describe(comparison)
    assert f"no difference shown (could have shown one of {found.detectable:.2g})" in text
    assert "seed-to-seed variation is not included" in text
