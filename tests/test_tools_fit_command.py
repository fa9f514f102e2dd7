"""``rlscape fit`` on the command line: text, JSON, plots, exit codes and speed."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.cli.fit import describe
from rlscape.cli.main import main
from rlscape.tools.curves.log_fit import FitOptions, fit_log
from tests.one_recipe import TRUE, curve, fit, grid, holds, log_of, observed


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of ``rlscape fit`` in this process."""
    monkeypatch.setattr(sys, "argv", ["rlscape", "fit", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "run.csv"
    pd.DataFrame({"compute": grid(), "pass_rate": observed(curve(grid()))}).to_csv(path, index=False)
    return path


def test_json_is_all_of_the_output_and_a_plot_is_drawn(csv: Path, tmp_path: Path, monkeypatch, capsys):
    assert command(monkeypatch, csv, "--samples", 16000, "--json", "--plot", tmp_path / "fit.png") == 0
    printed = capsys.readouterr()
    values = json.loads(printed.out)
    assert values["verdict"] == "forecast" and values["A"].keys() == {"estimate", "low", "high"}
    assert values["forecast"][0].keys() == {"compute", "low", "estimate", "high"}
    assert values["residual_correlation"] is None  # one run
    assert values["A"]["low"] < TRUE["A"] < values["A"]["high"]
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert "one run" in printed.err


def test_plots_of_every_verdict(tmp_path: Path):
    from rlscape.tools.curves.plots import draw_fit, save

    logs = {
        "forecast": log_of(grid(), observed(curve(grid())), observed(curve(grid()), 1)),
        "refused": log_of(grid(0.1, 1.0), observed(curve(grid(0.1, 1.0)))),
        "flat": log_of(grid(), observed(np.full(75, 0.5))),
    }
    for verdict, log in logs.items():
        report = fit_log(log, FitOptions())
        figure = draw_fit(log, report)
        (axes,) = figure.axes
        assert axes.get_title(loc="left").startswith(f"{report.verdict}: ") and report.verdict == verdict
        assert axes.get_xlim()[1] > (15000 if verdict == "forecast" else 0)
        for name in ("first.svg", "second.svg"):
            save(draw_fit(log, report), tmp_path / name)
        assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


def test_exit_codes(csv: Path, monkeypatch, capsys):
    assert command(monkeypatch, csv, "--bounds", "0", "0.5") == 1
    assert command(monkeypatch, csv, "--plot", "fit.gif") == 1
    assert ".png or .svg" in capsys.readouterr().err
    assert command(monkeypatch, csv, "--confidence", "high") == 2
    assert command(monkeypatch, csv) == 0


def test_text_has_the_verdict_first_and_says_what_there_is_not():
    text = describe(fit(observed(curve(grid()))))
    assert text.startswith("verdict: forecast") and "straight line in log compute" in text
    for report in (fit(np.full(75, 0.5)), fit(curve(grid(points=4)), grid(points=4)), fit(curve(grid())[::-1])):
        assert describe(report).startswith(f"verdict: {report.verdict}")
        assert "nan" not in describe(report)


def test_a_fit_takes_less_than_a_second_and_a_million_rows_little_more():
    x = np.arange(1, 1000001.0)
    log = log_of(x, observed(curve(x / 250), samples=16), samples=16)
    started = time.process_time()
    report = fit_log(log, FitOptions())
    assert time.process_time() - started < 2.5
    assert report.verdict == "forecast" and holds(report.A, TRUE["A"])
    assert any("1000000 rows" in note for note in report.notes)
