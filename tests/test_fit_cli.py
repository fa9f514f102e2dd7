"""The entries ``forecast``, ``fit`` and ``summarise_fits``, from metrics files to the table of arms."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.cli import fit, forecast, summarise_fits
from rlscape.files import read_json, write_json
from rlscape.scaling.sigmoid import sigmoid
from tests.entries import run_entry

SETTINGS = json.dumps({"bootstrap_draws": 10})
INITIAL = 0.4


def metrics(
    arm: str, seed: int, A: float, reach: float = 6.0, evaluations: int = 25, samples: int = 16_000
) -> pd.DataFrame:
    rng = np.random.default_rng([seed, len(arm)])
    compute = np.linspace(0, reach * 2542, evaluations + 1)
    rate = rng.binomial(samples, sigmoid(compute, A, 1.92, 2542, INITIAL)) / samples
    return pd.DataFrame(
        {
            "run": f"{arm}-s{seed}",
            "arm": arm,
            "seed": seed,
            "step": range(evaluations + 1),
            "compute": compute,
            "pass_rate": rate,
            "pass_rate_se": np.sqrt(rate * (1 - rate) / samples),
            "samples": samples,
        }
    )


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "evaluation.json"
    write_json(path, {"pass_rate": INITIAL, "standard_error": 0.004, "samples": 4000})
    return path


def make_forecast(table: pd.DataFrame, base: Path, monkeypatch: pytest.MonkeyPatch, name: str = "run") -> Path:
    path, output = base.parent / f"{name}.parquet", base.parent / "forecasts" / f"{name}.json"
    table.to_parquet(path, index=False)
    run_entry(forecast, monkeypatch, metrics=path, base_evaluation=base, settings=SETTINGS, output=output)
    return output


def make_fit(table: pd.DataFrame, base: Path, monkeypatch: pytest.MonkeyPatch, name: str = "run") -> Path:
    made, output = make_forecast(table, base, monkeypatch, name), base.parent / "fits" / f"{name}.json"
    run_entry(
        fit,
        monkeypatch,
        metrics=base.parent / f"{name}.parquet",
        forecast=made,
        base_evaluation=base,
        settings=SETTINGS,
        output=output,
    )
    return output


def test_forecast_file_is_blind_to_the_second_half(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = metrics("scalerl", 0, 0.61)
    honest = make_forecast(table, base, monkeypatch).read_bytes()
    table.loc[table["compute"] > table["compute"].max() / 2, ["pass_rate", "pass_rate_se"]] = [np.nan, -1.0]
    assert make_forecast(table, base, monkeypatch).read_bytes() == honest
    record = json.loads(honest)
    assert (record["run"], record["arm"], record["seed"], record["verdict"]) == (
        "scalerl-s0",
        "scalerl",
        0,
        "forecast",
    )
    table.loc[table["compute"] <= table["compute"].max() / 2, "pass_rate"] = 0.5
    assert make_forecast(table, base, monkeypatch).read_bytes() != honest


def test_from_metrics_to_the_table_of_arms(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ceilings = {"scalerl": 0.61, "deepseek_grpo": 0.49}
    fits = [
        make_fit(metrics(arm, seed, A), base, monkeypatch, f"{arm}-s{seed}")
        for arm, A in ceilings.items()
        for seed in range(3)
    ] + [make_fit(metrics("minimax", 0, 0.61), base, monkeypatch, "minimax-s0")]
    score = read_json(fits[0])["score"]
    assert score["points"] == 13 and score["mae"]["least_squares"] < 0.021 and score["skill"] > 0

    output = base.parent / "arms.parquet"
    run_entry(
        summarise_fits,
        monkeypatch,
        fits=fits,
        metrics=sorted(base.parent.glob("*-s*.parquet")),
        settings=SETTINGS,
        reference_arm="scalerl",
        output=output,
    )
    table = pd.read_parquet(output)
    assert list(table.columns) == ["arm", "quantity", "estimate", "low", "high", "seeds", "method"]
    rows = table.set_index(["arm", "quantity"])
    assert len(rows) == 3 * 7 and not rows.index.duplicated().any()
    for arm, A in ceilings.items():
        assert rows.loc[(arm, "A"), "estimate"] == pytest.approx(A, abs=0.01)
        assert rows.loc[(arm, "A"), "low"] < rows.loc[(arm, "A"), "estimate"] < rows.loc[(arm, "A"), "high"]
        assert rows.loc[(arm, "final_pass_rate"), "estimate"] == pytest.approx(A, abs=0.03)
        assert rows.loc[(arm, "R_0"), "estimate"] == INITIAL
    expected = 2542 * (0.7 / 0.3) ** (1 / 1.92)
    assert rows.loc[("scalerl", "C_tau"), "estimate"] == pytest.approx(expected, rel=0.05)
    never = rows.loc[("deepseek_grpo", "C_tau")]
    assert never["estimate"] == pytest.approx(6 * 2542) and never["high"] == np.inf
    assert "3 of 3 seeds do not reach" in never["method"]
    single = rows.loc[("minimax", "A")]
    assert single["seeds"] == 1 and np.isnan(single["low"]) and "one seed" in single["method"]


@pytest.mark.parametrize("evaluations", [2, 8])
def test_smoke_scale_noise_goes_through(evaluations: int, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = metrics("scalerl", 0, 0.4, evaluations=evaluations, samples=32)
    table["pass_rate_se"] = [0.0, np.nan] + [0.1] * (evaluations - 1)
    made = make_fit(table, base, monkeypatch)
    record = read_json(base.parent / "forecasts" / "run.json")
    assert record["verdict"] == "refused" and record["reason"]
    output = base.parent / "arms.parquet"
    run_entry(
        summarise_fits,
        monkeypatch,
        fits=[made],
        metrics=[base.parent / "run.parquet"],
        settings=SETTINGS,
        reference_arm="scalerl",
        output=output,
    )
    assert len(pd.read_parquet(output)) == 7


def broken(problem: str) -> pd.DataFrame:
    table = metrics("scalerl", 0, 0.61)
    if problem == "empty":
        return table.head(0)
    if problem == "column":
        return table.drop(columns="pass_rate")
    if problem == "short":
        return table.head(2)
    return table.assign(pass_rate=60.0 if problem == "percent" else np.nan)


@pytest.mark.parametrize(
    ("problem", "column", "remedy"),
    [
        ("empty", "'compute' has 0 evaluations", "run longer"),
        ("column", "no column 'pass_rate'", "add it"),
        ("short", "'compute' has 1 evaluations", "evaluate more often"),
        ("percent", "'pass_rate' leaves [0, 1]", "fraction"),
        ("nan", "'pass_rate' is not finite in 13 rows", "remove"),
    ],
)
def test_bad_metrics_give_one_clear_error_and_leave_earlier_results(
    problem: str,
    column: str,
    remedy: str,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    earlier = make_forecast(metrics("scalerl", 0, 0.61), base, monkeypatch)
    before = earlier.read_bytes()
    with pytest.raises(SystemExit):
        make_forecast(broken(problem), base, monkeypatch)
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    assert "run.parquet" in message and column in message and remedy in message
    assert earlier.read_bytes() == before and list(earlier.parent.iterdir()) == [earlier]


def test_missing_files_and_arms_are_named(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, output = metrics("scalerl", 0, 0.61), base.parent / "x.json"
    made = make_fit(table, base, monkeypatch)
    options = {"settings": SETTINGS, "output": output}
    run_parquet, absent = base.parent / "run.parquet", base.parent / "absent"
    not_parquet = base.parent / "text.parquet"
    not_parquet.write_text("step,compute\n")
    for metrics_file, base_file, expected in (
        (absent, base, "train the run first"),
        (not_parquet, base, "not a parquet file"),
        (run_parquet, absent, "evaluate the base model first"),
    ):
        with pytest.raises(SystemExit):
            run_entry(forecast, monkeypatch, metrics=metrics_file, base_evaluation=base_file, **options)
        assert expected in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_entry(
            summarise_fits,
            monkeypatch,
            fits=[made],
            metrics=[run_parquet],
            reference_arm="minimax",
            **options,
        )
    assert "no fit of the reference arm 'minimax'" in capsys.readouterr().err
    assert not output.exists()


def test_scaling_does_not_import_torch() -> None:
    code = "import sys, rlscape.cli.fit, rlscape.cli.summarise_fits; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
