"""Bad input at the entries that rules call: one clear line, exit code 1, earlier results untouched."""

import importlib
from pathlib import Path

import pandas as pd
import pytest

from rlscape.catalogue import load_scale, resolve_run
from rlscape.files import write_json
from rlscape.models.build import build_model, save_model
from tests.entries import run_entry

REPOSITORY = Path(__file__).parents[1]
CONFIG = load_scale(REPOSITORY / "config" / "smoke.yaml")
EARLIER = "earlier result"


@pytest.fixture
def call(monkeypatch, capsys):
    """Run an entry that must fail; returns what it printed to standard error."""

    def run(entry: str, **options: object) -> str:
        with pytest.raises(SystemExit) as failure:
            run_entry(getattr(importlib.import_module(f"rlscape.pipeline.{entry}"), entry), monkeypatch, **options)
        assert failure.value.code == 1
        return capsys.readouterr().err

    return run


@pytest.fixture
def output(tmp_path):
    """A directory with a result of an earlier run in it."""
    directory = tmp_path / "output"
    directory.mkdir()
    for name in ("metrics.parquet", "matrices.parquet", "fit.json"):
        (directory / name).write_text(EARLIER)
    yield directory
    assert all(file.read_text() == EARLIER for file in directory.iterdir())
    assert len(list(directory.iterdir())) == 3


def one_error(printed: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith("error:")]
    assert "Traceback" not in printed
    return line


def train_options(output: Path, base: Path) -> dict[str, object]:
    return {
        "settings": resolve_run(CONFIG, "scalerl-s0").model_dump_json(),
        "base": base,
        "claims": REPOSITORY / "config" / "claims.yaml",
        "scratch": output.parent / "scratch",
        "output": output,
    }


def test_unknown_key(call, output, tmp_path):
    options = train_options(output, tmp_path)
    options["settings"] = options["settings"].replace('"loss":', '"los":')
    line = one_error(call("train", **options))
    assert "recipe.los: unknown key; did you mean 'loss'?" in line


def test_missing_base_model(call, output, tmp_path):
    line = one_error(call("train", **train_options(output, tmp_path / "nowhere")))
    assert "nowhere: no such directory" in line and "make the model again" in line


def test_device_without_gpu(call, output, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    base = tmp_path / "base"
    save_model(build_model(CONFIG.bases["dense"].model, 0), base)
    line = one_error(call("train", **train_options(output, base), device="cuda"))
    assert "device: cuda: torch finds no GPU here; set device: cpu" in line


def test_truncated_base_model(call, output, tmp_path):
    base = tmp_path / "base"
    save_model(build_model(CONFIG.bases["dense"].model, 0), base)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    line = one_error(call("train", **train_options(output, base)))
    assert f"{weights}: truncated or damaged" in line
    geometry = CONFIG.geometry.model_dump_json()
    options = {"base": base, "model": base, "settings": geometry, "seed": 0, "output": output}
    assert str(weights) in one_error(call("measure_geometry", **options))


def test_empty_metrics(call, output, tmp_path):
    metrics, base = tmp_path / "metrics.parquet", tmp_path / "base.json"
    pd.DataFrame({"compute": [], "pass_rate": []}).to_parquet(metrics)
    write_json(base, {"pass_rate": 0.3, "standard_error": 0.01, "samples": 100})
    options = {"metrics": metrics, "base_evaluation": base, "settings": CONFIG.fit.model_dump_json()}
    options |= {"task": "math", "prefix": ""}
    line = one_error(call("fit_curve", **options, forecast=output / "forecast.json", output=output / "fit.json"))
    assert str(metrics) in line
