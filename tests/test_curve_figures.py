"""What figures of learning curves say beside the curves: other units of compute, forecasts that miss."""

from pathlib import Path

import pytest

from rlscape.figures.compute_units import LABELS
from rlscape.figures.registry import find_target
from rlscape.figures.style import ARM_STYLES
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
