"""Recorded scales: all that figures and verdicts need, or nothing; both are made again from it without results."""

import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from rlscape.catalogue import ARMS, figure_of, figures_of, first_run, resolve_run, runs_of, with_catalogue
from rlscape.claims import BESIDE, EVALUATORS, lacking_at, load_register
from rlscape.claims.power import COLUMNS, design_of_claim
from rlscape.claims.register import Register
from rlscape.errors import ConfigError, ResultError, UserError
from rlscape.files import read_json, write_json
from rlscape.gallery.claims import record_power, write_scoreboard
from rlscape.gallery.recording import SUFFIXES, record
from rlscape.gallery.replay import judge, redraw
from rlscape.gallery.restoring import restore
from rlscape.gallery.tables import write_tables
from rlscape.imports import source_files
from rlscape.paths import figures_dir, results_dir, run_name
from rlscape.pipeline import gallery as entry
from rlscape.pipeline.plot_figure import plot_figure
from rlscape.results.files import recorded_reads
from rlscape.settings.reading import load_config
from rlscape.settings.scale import Config, Paper
from tests import spoilt_galleries as spoilt
from tests.loss_results import write_landscape
from tests.pair_results import write_pair_results
from tests.synthetic import ROOT, write_geometry_results, write_scalerl_results

CLAIMS = ROOT / "config" / "claims.yaml"
SEEDS = 2
LAST = run_name("scalerl", load_config(ROOT / "config" / "smoke.yaml").first_seed + SEEDS - 1)
TARGETS = {
    "scalerl": ("fig3", "fig5", "fig8", "table_robustness"),
    "off_principals": ("fig1", "fig2", "fig5", "fig6", "control_gauge"),
}


