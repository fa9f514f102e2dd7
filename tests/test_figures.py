"""Every figure draws from a tree of results, says what it rests on, and comes out the same twice."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import ARMS, FIGURES
from rlscape.claims import evaluate_claims, load_register
from rlscape.cli import plot
from rlscape.config import Config
from rlscape.errors import ConfigError, ResultError
from rlscape.figures.off_principals.paper_values import TABLE_1
from rlscape.figures.registry import find_target, target_names
from rlscape.figures.scalerl.paper_values import FIG2, FIG5
from rlscape.figures.style import ARM_STYLES, write_figure
from rlscape.results.weights import pooled_overlaps
from tests.synthetic import ROOT, Run, small_config, write_geometry_results, write_scalerl_results

SYNTHETIC = {"scalerl_fig3", "scalerl_fig12", "scalerl_fig13"}
"""Targets that need no results."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = small_config(tmp_path_factory.mktemp("tree"), seeds=2)
    write_scalerl_results(config, {"deepseek_grpo": Run(A=0.5, granted=False), "gspo": Run(fails=True, granted=False)})
    write_geometry_results(config, layers=2, size=16)
    verdicts = evaluate_claims(load_register(ROOT / "config" / "claims.yaml"), config)
    verdicts.to_csv(config.results_dir / "claims.csv", index=False)
    return config


@pytest.mark.parametrize("name", target_names())
def test_figure_is_drawn_and_its_csv_gives_the_same_picture(name: str, config: Config, tmp_path: Path) -> None:
    target = find_target(name)
    frame = target.assemble(config)
    write_figure(target.draw(frame), frame, tmp_path / "first")
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")
    reread = pd.read_csv(tmp_path / "first.csv")
    write_figure(target.draw(reread), reread, tmp_path / "second")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


@pytest.mark.parametrize("name", sorted(set(target_names()) - SYNTHETIC))
def test_figure_says_its_scale(name: str, config: Config) -> None:
    target = find_target(name)
    note = target.draw(target.assemble(config)).texts[-1].get_text()
    assert note.startswith("scale: smoke")


@pytest.mark.parametrize("name", sorted(set(target_names()) - SYNTHETIC))
def test_missing_result_is_one_clear_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=rf"^{tmp_path}/results/smoke/\S+: no such result; `snakemake"):
        find_target(name).assemble(small_config(tmp_path))


def test_damaged_result_is_one_clear_error(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds=1)
    write_scalerl_results(config)
    metrics = config.results_dir / "runs" / "scalerl-s0" / "metrics.parquet"
    metrics.write_bytes(b"PAR1")
    with pytest.raises(ResultError, match=f"^{metrics}: not a readable parquet file"):
        find_target("scalerl_fig1").assemble(config)


def test_figure_needs_no_other_arms_than_the_catalogue_says(config: Config) -> None:
    for figure in FIGURES:
        own = config.changed(seeds={arm: config.seeds[arm] for arm in figure.arms})
        find_target(figure.target).assemble(own)


def test_one_seed_is_said(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds=1)
    write_scalerl_results(config)
    target = find_target("scalerl_fig5")
    assert "one seed" in target.draw(target.assemble(config)).texts[-1].get_text()


def test_every_arm_has_a_look_of_its_own() -> None:
    for figure in FIGURES:
        looks = [ARM_STYLES[arm] for arm in figure.arms]
        assert len(set(looks)) == len(looks), figure.target
    assert set(ARM_STYLES) == set(ARMS)


def test_unknown_target_lists_the_targets() -> None:
    with pytest.raises(ConfigError, match=r"scalerl_fig99: not a figure; the targets are scalerl_fig1,.*scoreboard"):
        find_target("scalerl_fig99")


def test_every_figure_has_a_caption() -> None:
    captions = {file.stem for file in (ROOT / "workflow" / "report" / "figures").glob("*.rst")}
    assert captions == {figure.target for figure in FIGURES}


