"""The entries ``fit_curve`` and ``summarise_fits``, from metrics files to the table of arms."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import runs_of
from rlscape.files import read_json, write_json
from rlscape.pipeline.fit_curve import fit_curve
from rlscape.pipeline.summarise_fits import summarise_fits
from rlscape.results import curves as results
from rlscape.scaling import curves
from rlscape.scaling.arms import RunFit, read_ends, summarise_arms
from rlscape.scaling.sigmoid import sigmoid
from rlscape.scaling.sigmoid_fit import SigmoidFit
from rlscape.scaling.windows import WINDOWS, WindowFit
from tests.entries import run_entry
from tests.synthetic import Run, small_config, write_scalerl_results

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


def outputs(base: Path, name: str = "run") -> tuple[Path, Path]:
    return base.parent / "forecasts" / f"{name}.json", base.parent / "fits" / f"{name}.json"


def make_fit(
    table: pd.DataFrame, base: Path, monkeypatch: pytest.MonkeyPatch, name: str = "run", **options: object
) -> Path:
    """Run the entry on a table; returns the fit's file."""
    path, (forecast, output) = base.parent / f"{name}.parquet", outputs(base, name)
    table.to_parquet(path, index=False)
    files = {"metrics": path, "base_evaluation": base, "forecast": forecast, "output": output}
    files |= {"task": "math", "prefix": ""}
    run_entry(fit_curve, monkeypatch, settings=SETTINGS, **(files | options))
    return output