@pytest.fixture(scope="module")
def register() -> Register:
    return load_register(CLAIMS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Results and figures of some of both papers' targets, as the pipeline leaves them."""
    root = tmp_path_factory.mktemp("finished")
    targets = tuple(f"{paper}_{stem}" for paper, stems in TARGETS.items() for stem in stems)
    smoke = load_config(ROOT / "config" / "smoke.yaml")
    config = smoke.changed(results=root / "results", figures=root / "figures", targets=targets, seeds={"others": SEEDS})
    config = with_catalogue(config, "finished")
    write_scalerl_results(config)
    write_geometry_results(config, layers=2, size=16)
    write_pair_results(config)
    write_landscape(config)
    for run in runs_of(config, config.seeds):
        file = results_dir(config) / "runs" / run / "run.json"
        values = {
            "provenance": {"commit": "c0ffee"},
            "kernels": "compiled",
            "claims_sha256": "abc",
            "wall_seconds": 900.0,
            "settings": resolve_run(config, run).model_dump(mode="json"),
        }
        write_json(file, (read_json(file) if file.exists() else {}) | values)
    for figure in figures_of(config):
        plot_figure(figure.target, config, figures_dir(config) / figure.paper / figure.stem)
    return config


def all_decide(register: Register, config: Config) -> pd.DataFrame:
    """A table of power by which every criterion is always right."""
    designs = {claim.id: design_of_claim(claim, register.conventions, config) for claim in register.claims}
    shares = dict.fromkeys(COLUMNS, 0.0) | {"part": "", "draws": 100}
    worlds = {"holds": "replicated", "fails": "not_replicated"}
    return pd.DataFrame(
        shares | {"id": name, "world": world, verdict: 1.0, "design": design}
        for name, design in designs.items()
        for world, verdict in worlds.items()
    )


@pytest.fixture(scope="module")
def recorded(finished: Config, register: Register, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery with both papers of one scale; not to be changed."""
    gallery = tmp_path_factory.mktemp("recorded") / "gallery"
    table = gallery.parent / "power.csv"
    all_decide(register, finished).to_csv(table, index=False)
    record_power(table, gallery / "smoke")
    for paper in get_args(Paper):
        record(finished, paper, register, gallery)
    return gallery


@pytest.fixture
def gallery(recorded: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(recorded, tmp_path / "gallery")


@contextmanager
def without(path: Path) -> Iterator[None]:
    """A file or a directory is not there for a while."""
    hidden = path.rename(path.with_name("hidden"))
    try:
        yield
    finally:
        hidden.rename(path)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_claims_read_measurements_of_figures_that_the_scale_must_have(finished: Config, register: Register) -> None:
    judged = [claim for claim in register.claims if not lacking_at(finished, claim, register.conventions)]
    assert {"S9", "O4", "O10"} <= {claim.id for claim in judged}
    for claim in judged:
        figures = [figure_of(target) for target in (*claim.figures, *BESIDE.get(claim.evaluator, ()))]
        measured = {measurement for figure in figures for measurement in figure.measurements}
        with recorded_reads() as files:
            EVALUATORS[claim.evaluator](claim, register.conventions, finished)
        read = {file.stem.replace("stripes_", "pairs_") for file in files if file.parent.name == "geometry"}
        assert {name.partition("-")[0] for name in read} <= measured, claim.id


# Recording


def test_gallery_holds_figures_their_origin_and_verdicts(finished: Config, recorded: Path) -> None:
    for figure in figures_of(finished):
        for suffix in SUFFIXES:
            copied = Path(figure.paper, f"{figure.stem}.{suffix}")
            assert (recorded / "smoke" / copied).read_bytes() == (figures_dir(finished) / copied).read_bytes()
    summary = read_json(recorded / "smoke" / "off_principals" / "run.json")
    assert summary["scale"] == "smoke"
    assert summary["kernels"] == ["compiled"]
    assert summary["provenance"] == [{"commit": "c0ffee"}] and summary["claims_sha256"] == ["abc"]
    runs = set(runs_of(finished, [arm for arm in finished.seeds if ARMS[arm].paper == "off_principals"]))
    assert set(summary["runs"]) == runs and set(runs_of(finished, ["rlvr", "rlvr_intervened"])) <= runs
    assert summary["core_hours"] == pytest.approx(len(runs) / 4)
    verdicts = pd.read_csv(recorded / "smoke" / "claims.csv")
    assert list(verdicts["id"]) == [claim.id for claim in load_register(CLAIMS).claims]
    judged = verdicts[verdicts["verdict"] != "not testable at this scale"]
    assert {"S9", "S28", "O4", "O10"} <= set(judged["id"])
    assert not list(recorded.rglob("*.tmp"))


def test_tables_are_what_was_read_and_no_models(finished: Config, recorded: Path) -> None:
    first, _ = runs_of(finished, ["scalerl"])
    for paper, some in {
        "scalerl": {
            f"fits/{LAST}.json",
            f"forecasts/{first}.json",
            f"runs/{first_run(finished, 'gspo')}/metrics.parquet",
        },
        "off_principals": {
            *(f"geometry/{run}/matrices.parquet" for run in runs_of(finished, ["rlvr"])),
            f"geometry/{first_run(finished, 'footprint_dapo')}/masks.npz",
        },
    }.items():
        with zipfile.ZipFile(recorded / "smoke" / paper / "tables.zip") as tables:
            names = tables.namelist()
            for name in names:
                assert tables.read(name) == (results_dir(finished) / name).read_bytes()
        assert some <= set(names) and names == sorted(names)
        assert not [name for name in names if name.endswith(".safetensors")]
        assert f"geometry/{runs_of(finished, ['rlvr'])[-1]}/masks.npz" not in names  # nothing shows it


def test_the_same_tables_make_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        files = [tmp_path / folder / name for name in ("b.json", "a/c.json")]
        for file in files if folder == "first" else reversed(files):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("{}" * 100)
            file.chmod(0o644 if folder == "first" else 0o600)
        ordered = files if folder == "first" else files[::-1]
        write_tables(tmp_path / f"{folder}.zip", tmp_path / folder, ordered)
        shutil.rmtree(tmp_path / folder)
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


@pytest.mark.parametrize(
    ("missing", "name"),
    [
        ("figures/smoke/off_principals/fig05.csv", "fig05.csv"),
        ("results/smoke/geometry/landscape.parquet", "landscape"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_copied(
    missing: str, name: str, finished: Config, register: Register, gallery: Path
) -> None:
    before = contents(gallery)
    with without(finished.results.parent / missing), pytest.raises(ResultError, match=f"{name}.*: no such result"):
        record(finished, "off_principals", register, gallery)
    assert contents(gallery) == before


def test_a_second_scale_keeps_the_first(finished: Config, register: Register, gallery: Path) -> None:
    second = finished.changed(scale="second")
    for directory in (results_dir, figures_dir):
        directory(second).symlink_to(directory(finished))
    before = contents(gallery / "smoke")
    (gallery / "second" / "scalerl").mkdir(parents=True)
    (gallery / "second" / "scalerl" / "fig99.svg").write_text("of an earlier recording")
    record(second, "scalerl", register, gallery)
    assert contents(gallery / "smoke") == before
    assert not (gallery / "second" / "scalerl" / "fig99.svg").exists()
    joined = pd.read_csv(gallery / "scoreboard.csv")
    assert joined.groupby("scale")["id"].apply(list).to_dict() == {
        "smoke": [claim.id for claim in register.claims],
        "second": [claim.id for claim in register.claims if claim.paper == "scalerl"],
    }
    picture = (gallery / "scoreboard.svg").read_text()
    assert "scales: second, smoke" in picture and "not recorded" in picture

    record(second, "off_principals", register, gallery)
    assert len(pd.read_csv(gallery / "second" / "claims.csv")) == len(register.claims)
    assert "not recorded" not in (gallery / "scoreboard.svg").read_text()


@pytest.mark.parametrize("seeds", [0, 1])
def test_a_scale_that_measures_no_claim_on_two_seeds_has_no_column(seeds: int, gallery: Path) -> None:
    of_controls = gallery / "controls" / "claims.csv"
    of_controls.parent.mkdir()
    pd.read_csv(gallery / "smoke" / "claims.csv").assign(seeds=seeds).to_csv(of_controls, index=False)
    write_scoreboard(gallery)
    assert set(pd.read_csv(gallery / "scoreboard.csv")["scale"]) == {"smoke"}


def test_a_paper_of_which_the_scale_has_no_figure_is_refused(
    finished: Config, register: Register, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no figure of scalerl; add targets"):
        record(finished.changed(targets=("off_principals_fig5",)), "scalerl", register, tmp_path / "gallery")
    assert not (tmp_path / "gallery").exists()


# Back where the pipeline has its results


def test_restored_results_are_those_that_were_recorded(finished: Config, gallery: Path, tmp_path: Path) -> None:
    elsewhere = finished.changed(results=tmp_path / "results")
    kept = results_dir(elsewhere) / "runs" / LAST / "metrics.parquet"
    kept.parent.mkdir(parents=True)
    kept.write_text("of a run that has finished here")
    lines = restore(elsewhere, gallery)
    assert [line.partition(":")[0] for line in lines] == [str(gallery / "smoke" / paper) for paper in get_args(Paper)]
    restored = contents(results_dir(elsewhere))
    assert restored.pop(f"runs/{LAST}/metrics.parquet") == b"of a run that has finished here"
    for name, content in restored.items():
        assert content == (results_dir(finished) / name).read_bytes()
    assert {f"runs/{run}/run.json" for run in runs_of(finished, finished.seeds)} <= set(restored)
    # Snakemake runs again what is older than what it is made of.
    assert len({(results_dir(elsewhere) / name).stat().st_mtime_ns for name in restored}) == 1


def test_runs_of_other_settings_are_not_restored(finished: Config, gallery: Path, tmp_path: Path) -> None:
    elsewhere = finished.changed(results=tmp_path / "results", seeds=finished.seeds | {"rlvr": SEEDS + 3})
    faster = elsewhere.off_principals.rl.changed(learning_rate=0.5)
    changes = {
        "rlvr-s3 was recorded with other settings of rl": {
            "off_principals": elsewhere.off_principals.changed(rl=faster)
        },
        "recorded with other settings of tasks.math": {
            "tasks": elsewhere.tasks | {"math": elsewhere.tasks["math"].changed(seed=7)}
        },
        "recorded with other settings of geometry": {"geometry": elsewhere.geometry.changed(null_draws=7)},
        "no tables.zip of this scale; make gallery": {"scale": "another"},
    }
    for message, change in changes.items():
        with pytest.raises(UserError, match=message):
            restore(elsewhere.changed(**change), gallery)
    assert not results_dir(elsewhere).exists()
    # What the scale no longer runs is no obstacle.
    assert restore(elsewhere.changed(seeds={"rlvr": SEEDS}), gallery)


# Again from the tables


def test_verdicts_and_figures_come_from_the_tables_alone(
    finished: Config, register: Register, recorded: Path, gallery: Path
) -> None:
    for figure in figures_of(finished):
        for suffix in SUFFIXES:
            (gallery / "smoke" / figure.paper / f"{figure.stem}.{suffix}").unlink()
    with without(finished.results):
        (line,) = judge(register, gallery)
        redraw(gallery)
    assert line.startswith("smoke: ") and line.endswith("; no verdict changed")
    assert contents(gallery) == contents(recorded)


def test_changed_verdicts_and_scales_without_tables_are_reported(
    gallery: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = gallery / "smoke" / "claims.csv"
    now = pd.read_csv(file)
    old = now.assign(verdict=now["verdict"].where(now["id"] != "S28", "replicated"))
    old[old["id"] != "O4"].to_csv(file, index=False)
    shutil.copytree(gallery / "smoke", gallery / "early")
    for archive in (gallery / "early").rglob("tables.zip"):
        archive.unlink()
    before = contents(gallery / "early")

    monkeypatch.setattr(sys, "argv", ["gallery", "--gallery", str(gallery), "--claims", str(CLAIMS), "verdicts"])
    entry.main()
    early, smoke = capsys.readouterr().out.splitlines()
    found = now.set_index("id")["verdict"]
    assert found["S28"] == "inconclusive"
    assert smoke.endswith(f"; changed: S28 replicated -> inconclusive, O4 not recorded -> {found['O4']}")
    assert sum(int(part.split()[0]) for part in smoke.split(";")[0].removeprefix("smoke: ").split(", ")) == len(now)
    assert early.startswith("early: ") and "scalerl and off_principals kept as recorded" in early
    assert contents(gallery / "early") == before
    pd.testing.assert_frame_equal(pd.read_csv(file), now)


def test_without_its_power_no_criterion_decides(register: Register, gallery: Path) -> None:
    before = pd.read_csv(gallery / "smoke" / "claims.csv").set_index("id")
    (gallery / "smoke" / "power.csv").unlink()
    judge(register, gallery)
    now = pd.read_csv(gallery / "smoke" / "claims.csv").set_index("id")
    assert set(now["verdict"]) == {"not testable at this scale"}
    for name, verdict in before["verdict"].items():
        if verdict != "not testable at this scale":
            assert now.loc[name, "reason"].startswith("power unknown: make power")
            assert f"; {verdict}: " in now.loc[name, "reason"]


def test_a_claim_that_left_the_register_leaves_the_verdicts(register: Register, gallery: Path) -> None:
    smaller = register.changed(claims=[claim for claim in register.claims if claim.id != "S6"])
    (line,) = judge(smaller, gallery)
    assert "changed: S6 not testable at this scale -> not in the register" in line
    assert "S6" not in set(pd.read_csv(gallery / "smoke" / "claims.csv")["id"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            spoilt.damaged,
            r"scalerl/tables\.zip: not a readable zip archive .*restore it from git, or record the scale again",
        ),
        (
            spoilt.altered,
            r"scalerl/tables\.zip: not a readable zip archive .*restore it from git, or record the scale again",
        ),
        (
            spoilt.lacking,
            rf"scalerl/tables\.zip: no {spoilt.LEFT_OUT}, which the code now reads; record the scale again",
        ),
        (spoilt.outdated, r"scalerl/run\.json: maths: unknown key.*no longer understands; record the scale again"),
        (spoilt.unsaid, r"scalerl/run\.json: no record of a scale's settings .*restore it from git"),
        (spoilt.no_verdicts, r"smoke/claims\.csv: its columns are not id, claim, .*; restore it from git"),
    ],
)
def test_a_record_that_cannot_be_used_is_named_with_the_remedy_and_nothing_changes(
    spoil: Callable[[Path], None], message: str, gallery: Path, register: Register
) -> None:
    spoil(gallery)
    before = contents(gallery)
    with pytest.raises((ResultError, ConfigError), match=f"(?s){message}"):
        judge(register, gallery)
    assert contents(gallery) == before


def test_a_gallery_without_scales_is_an_error(register: Register, tmp_path: Path) -> None:
    for again in (lambda: judge(register, tmp_path), lambda: redraw(tmp_path)):
        with pytest.raises(ResultError, match="no recorded scale; make gallery PAPER=.* records one"):
            again()


def test_no_rule_writes_to_the_gallery(repository: Path) -> None:
    """What the criteria can decide, and the scatter of recorded curves, are read from it."""
    rules = [repository / "Snakefile", *(repository / "workflow" / "rules").glob("*.smk")]
    outputs = [block for file in rules for block in re.findall(r"    output:\n(.*?)\n    \w+:", file.read_text(), re.S)]
    assert outputs and not [block for block in outputs if "gallery" in block or "POWER" in block]
    package = repository / "src" / "rlscape"
    jobs = [f"pipeline.{file.stem}" for file in (package / "pipeline").glob("[a-z]*.py") if file.stem != "gallery"]
    assert "pipeline.plot_figure" in jobs
    assert not [file for file in source_files(package, jobs) if file.parent.name == "gallery"]
