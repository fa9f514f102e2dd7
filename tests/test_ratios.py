"""How far generator and trainer disagree before the first update: measured, and drawn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.figures.registry import find_target
from rlscape.figures.scalerl.camera_ready import LARGEST_SCATTER
from rlscape.models.build import as_decoder, build_model, save_model
from rlscape.pipeline.measure_ratios import first_log_probs, measure_ratios
from rlscape.results import curves
from rlscape.settings.run import RunSettings
from tests.entries import run_entry
from tests.synthetic import small_config, write_ratios, write_scalerl_results
from tests.test_trainer import settings_of


def settings_with(precision: str) -> RunSettings:
    """The baseline with both heads, and the generator's body, in that precision."""
    settings = settings_of("baseline", generator_head=precision, trainer_head=precision)
    return settings.changed(rl=settings.rl.changed(generator_precision=precision).model_dump())


def mean_distance(log_probs: pd.DataFrame) -> float:
    return (log_probs["trainer"] - log_probs["generator"]).abs().mean()


def test_equal_arithmetic_agrees_and_coarse_arithmetic_does_not() -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        settings = settings_with(precision)
        log_probs = first_log_probs(settings, as_decoder(build_model(settings.base.model, 0)))
        assert (log_probs <= 0).all(axis=None)
        assert settings.recipe is not None
        completions = (
            settings.recipe.generations_per_prompt * settings.recipe.prompts_per_batch * settings.rl.prompt_scale
        )
        assert len(log_probs) >= 2 * completions
        found[precision] = mean_distance(log_probs)
    assert found["fp32"] < 1e-5
    assert found["bf16"] > 10 * found["fp32"]


def test_command_line_writes_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_with("bf16")
    save_model(build_model(settings.base.model, 0), tmp_path / "base")
    output = tmp_path / "ratios" / "baseline.parquet"
    run_entry(measure_ratios, monkeypatch, base=tmp_path / "base", settings=settings.model_dump_json(), output=output)
    assert list(pd.read_parquet(output)) == ["generator", "trainer"]


def test_panels_show_ratios_of_a_part_and_numbers_of_all(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds=2)
    write_scalerl_results(config)
    write_ratios(config, {"baseline": 0.02, "fp32_head": 1e-4}, tokens=5000)
    target = find_target("scalerl_camera_ready")
    frame = target.assemble(config)
    shown = frame[frame["kind"] == "ratio"].groupby("arm").size()
    assert (shown <= LARGEST_SCATTER).all() and (shown > LARGEST_SCATTER / 2).all()
    agreement = frame[frame["kind"] == "agreement"].set_index("arm")
    for arm in ("baseline", "fp32_head"):
        log_probs = curves.first_log_probs(config, arm)
        assert agreement.loc[arm, "value"] == pytest.approx(mean_distance(log_probs))
        assert agreement.loc[arm, "tokens"] == 5000
    assert agreement.loc["baseline", "largest"] > 1.03 > 1.001 > agreement.loc["fp32_head", "largest"]
    last = curves.updates(config, ["ppo8"])
    last = last[last["step"] == last["step"].max()]
    means = frame[(frame["kind"] == "mean") & (frame["arm"] == "ppo8")].groupby("panel")["value"].last()
    for panel, value in means.items():
        assert value == pytest.approx(np.mean(last[panel]))
