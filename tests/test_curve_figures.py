"""What figures of learning curves say beside the curves: other units of compute, forecasts that miss."""

from pathlib import Path

import pandas as pd
import pytest

from rlscape.catalogue import figure_of
from rlscape.figures.compute_units import LABELS
from rlscape.figures.registry import find_target
from rlscape.figures.scalerl import fig19
from rlscape.figures.style import ARM_STYLES
from rlscape.files import read_json, write_json, write_parquet
from rlscape.paths import results_dir
from rlscape.results import curves
from rlscape.settings.scale import Config
from tests.pictures import legend_entries, note
from tests.synthetic import Run, small_config, write_scalerl_results


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = small_config(tmp_path_factory.mktemp("tree"), seeds=2)
    write_scalerl_results(config)
    return config


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        ("scalerl_fig2", "scalerl"),
        ("scalerl_fig4", "baseline"),
        ("scalerl_fig5", "baseline"),
        ("scalerl_fig9", "scalerl"),
        ("scalerl_fig10", "scalerl"),
    ],
)
def test_curves_stand_against_other_units_too(name: str, arm: str, config: Config) -> None:
    target = find_target(name)
    figure = target.draw(target.assemble(config))
    metrics = curves.metrics(config, [arm])
    last = metrics[metrics["step"] == metrics["step"].max()].mean(numeric_only=True)
    for unit, label in LABELS.items():
        panels = [ax for ax in figure.axes if ax.get_xlabel() == label]
        assert panels
        for ax in panels:
            (line,) = (line for line in ax.lines if line.get_color() == ARM_STYLES[arm][0])
            assert tuple(line.get_xydata()[-1]) == pytest.approx((last[unit], last["pass_rate"]))


def test_granted_forecasts_below_the_observed_end_are_counted(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds={"large_batch": 2, "moe": 1})
    target = find_target("scalerl_fig1")
    for granted, count in ((True, "1 of 3"), (False, "0 of 2")):
        low = Run(forecast_A=0.5, granted=granted)
        write_scalerl_results(config, {"large_batch": Run(forecast_A=0.95), "moe": low})
        frame = target.assemble(config)
        figure = target.draw(frame)
        assert f"A below the observed end: {count} granted" in note(figure)
        end = frame.loc[(frame["kind"] == "end") & (frame["arm"] == "moe"), "value"].item()
        assert any(f"ends at {end:.3f}" in entry for entry in legend_entries(figure))


@pytest.mark.parametrize(
    ("name", "weak", "strong", "weak_note", "strong_note"),
    [
        (
            "scalerl_fig5",
            {"mismatch": 0.002},
            {"mismatch": 0.03},
            "b: at most 0.002 mean |log ρ| at equal weights: head precision does not bind (below 0.01)",
            "b: at most 0.03 mean |log ρ| at equal weights: head precision binds (from 0.01)",
        ),
        (
            "scalerl_fig9",
            {"truncation_rate": 0.0, "interruption_rate": 0.0002},
            {"truncation_rate": 0.04, "interruption_rate": 0.02},
            "at most 0.0002 of completions truncated or interrupted: the budget does not bind (below 0.05)",
            "at most 0.06 of completions truncated or interrupted: the budget binds (from 0.05)",
        ),
        (
            "scalerl_fig19",
            {"clip_fraction": 2e-5},
            {"clip_fraction": 0.02},
            "b: at most 2e-05 of tokens capped: the cap does not bind (below 0.01)",
            "b: at most 0.02 of tokens capped: the cap binds (from 0.01)",
        ),
    ],
)
def test_a_factor_that_touches_nothing_is_said_not_to_bind(
    name: str, weak: dict, strong: dict, weak_note: str, strong_note: str, tmp_path: Path
) -> None:
    """The arm where it touches most decides: here the last one."""
    config = small_config(tmp_path, seeds=1)
    write_scalerl_results(config)
    arms = figure_of(name).arms
    target = find_target(name)
    for values, expected in ((weak, weak_note), (strong, strong_note)):
        for arm in arms:
            write_touched(config, arm, values if arm == arms[-1] else weak)
        assert expected in note(target.draw(target.assemble(config)))


def test_ceilings_at_one_bound_are_drawn_beside_each_other(tmp_path: Path) -> None:
    """Not their last digits."""
    config = small_config(tmp_path, seeds=1)
    write_scalerl_results(config, dict.fromkeys(fig19.DAPO, Run(A=1.0)), spread=1e-13)
    figure = fig19.draw(fig19.assemble(config))
    (panel,) = (ax for ax in figure.axes if ax.get_title(loc="left").startswith("c:"))
    low, high = panel.get_ylim()
    assert high - low >= fig19.LEAST_RANGE * 0.999
    assert low < 1 < high


def write_touched(config: Config, arm: str, values: dict[str, float]) -> None:
    """Columns of a run's updates, or its mismatch, replaced."""
    directory = results_dir(config) / "runs" / f"{arm}-s0"
    updates = directory / "updates.parquet"
    table = pd.read_parquet(updates)
    write_parquet(updates, table.assign(**{name: value for name, value in values.items() if name in table}))
    record = read_json(directory / "run.json")
    write_json(directory / "run.json", record | {name: value for name, value in values.items() if name in record})
