"""The core-seconds of a pipeline, from made-up recordings; nothing is timed or trained."""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import pipeline
from rlscape.errors import fail_clearly

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"


def write_recording(results: Path, name: str, seconds: object, rss: object, cpu: object) -> None:
    file = results / "benchmarks" / f"{name}.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{HEADER}\n{seconds}\t0:00:00\t{rss}\t1\t1\t1\t0\t0\t50\t{cpu}\n")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_recording(tmp_path, "pretrain_base/dense", 60.0, 500.0, 45.0)
    write_recording(tmp_path, "train_rl/scalerl-s0", 100.0, 1000.0, 80.0)
    write_recording(tmp_path, "train_rl/scalerl-s1", 140.0, 1200.0, 112.0)
    write_recording(tmp_path, "train_rl/fp32_head-s0", 90.0, 900.0, 72.0)
    write_recording(tmp_path, "evaluate_claims", 0.6, "NA", "-")
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["pipeline.py", "--no-startup", *map(str, arguments)])
    fail_clearly(pipeline.main)


def test_totals_and_projection(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--results", results, "--cores", 1, 2, "--json")
    summary = json.loads(capsys.readouterr().out)
    stages = {stage["stage"]: stage for stage in summary["stages"]}
    assert list(stages) == ["pretrain_base", "train_rl", "evaluate_claims"]
    assert stages["train_rl"] == {
        "stage": "train_rl",
        "jobs": 3,
        "core_seconds": 330.0,
        "median_seconds": 100.0,
        "cpu_per_wall": 0.8,
        "startup_seconds": None,
        "startup_peak_rss_mb": None,
        "peak_rss_mb": 1200.0,
    }
    assert summary["core_hours"] == pytest.approx(390.6 / 3600, abs=1e-3)
    assert summary["wall_minutes"] == {
        "1": pytest.approx(390.6 / 60, abs=0.01),
        "2": pytest.approx((60 + 190 + 0.6) / 60, abs=0.01),
    }
    assert summary["memory_mb"] == {"1": 1200.0, "2": 2200.0}


def test_what_snakemake_did_not_measure_is_no_number(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(monkeypatch, "--results", results)
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert lines["evaluate_claims"] == ["evaluate_claims", "1", "0.6", "0.2%", "0.6", "-", "-", "-", "-"]


def test_phases_wait_for_each_other_and_the_longest_job_goes_first() -> None:
    def jobs(stage: str, *seconds: float) -> list[pipeline.Job]:
        return [pipeline.Job(stage, f"{index}", value, None, None) for index, value in enumerate(seconds)]

    training = jobs("train_rl", 1, 2, 3, 4, 5)
    assert pipeline.wall_seconds(training, 2) == 8  # 5 2 1 | 4 3
    assert pipeline.wall_seconds(training + jobs("train_with_trl", 6), 3) == 7  # 6 1 | 5 2 | 4 3
    after = jobs("fit_curve", 3) + jobs("plot_figure", 2)
    assert pipeline.wall_seconds(jobs("pretrain_base", 10) + training + after, 100) == 10 + 5 + 3


def test_startup_counts_once_per_job(results: Path) -> None:
    jobs = pipeline.by_stage(pipeline.read_jobs(results / "benchmarks"))["train_rl"]
    stage = pipeline.summarise_stage("train_rl", jobs, lambda modules: pipeline.Startup(2.0, 300.0))
    assert (stage.startup_seconds, stage.startup_peak_rss_mb) == (6.0, 300.0)
    removed = pipeline.summarise_stage("removed_rule", jobs, lambda modules: pipeline.Startup(2.0, 300.0))
    assert removed.startup_seconds is None


def test_the_part_of_a_run_is_its_arm(results: Path) -> None:
    jobs = pipeline.read_jobs(results / "benchmarks")
    assert [job.part for job in jobs] == ["dense", "fp32_head", "scalerl", "scalerl", "evaluate_claims"]


def test_chart(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chart = tmp_path / "new" / "chart.png"
    call(monkeypatch, "--results", results, "--chart", chart)
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_no_recording_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        call(monkeypatch, "--results", tmp_path)
    assert capsys.readouterr().err == f"error: {tmp_path}/benchmarks: no benchmark files; run snakemake first\n"


@pytest.mark.parametrize("seconds", ["NA", "soon", ""])
def test_a_job_without_seconds_is_one_message(
    seconds: str, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recording(results, "fit_curve/scalerl-s0", seconds, 1.0, 1.0)
    with pytest.raises(SystemExit, match="1"):
        call(monkeypatch, "--results", results)
    assert "fit_curve/scalerl-s0.tsv: " in capsys.readouterr().err


def test_every_rule_has_its_imports_and_they_exist(repository: Path) -> None:
    text = "\n".join(file.read_text() for file in sorted((repository / "workflow" / "rules").glob("*.smk")))
    _, *parts = re.split(r"^(?:rule (\w+)|use rule (\w+) as (\w+) with):$", text, flags=re.MULTILINE)
    rules: dict[str, str] = {}
    for own, original, derived, body in zip(*(parts[index::4] for index in range(4)), strict=True):
        if "    benchmark:\n" in body:
            rules[own or derived] = body + (rules[original] if original else "")
    assert set(pipeline.IMPORTS) == set(rules)
    for rule, modules in pipeline.IMPORTS.items():
        assert f"python -m {modules[0]} " in rules[rule]
        assert all(find_spec(module) for module in modules), rule
    assert set(pipeline.FIRST + pipeline.SECOND) <= set(rules)