def test_paper_values_are_those_of_the_figures() -> None:
    assert set(FIG2) == set(next(f.arms for f in FIGURES if f.target == "scalerl_fig2"))
    assert set(FIG5) == set(next(f.arms for f in FIGURES if f.target == "scalerl_fig5"))
    assert len(TABLE_1) == 15
    sft = [row.sparsity for row in TABLE_1 if row.method == "SFT"]
    rl = [row.sparsity for row in TABLE_1 if row.method != "SFT"]
    assert (min(sft), max(sft)) == (0.006, 0.188)  # the text: SFT 0.6-18.8%, RL 36-92%
    assert (min(rl), max(rl)) == (0.363, 0.917)
    for row in TABLE_1:  # x is the inverse of the isotropic density
        assert 1 - row.sparsity == pytest.approx(2 / np.pi * np.arctan(row.update_size), abs=0.006)


def test_mean_forecast_leaves_out_refused_seeds(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds={"scalerl": 2} | {arm: 1 for arm in ARMS if arm != "scalerl"})
    write_scalerl_results(config, {"scalerl": Run(granted=False)})
    refused = find_target("scalerl_fig1").assemble(config)
    granted = refused.loc[refused["kind"] == "granted"].iloc[0]
    assert (granted["value"], granted["seeds"]) == (0, 2)
    assert refused.loc[refused["quantity"] == "forecast_A", "value"].isna().all()


def test_mask_panel_agrees_with_the_measured_overlap(config: Config) -> None:
    frame = find_target("off_principals_fig1").assemble(config)
    for arm in ("rlvr", "sft"):
        seed_0 = frame[(frame["arm"] == arm) & (frame["seed"] == 0)]
        category = seed_0.loc[seed_0["kind"] == "mask", "category"]
        overlap = seed_0.loc[seed_0["quantity"] == "overlap", "value"].item()
        assert (category == 3).sum() / (category >= 2).sum() == pytest.approx(overlap)


def test_pooled_overlap_weighs_matrices_by_their_changed_entries() -> None:
    matrices = pd.DataFrame(
        {
            "layer": [0, 0, 1, None],
            "m": 10,
            "n": 10,
            "density": [0.3, 0.1, 0.0, 1.0],
            "overlap_low": [0.8, 0.4, np.nan, 0.0],
            "overlap_low_chance": 0.5,
        }
    )
    for null in ("isotropic", "spectrum", "binned"):
        matrices[f"overlap_low_{null}"] = [0.6, 0.2, np.nan, 0.0]
        matrices[f"overlap_low_{null}_low"] = [0.2, 0.0, np.nan, 0.0]
        matrices[f"overlap_low_{null}_high"] = [1.0, 0.4, np.nan, 0.0]
    pooled = pooled_overlaps(matrices, "low", ["layer"]).set_index("layer")
    assert pooled.loc[0, "value"] == pytest.approx(0.75 * 0.8 + 0.25 * 0.4)
    assert pooled.loc[0, "binned"] == pytest.approx(0.5)
    margin = np.hypot(0.75 * 0.4, 0.25 * 0.2)
    assert pooled.loc[0, "binned_high"] - pooled.loc[0, "binned"] == pytest.approx(margin)
    assert np.isnan(pooled.loc[1, "value"])  # nothing changed
    assert list(pooled.index) == [0, 1]  # embeddings and heads stay out


def test_command_line_writes_three_files(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = tmp_path / "figures" / "fig05"
    arguments = [
        "--target",
        "scalerl_fig5",
        "--settings",
        config.model_dump_json(),
        "--output-stem",
        str(stem),
    ]
    monkeypatch.setattr(sys, "argv", ["plot", *arguments])
    plot.main()
    assert sorted(file.name for file in stem.parent.iterdir()) == ["fig05.csv", "fig05.png", "fig05.svg"]
