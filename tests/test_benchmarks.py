"""Every benchmark from start to end at tiny sizes: what it reports, not how fast anything was."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from benchmarks import coverage, diff_memory, rl_step
from rlscape.catalogue import load_scale
from rlscape.kernels.library import kernels_in_use
from rlscape.models.build import build_model, save_model
from tests.chat_model import make_chat_model
from tests.test_pipeline_benchmark import write_recording

ROOT = Path(__file__).parents[1]
SMOKE = ROOT / "config" / "smoke.yaml"


def report_of(script: str, *arguments: object, directory: Path) -> dict[str, Any]:
    """What ``script`` prints with ``--json``, run in ``directory``."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line, end, more = done.stdout.partition("\n")
    assert (end, more) == ("\n", ""), "one line and nothing else on stdout"
    return json.loads(line, parse_constant=pytest.fail)


def test_every_benchmark_is_named_in_a_test() -> None:
    tests = "\n".join(file.read_text() for file in (ROOT / "tests").glob("test_*.py"))
    assert not [script.name for script in (ROOT / "benchmarks").glob("*.py") if f'"{script.name}"' not in tests]


def test_rl_step_reports_every_contender_and_what_was_run(tmp_path: Path) -> None:
    report = report_of("rl_step.py", "--config", SMOKE, "--prompts", 2, "--rounds", 2, directory=tmp_path)
    base = load_file(tmp_path / "results" / "benchmarks" / "smoke" / "dense" / "model.safetensors")
    assert report["setting"] == {
        "config": str(SMOKE),
        "base": "dense",
        "prompts": 2,
        "generations_per_prompt": 16,
        "max_completion_length": 16,
        "parameters": sum(weights.numel() for weights in base.values()),
        "trl_passes": 1,
        "threads": 1,
        "kernels": kernels_in_use("cpu"),
        "rounds": 2,
    }
    contenders = ["trl", "rlscape", "rlscape_filtered"]
    assert list(report["samples_per_second"]) == list(report["seconds"]) == contenders
    assert [len(times) for times in report["seconds"].values()] == [2, 2, 2]
    ratio, (low, high) = report["ratio_to_trl"], report["ratio_to_trl_quartiles"]
    assert low <= ratio <= high
    first_words = [line.split()[0] for line in rl_step.format_summary(report).splitlines()]
    assert first_words == [*contenders, "ratio_to_trl", "ratio_to_trl_filtered", "generate", "train"]


@pytest.mark.more
def test_rl_step_takes_a_checkpoint_directory_of_any_supported_architecture(tmp_path: Path) -> None:
    for architecture in ("llama", "qwen3_moe"):
        experts = {"experts": 4, "experts_per_token": 2} if architecture == "qwen3_moe" else {}
        settings = load_scale(SMOKE).bases["dense"].model.changed(architecture=architecture, **experts)
        save_model(build_model(settings, seed=0), tmp_path / architecture)
        arguments = ("--config", SMOKE, "--base", architecture, "--prompts", 2, "--rounds", 2)
        report = report_of("rl_step.py", *arguments, directory=tmp_path)
        assert report["setting"]["base"] == architecture and report["ratio_to_trl"] > 0
    refused = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "rl_step.py"), "--config", str(SMOKE), "--base", "nowhere"],
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2 and "--base nowhere: no checkpoint directory, and" in refused.stderr


def test_rl_step_takes_a_model_that_is_asked_in_words(tmp_path: Path) -> None:
    make_chat_model(tmp_path / "chat")
    scale = ROOT / "config" / "pretrained_controls.yaml"
    arguments = ("--config", scale, "--base", "chat", "--prompts", 2, "--rounds", 2, "--trl-passes", 4)
    report = report_of("rl_step.py", *arguments, directory=tmp_path)
    assert report["setting"]["max_completion_length"] == 18 and report["ratio_to_trl"] > 0


def test_coverage_reports_verdicts_and_which_intervals_hold_the_truth(tmp_path: Path) -> None:
    names = ["one_run", "cut_at_C_mid", "flat"]
    report = report_of("coverage.py", "--simulations", 2, "--scenarios", *names, directory=tmp_path)
    scenarios = report["scenarios"]
    verdicts = {name: scenario["verdicts"] for name, scenario in scenarios.items()}
    assert verdicts == {"one_run": {"forecast": 2}, "cut_at_C_mid": {"refused": 2}, "flat": {"flat": 2}}
    covered = scenarios["one_run"]["coverage"]
    assert set(covered) == {"A", "B", "C_mid", "R_0", "improvement", "forecast"}
    assert all(found["of"] == 2 and found["low"] <= found["share"] <= found["high"] for found in covered.values())
    assert not scenarios["flat"]["coverage"], "nothing to hold"
    assert "  refused: 32k tokens 1, 8 generations 1" in coverage.format_scenarios(scenarios).splitlines()


@pytest.mark.more
def test_diff_memory_finds_nothing_in_its_pair_and_deletes_it(tmp_path: Path) -> None:
    report = report_of("diff_memory.py", "pair", "--layers", 1, "--hidden-size", 64, directory=tmp_path)
    (sentences,) = report["answers"].values()
    kinds = ["q", "k", "v", "o", "gate", "up", "down", "embed", "head", "norm", "all"]
    assert [sentence.partition(":")[0] for sentence in sentences] == kinds
    surprising = [sentence for sentence in sentences if "nothing beyond magnitude and rounding" not in sentence]
    assert surprising == ["norm: equal to the base"]
    parameters = 2 * 500 * 64 + 4 * 64**2 + 3 * 64 * 172 + 3 * 64
    assert report["base_gib"] == pytest.approx(2 * parameters / 2**30, rel=0.05)  # and the headers of the files
    assert [path.name for path in (tmp_path / "pair").iterdir()] == ["diff"]
    assert diff_memory.format_result(report).splitlines()[: len(kinds)] == sentences


def test_pipeline_measures_the_start_of_rules_that_there_are(tmp_path: Path) -> None:
    results = tmp_path / "results" / "smoke"
    write_recording(results, "fit_curve/scalerl-s0", 3.0, 200.0, 2.0)
    write_recording(results, "removed_rule", 1.0, 100.0, 1.0)
    report = report_of("pipeline.py", "--config", SMOKE, directory=tmp_path)
    stages = {stage["stage"]: stage for stage in report["stages"]}
    assert {name: stage["core_seconds"] for name, stage in stages.items()} == {"fit_curve": 3.0, "removed_rule": 1.0}
    assert stages["fit_curve"]["startup_seconds"] > 0 and stages["fit_curve"]["startup_peak_rss_mb"] > 0
    assert stages["removed_rule"]["startup_seconds"] is None
