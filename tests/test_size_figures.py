"""Figure 1's slice, the controls for curvature and model size: planted numbers come back, and everything is drawn."""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import curved_bases
from rlscape.errors import ResultError
from rlscape.figures.off_principals import control_curvature, control_model_size, fig01
from rlscape.figures.off_principals.paper_values import TABLE_1
from rlscape.results import loss, model_size
from rlscape.settings.scale import Config
from tests.loss_results import SIZE_ARMS, write_curvature, write_landscape, write_sizes
from tests.synthetic import small_config, write_geometry_results


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Config:
    return small_config(tmp_path, seeds=1)


def note_of(module, config: Config) -> str:
    """The note of a figure, drawn from the frame as its CSV has it."""
    csv = module.assemble(config).to_csv(index=False)
    note = module.draw(pd.read_csv(StringIO(csv))).texts[-1].get_text()
    assert note.startswith("scale: smoke")
    return note


def test_figure_1_shows_the_slice_and_both_paths(config: Config) -> None:
    write_geometry_results(config, layers=2, size=16)
    write_landscape(config)
    note = note_of(fig01, config)
    assert "updates at cosine 0.50" in note and "at least 60% (RLVR (DAPO)), 80% (SFT)" in note
    axes = fig01.draw(fig01.assemble(config)).axes
    for panel in ("1a", "1b", "1c-left", "1c-right"):
        assert any(ax.get_title().startswith(panel) for ax in axes), panel
    slice_ = next(ax for ax in axes if ax.get_title().startswith("1a"))
    ends = {tuple(line.get_xydata()[-1]) for line in slice_.lines if len(line.get_xydata()) > 1}
    assert ends == {(1.0, 0.0), (0.0, 1.0)}


def test_curvature_over_isotropic_directions(config: Config) -> None:
    write_curvature(config, principal=4, equal_magnitude=2)
    frame = control_curvature.assemble(config)
    blocks = frame[frame["kind"] == "block"].groupby("block")["value"].mean()
    assert blocks.to_dict() == pytest.approx({"principal": 2, "mixed": 1, "off": 0}, abs=0.05)
    coordinates = frame[frame["kind"] == "coordinate"].groupby("block")["value"].mean()
    assert coordinates.to_dict() == pytest.approx({"principal": 1, "off": 0}, abs=0.05)
    proposition = frame[(frame["kind"] == "proposition") & (frame["arm"] == "rlvr")].set_index("share")["value"]
    assert proposition.to_dict() == pytest.approx({1.0: 1.25, 0.5: 1.125, 0.25: 1.0625})
    contrasts = frame[frame["kind"] == "contrast"].groupby("block")["value"].agg(["mean", "size"])
    assert contrasts["mean"].to_dict() == pytest.approx({"singular": 2, "coordinate": 1}, abs=0.05)
    assert set(contrasts["size"]) == {len(curved_bases(config))} == {9}
    note = note_of(control_curvature, config)
    assert "6 batches" in note and "base deep" in note and "9 bases" in note


def test_contrasts_are_those_planted(config: Config) -> None:
    write_curvature(config, principal=4, equal_magnitude=2)
    table = loss.curvature(config)
    assert loss.block_contrast(table, "singular").mean() == pytest.approx(2, abs=0.05)
    assert loss.block_contrast(table, "coordinate").mean() == pytest.approx(1, abs=0.05)
    assert loss.index_correlation(table).mean() < -0.8
    write_curvature(config, principal=1, equal_magnitude=1)
    table = loss.curvature(config)
    assert abs(loss.block_contrast(table, "singular").mean()) < 0.05
    assert abs(loss.index_correlation(table).mean()) < 0.3


def evaluations(pass_rates: list[float]) -> pd.DataFrame:
    steps = np.arange(len(pass_rates)) * 10
    values = {"x": steps / 10, "sparsity": 1 - steps / 100, "nss": steps / 1000, "overlap_excess": -0.01}
    frame = pd.DataFrame({"step": steps, "pass_rate": pass_rates} | values)
    frame.loc[0, "overlap_excess"] = np.nan
    return frame


def test_interpolation_stops_at_the_first_evaluation_that_reaches_the_gain() -> None:
    found = model_size.at_gain(evaluations([0.3, 0.34, 0.42, 0.38, 0.6]), 0.1)
    assert not found["censored"]
    assert found["step"] == pytest.approx(17.5) and found["x"] == pytest.approx(1.75)
    first = model_size.at_gain(evaluations([0.3, 0.5]), 0.1)
    assert first["x"] == pytest.approx(0.5) and first["overlap_excess"] == pytest.approx(-0.01)