def test_forecast_file_is_blind_to_the_second_half(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, (forecast, fitted) = metrics("scalerl", 0, 0.61), outputs(base)
    make_fit(table, base, monkeypatch)
    honest, whole = forecast.read_bytes(), fitted.read_bytes()
    record = json.loads(honest)
    assert [record[key] for key in ("run", "arm", "seed", "verdict")] == ["scalerl-s0", "scalerl", 0, "forecast"]
    later = table["compute"] > table["compute"].max() / 2
    make_fit(table.assign(pass_rate=table["pass_rate"].where(~later, 0.1)), base, monkeypatch)
    assert forecast.read_bytes() == honest and fitted.read_bytes() != whole
    make_fit(table.assign(pass_rate=table["pass_rate"].where(later, 0.5)), base, monkeypatch)
    assert forecast.read_bytes() != honest


def test_forecast_is_on_disk_before_later_rows_are_read(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, (forecast, fitted) = metrics("scalerl", 0, 0.61), outputs(base)
    make_fit(table, base, monkeypatch)
    honest = forecast.read_bytes()
    forecast.unlink(), fitted.unlink()
    read_table, last_rate = curves.read_table, []

    def watched(path: Path, columns: tuple[str, ...], filters: list | None = None) -> pd.DataFrame:
        read = read_table(path, columns, filters)
        if "pass_rate" in columns:
            last_rate.append((read["compute"].max(), forecast.exists()))
        return read

    monkeypatch.setattr(curves, "read_table", watched)
    make_fit(table, base, monkeypatch)
    end = table["compute"].max()
    assert last_rate == [(table.loc[table["compute"] <= end / 2, "compute"].max(), False), (end, True)]
    fitted.unlink()
    broken_later = table.assign(pass_rate=table["pass_rate"].where(table["compute"] <= end / 2))
    with pytest.raises(SystemExit):
        make_fit(broken_later, base, monkeypatch)
    assert forecast.read_bytes() == honest and not fitted.exists()


def test_code_has_columns_and_a_start_of_its_own(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(base, read_json(base) | {"code_pass_rate": 0.2, "code_standard_error": 0.004, "code_samples": 4000})
    table, rng = metrics("math_and_code", 0, 0.61), np.random.default_rng(0)
    rate = rng.binomial(16_000, sigmoid(table["compute"], 0.5, 1.92, 2542, 0.2)) / 16_000
    error = np.sqrt(rate * (1 - rate) / 16_000)
    table = table.assign(code_pass_rate=rate, code_pass_rate_se=error, code_samples=16_000)
    expected = {("math", ""): (0.61, INITIAL), ("code", "code_"): (0.5, 0.2)}
    for (task, prefix), (A, R_0) in expected.items():
        record = read_json(make_fit(table, base, monkeypatch, task=task, prefix=prefix))
        made = read_json(outputs(base)[0])
        assert record["task"] == made["task"] == task
        for fitted in (record["fitted"], made["fitted"]):
            assert fitted["fits"]["least_squares"]["A"] == pytest.approx(A, abs=0.02)
            assert fitted["fits"]["least_squares"]["R_0"] == R_0


def test_fit_has_both_forms_in_every_window(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = read_json(make_fit(metrics("scalerl", 0, 0.61, evaluations=20), base, monkeypatch))
    made = [WindowFit.from_dict(fit) for fit in record["windows"]]
    assert [(fit.low, fit.high, fit.form) for fit in made] == [
        (*window, form) for window in WINDOWS for form in ("sigmoid", "power_law")
    ]
    whole = SigmoidFit.from_dict(record["fitted"]["fits"]["least_squares"])
    of_all = next(fit for fit in made if (fit.form, fit.low, fit.high) == ("sigmoid", 0, 1))
    assert (of_all.A, of_all.B, of_all.C_mid, of_all.points) == (whole.A, whole.B, whole.C_mid, 20)


def test_results_of_a_task_are_those_of_arms_that_have_it(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds={"scalerl": 1, "math_and_code": 2})
    write_scalerl_results(config, {"scalerl": Run(fails=True), "math_and_code": Run(A=0.7, code_A=0.6)}, spread=0)
    arms = ["scalerl", "math_and_code"]
    assert [round(run.fit.A, 6) for run in results.fits(config, arms, "code")] == [0.6, 0.6]
    assert [run.fit.A for run in results.fits(config, arms)][1:] == [0.7, 0.7]
    for read in (results.forecasts, results.forecast_scores):
        assert list(read(config, arms, "code")) == runs_of(config, ["math_and_code"])
        assert list(read(config, arms)) == runs_of(config, arms)
    table = results.windows(config, arms)
    assert len(table) == 3 * 2 * len(WINDOWS)
    failed = table[table["arm"] == "scalerl"]
    assert failed["A"].isna().all() and (failed["reason"] == "made to fail").all()
    assert table[table["arm"] == "math_and_code"]["A"].min() == pytest.approx(0.7, abs=0.005)


def test_C_tau_is_not_given_for_another_base(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = [make_fit(metrics("scalerl", 0, 0.61), base, monkeypatch, "scalerl-s0")]
    write_json(base, {"pass_rate": 0.41, "standard_error": 0.004, "samples": 4000})
    fits.append(make_fit(metrics("moe", 0, 0.61), base, monkeypatch, "moe-s0"))
    rows = summarise_arms([RunFit.from_record(read_json(path)) for path in fits], read_ends([]), "scalerl").set_index(
        ["arm", "quantity"]
    )
    assert rows.loc[("scalerl", "C_tau"), "seeds"] == 1
    other = rows.loc[("moe", "C_tau")]
    assert np.isnan(other["estimate"]) and other["seeds"] == 0 and "another base" in other["method"]
    assert rows.loc[("moe", "A"), "estimate"] == pytest.approx(0.61, abs=0.02)


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
    make_fit(metrics("scalerl", 0, 0.61), base, monkeypatch)
    before = {path: path.read_bytes() for path in outputs(base)}
    with pytest.raises(SystemExit):
        make_fit(broken(problem), base, monkeypatch)
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    assert "run.parquet" in message and column in message and remedy in message
    for path, content in before.items():
        assert path.read_bytes() == content and list(path.parent.iterdir()) == [path]


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
            run_entry(
                fit_curve,
                monkeypatch,
                task="math",
                prefix="",
                metrics=metrics_file,
                base_evaluation=base_file,
                forecast=base.parent / "y.json",
                **options,
            )
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
    code = "import sys, rlscape.pipeline.fit_curve, rlscape.pipeline.summarise_fits; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
