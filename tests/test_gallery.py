"""Recording figures: all of a paper's, with where they come from, or nothing."""

from pathlib import Path

import pytest

from rlscape.catalogue import ARMS, FIGURES, load_scale, runs_of
from rlscape.errors import ResultError
from rlscape.files import read_json, write_json
from rlscape.paths import figures_dir, results_dir
from rlscape.pipeline.gallery import SUFFIXES, record
from rlscape.settings.scale import Config


@pytest.fixture
def finished(tmp_path: Path, repository: Path) -> Config:
    """Figures and run records of P2 as the pipeline leaves them."""
    smoke = load_scale(repository / "config" / "smoke.yaml")
    config = smoke.changed(results=tmp_path / "results", figures=tmp_path / "figures")
    stems = [Path(figure.paper, figure.stem) for figure in FIGURES if figure.paper == "off_principals"]
    for stem in (*stems, Path("scoreboard")):
        for suffix in SUFFIXES:
            path = figures_dir(config) / f"{stem}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{stem}")
    for run in runs_of(config, [arm for arm in config.seeds if ARMS[arm].paper == "off_principals"]):
        values = {"provenance": {"commit": "c0ffee"}, "claims_sha256": "abc", "wall_seconds": 900.0}
        write_json(results_dir(config) / "runs" / run / "run.json", values)
    return config


def test_gallery_holds_figures_scoreboard_and_their_origin(finished: Config, tmp_path: Path) -> None:
    record(finished, "off_principals", tmp_path / "gallery")
    assert (tmp_path / "gallery" / "off_principals" / "fig04.png").read_text() == "off_principals/fig04"
    assert (tmp_path / "gallery" / "scoreboard.svg").exists()
    summary = read_json(tmp_path / "gallery" / "off_principals" / "run.json")
    assert summary["scale"] == "smoke"
    assert summary["provenance"] == [{"commit": "c0ffee"}] and summary["claims_sha256"] == ["abc"]
    runs = set(runs_of(finished, [arm for arm in finished.seeds if ARMS[arm].paper == "off_principals"]))
    assert set(summary["runs"]) == runs and {"rlvr-s1", "pissa_r4_mid-s0", "simpo-s0"} <= runs
    assert summary["core_hours"] == pytest.approx(len(runs) / 4)


def test_a_missing_figure_is_named_and_nothing_is_copied(finished: Config, tmp_path: Path) -> None:
    (figures_dir(finished) / "off_principals" / "fig05.csv").unlink()
    with pytest.raises(ResultError, match="fig05.csv: no such result"):
        record(finished, "off_principals", tmp_path / "gallery")
    assert not (tmp_path / "gallery").exists()