def test_a_gain_never_reached_is_censored_at_the_end() -> None:
    found = model_size.at_gain(evaluations([0.3, 0.34, 0.32]), 0.1)
    assert found["censored"] and found["x"] == 2


@pytest.mark.parametrize("seeds", [1, 3])
def test_power_law_and_signature_are_recovered(seeds: int, tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds=seeds)
    write_sizes(config, slope=-0.3)
    frame = control_model_size.assemble(config)
    runs = frame[frame["kind"] == "run"]
    for gain, rows in runs.groupby("gain"):
        expected = gain * rows["arm"].map(SIZE_ARMS) ** -0.3
        np.testing.assert_allclose(rows["x"], expected)
        np.testing.assert_allclose(rows["nss"], expected / 100)
        np.testing.assert_allclose(rows["sparsity"], 1 - gain)
        np.testing.assert_allclose(rows["overlap_excess"], -0.02)
    for gain, fit in frame[frame["kind"] == "fit"].groupby("gain"):
        assert fit["slope"].iloc[0] == pytest.approx(-0.3)
        assert fit["parameters"].iloc[-1] == pytest.approx(30e9)
        assert fit["x"].iloc[-1] == pytest.approx(gain * 30e9**-0.3)
    paper = frame[frame["kind"] == "paper"]
    assert len(paper) == sum(row.method != "SFT" for row in TABLE_1) and paper["parameters"].notna().all()
    note_of(control_model_size, config)


def test_a_pretrained_model_stands_beside_the_widths_of_another_scale(config: Config, tmp_path: Path) -> None:
    write_sizes(config, slope=-0.3)
    recorded = tmp_path / "control_model_size.csv"
    widths = control_model_size.assemble(config)
    widths.to_csv(recorded, index=False)
    own = config.changed(scale="pretrained", seeds={"rlvr": 1}, results=tmp_path / "own", recorded_sizes=recorded)
    write_sizes(own, slope=-0.3, arms={"rlvr": 135e6})
    frame = control_model_size.assemble(own)
    runs = frame[frame["kind"] == "run"]
    assert runs.groupby("scale")["arm"].unique().map(set).to_dict() == {
        "pretrained": {"rlvr"},
        "smoke": {"rlvr", *SIZE_ARMS},
    }
    pd.testing.assert_frame_equal(fits(frame), fits(widths), check_dtype=False)
    note = control_model_size.draw(pd.read_csv(StringIO(frame.to_csv(index=False)))).texts[-1].get_text()
    assert note.startswith("scale: pretrained and smoke")
    recorded.unlink()
    with pytest.raises(ResultError, match="control_model_size.csv: no table of recorded model sizes.*recorded_sizes"):
        control_model_size.assemble(own)


def fits(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[frame["kind"] == "fit", ["gain", "parameters", "x", "slope"]].reset_index(drop=True)


def test_interval_of_the_power_law_covers_noise() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        parameters = np.repeat([5e4, 2e5, 8e5, 3e6], 2)
        noise = np.exp(0.2 * rng.standard_normal(8))
        runs = pd.DataFrame({"parameters": parameters, "x": parameters**-0.3 * noise, "censored": False})
        last = control_model_size.fit_power_law(runs).iloc[-1]
        covered += last["x_low"] <= 30e9**-0.3 <= last["x_high"]
    assert 0.9 <= covered / 200 <= 0.99


def test_no_power_law_through_censored_runs(config: Config) -> None:
    write_sizes(config, last_gain={"size_1": 0.15})
    frame = control_model_size.assemble(config)
    assert set(frame.loc[frame["kind"] == "fit", "gain"]) == {0.05, 0.1}
    censored = frame[(frame["kind"] == "run") & frame["censored"].eq(True)]
    assert set(censored["arm"]) == {"size_1"} and set(censored["gain"]) == {0.2}
    assert "(no fit)" in note_of(control_model_size, config)


def test_figure_without_any_fit_is_drawn(config: Config) -> None:
    write_sizes(config, last_gain=dict.fromkeys(SIZE_ARMS, 0.0))
    assert set(control_model_size.assemble(config)["kind"]) == {"run", "paper"}
    note_of(control_model_size, config)
