"""Every figure draws from a tree of results, says what it rests on, and comes out the same twice."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from rlscape.catalogue import ARMS, FIGURES, first_run, runs_of, with_figure
from rlscape.catalogue.styles import FREE_STYLES
from rlscape.claims import evaluate_register, load_register
from rlscape.errors import ConfigError, ResultError
from rlscape.figures.learning_curves import (
    assemble_curves,
    assemble_downstream,
    draw_curves,
    draw_downstream,
    estimate,
)
from rlscape.figures.off_principals.paper_values import TABLE_1
from rlscape.figures.registry import SCOREBOARD, find_target, target_names
from rlscape.figures.scalerl.paper_values import (
    BASELINE,
    FIG2,
    FIG4,
    FIG5,
    FIG6,
    FIG9,
    FIG10,
    FIG14,
    FIG17,
    FIG19,
    FIG20,
    Fit,
)
from rlscape.figures.style import ARM_STYLES, new_figure, write_figure
from rlscape.files import read_json, write_json, write_parquet
from rlscape.paths import results_dir
from rlscape.pipeline.plot_figure import plot_figure
from rlscape.results import curves
from rlscape.results.weights import NULLS, NULLS_AT_HALF, pooled_overlaps
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config
from tests.entries import run_entry
from tests.loss_results import write_landscape
from tests.pictures import crowded_axes, legend_entries, legends_on_lines
from tests.synthetic import R_0, ROOT, Run, small_config, write_geometry_results, write_scalerl_results

SYNTHETIC = {"scalerl_fig3", "scalerl_fig12", "scalerl_fig13"}
"""Targets that need no results."""
SCALERL = [figure.target for figure in FIGURES if figure.paper == "scalerl"]
"""P2's figures need other results; they are drawn by the tests of their topics."""

CURVE_FIGURES: dict[str, Mapping[str, Fit]] = {
    "scalerl_fig4": FIG4,
    "scalerl_fig5": FIG5,
    "scalerl_fig6": FIG6,
    "scalerl_fig9": FIG9,
    "scalerl_fig10": FIG10,
    "scalerl_fig14": FIG14,
    "scalerl_fig17": FIG17,
    "scalerl_fig19": FIG19,
    "scalerl_fig20": FIG20,
}
"""Figures of learning curves whose legends have the paper's fits."""

PANELS = {
    "scalerl_fig4": ("a", "b", "c", "d"),
    "scalerl_fig5": ("a", "b"),
    "scalerl_fig6": ("a", "b"),
    "scalerl_fig9": ("left", "right"),
    "scalerl_fig10": ("a", "b"),
    "scalerl_fig14": ("a", "b"),
    "scalerl_fig17": ("a", "b"),
    "scalerl_fig18": ("a", "b", "c"),
    "scalerl_fig19": ("a", "b", "c", "d"),
    "scalerl_fig20": ("a", "b"),
}

FIG4_ARMS = next(figure.arms for figure in FIGURES if figure.target == "scalerl_fig4")


@contextmanager
def record_of_base(config: Config, base: str, changes: dict[str, float]) -> Iterator[None]:
    """The evaluation of a base model with some numbers replaced for a while."""
    file = results_dir(config) / "bases" / base / "evaluation.json"
    record = read_json(file)
    write_json(file, record | changes)
    yield
    write_json(file, record)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = small_config(tmp_path_factory.mktemp("tree"), seeds=2)
    write_scalerl_results(config, {"deepseek_grpo": Run(A=0.5, granted=False), "gspo": Run(fails=True, granted=False)})
    write_geometry_results(config, layers=2, size=16)
    write_landscape(config)
    register = load_register(ROOT / "config" / "claims.yaml")
    scalerl = register.changed(claims=[claim for claim in register.claims if claim.paper == "scalerl"])
    verdicts = evaluate_register(scalerl, config)
    verdicts.to_csv(results_dir(config) / "claims.csv", index=False)
    return config


@pytest.mark.parametrize("name", [*SCALERL, SCOREBOARD])
def test_figure_is_drawn_and_its_csv_gives_the_same_picture(name: str, config: Config, tmp_path: Path) -> None:
    target = find_target(name)
    frame = target.assemble(config)
    figure = target.draw(frame)
    write_figure(figure, frame, tmp_path / "first")
    assert crowded_axes(figure) == legends_on_lines(figure) == []
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")
    reread = pd.read_csv(tmp_path / "first.csv")
    write_figure(target.draw(reread), reread, tmp_path / "second")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


@pytest.mark.parametrize("name", sorted({*SCALERL, SCOREBOARD} - SYNTHETIC))
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
    metrics = results_dir(config) / "runs" / first_run(config, "scalerl") / "metrics.parquet"
    metrics.write_bytes(b"PAR1")
    with pytest.raises(ResultError, match=f"^{metrics}: not a readable parquet file"):
        find_target("scalerl_fig2").assemble(config)


@pytest.mark.more
def test_a_figure_shows_nothing_of_other_arms_than_the_catalogue_says(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake knows of its own arms only: it would not draw it again where another one has changed."""
    for figure in (figure for figure in FIGURES if figure.paper == "scalerl"):
        target = find_target(figure.target)
        with monkeypatch.context() as patch:
            for arm in ARMS.keys() - {*figure.arms}:
                patch.setitem(ARMS, arm, ARMS[arm].changed(label="of another arm"))
            frame = target.assemble(with_figure(config, figure))
            texts = [text.get_text() for text in target.draw(frame).findobj(Text)]
        assert "of another arm" not in frame.to_csv() + " ".join(texts), figure.target


def test_one_seed_is_said(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds=1)
    write_scalerl_results(config)
    for name in CURVE_FIGURES:
        target = find_target(name)
        figure = target.draw(target.assemble(config))
        assert "one seed" in figure.texts[-1].get_text()
        assert not any(re.search(r"\[\d", entry) for entry in legend_entries(figure)), name  # no interval


def test_every_arm_has_a_look_of_its_own() -> None:
    tables = ("table", "control_learning_rate")
    for figure in FIGURES:
        colours = {ARM_STYLES[arm][0] for arm in figure.arms}
        if not figure.stem.startswith(tables) and len({*figure.arms, *figure.optional}) <= len(FREE_STYLES):
            assert len(colours) == len(figure.arms), figure.target
    assert set(ARM_STYLES) == set(ARMS)
    assert not {marker for _, marker in ARM_STYLES.values()} & {"*", "x"}  # evaluations


def test_another_learning_rate_keeps_the_colour_of_its_arm() -> None:
    half, own, double = (ARM_STYLES[arm] for arm in ("cispo_half_lr", "cispo", "cispo_double_lr"))
    assert half[0] == own[0] == double[0]
    assert len({half, own, double}) == 3


@pytest.mark.parametrize(("name", "titles"), PANELS.items())
def test_every_panel_of_the_paper_is_there(name: str, titles: tuple[str, ...], config: Config) -> None:
    target = find_target(name)
    found = [ax.get_title(loc="left") for ax in target.draw(target.assemble(config)).axes]
    assert sorted(title.partition(":")[0] for title in found if ":" in title) == sorted(titles)


@pytest.mark.parametrize(("name", "paper"), CURVE_FIGURES.items())
def test_papers_fits_stand_beside_ours(name: str, paper: Mapping[str, Fit], config: Config) -> None:
    target = find_target(name)
    frame = target.assemble(config)
    entries = legend_entries(target.draw(frame))
    for arm, fit in paper.items():
        ours = estimate(frame, arm, "A")["value"]
        theirs = f"({fit.A:.3f}, {fit.B:.2f})" if np.isfinite(fit.B) else f"({fit.A:.3f})"
        expected = "no fit" if arm == "gspo" else f"{ours:.3f} ["
        assert any(ARMS[arm].label in entry and expected in entry and theirs in entry for entry in entries), arm


def test_papers_fits_are_of_arms_of_their_figures() -> None:
    for name, paper in CURVE_FIGURES.items():
        assert set(paper) <= set(next(figure.arms for figure in FIGURES if figure.target == name)), name
        assert paper.get("baseline", BASELINE) == BASELINE
    assert BASELINE == Fit(A=0.520, B=4.55)


def test_refused_forecast_is_dotted(config: Config) -> None:
    target = find_target("scalerl_fig2")
    ax = target.draw(target.assemble(config)).axes[0]
    styles = {
        arm: {line.get_linestyle() for line in ax.lines if line.get_color() == ARM_STYLES[arm][0]} for arm in FIG2
    }
    assert ":" in styles["deepseek_grpo"] and "--" not in styles["deepseek_grpo"]
    assert "--" in styles["scalerl"] and ":" not in styles["scalerl"]


def test_base_line_is_that_of_the_arms_base(config: Config) -> None:
    with record_of_base(config, "moe", {"pass_rate": 0.45}):
        frame = assemble_curves(config, ["scalerl", "moe"])
    bases = frame[frame["kind"] == "base"].set_index("arm")
    assert bases.loc["scalerl", ["base", "value"]].tolist() == ["dense", R_0]
    assert bases.loc["moe", ["base", "value"]].tolist() == ["moe", 0.45]
    names = {}
    for arms in (["scalerl"], ["scalerl", "moe"]):
        ax = new_figure(4, 4).subplots()
        draw_curves(ax, frame, arms)
        names[len(arms)] = {text.get_text() for text in ax.texts}
    assert names == {1: {"base model"}, 2: {"base model, dense", "base model, moe"}}


def test_downstream_curves_of_either_task(config: Config) -> None:
    metrics = curves.metrics(config, ["math_and_code"])
    last = metrics[metrics["step"] == metrics["step"].max()]
    with record_of_base(config, "joint", {"chance_rate": 0.12}):
        frames = {task: assemble_downstream(config, ["math_and_code"], task) for task in ("math", "code")}
    for task, frame in frames.items():
        mean = frame[frame["kind"] == "downstream_mean"].iloc[-1]
        expected = t_interval(last[f"{'code_' if task == 'code' else ''}downstream_pass_rate"])
        assert mean["value"] == pytest.approx(expected.estimate)
        assert mean["low"] == pytest.approx(max(expected.low, 0))
        assert frame.loc[frame["kind"] == "downstream_base", "base"].tolist() == ["joint"]
    chance = {task: frame.loc[frame["kind"] == "downstream_chance", "value"].item() for task, frame in frames.items()}
    assert chance["math"] == 0.12
    assert np.isnan(chance["code"])
    ax = new_figure(4, 4).subplots()
    draw_downstream(ax, frames["math"], ["math_and_code"])
    assert {text.get_text() for text in ax.texts} == {"base model", "best constant answer"}
    assert ax.get_ylabel() == "downstream pass rate (4–5 operations)"


def test_one_seed_downstream_shows_its_sampling_error(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds={"scalerl": 1})
    write_scalerl_results(config)
    last = curves.metrics(config, ["scalerl"]).iloc[-1]
    frame = assemble_downstream(config, ["scalerl"])
    mean = frame[frame["kind"] == "downstream_mean"].iloc[-1]
    half = 1.96 * last["downstream_pass_rate_se"]
    assert (mean["high"] - mean["low"]) / 2 == pytest.approx(half)


def test_schedules_are_compared_at_one_level_for_every_speed(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds=dict.fromkeys(FIG4_ARMS, 3))
    runs = {arm: Run(C_mid=10 if arm.startswith("pipeline8") or arm == "baseline" else 20) for arm in FIG4_ARMS}
    runs["ppo8_fast"] = Run(A=0.45)  # never gets there
    runs["ppo1"] = Run(idle_generator=0.4, idle_trainer=0.1)
    write_scalerl_results(config, runs, spread=0)
    frame = find_target("scalerl_fig4").assemble(config)
    ratios = frame[frame["kind"] == "ratio"].set_index(["speed", "quantity"])
    assert ratios["level"].unique() == pytest.approx(R_0 + 0.7 * (Run().A - R_0))
    for speed in ("half", "as assumed"):
        assert ratios.loc[(speed, "compute"), "value"] == pytest.approx(2)
    for speed, factor in {"half": 1.5, "as assumed": 2, "double": 1.5}.items():
        assert ratios.loc[(speed, "clock"), "value"] == pytest.approx(factor, rel=0.05)
    assert np.isinf(ratios.loc[("double", "compute"), "high"])
    assert np.isinf(ratios.loc[("double", "updates"), "high"])
    idle = frame[frame["kind"] == "idle"].set_index(["arm", "quantity"])["value"]
    assert idle["ppo1", "generators"] == pytest.approx(0.4, rel=0.02)
    assert idle["ppo1", "trainers"] == pytest.approx(0.1)
    assert idle["baseline", "generators"] == 0


def test_updates_are_those_at_the_compute_of_the_level(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds=dict.fromkeys(FIG4_ARMS, 2))
    runs = {arm: Run(C_mid=10 if arm.startswith("pipeline8") or arm == "baseline" else 20) for arm in FIG4_ARMS}
    write_scalerl_results(config, runs, spread=0)
    for run in runs_of(config, ["ppo8"]):  # as many updates, in twice the compute
        file = results_dir(config) / "runs" / run / "metrics.parquet"
        table = pd.read_parquet(file)
        write_parquet(file, table.assign(step=table["step"] / 2))
    frame = find_target("scalerl_fig4").assemble(config)
    ratios = frame[(frame["kind"] == "ratio") & (frame["speed"] == "as assumed")].set_index("quantity")["value"]
    assert ratios["compute"] == pytest.approx(2)
    assert ratios["updates"] == pytest.approx(1, abs=0.06)  # runs differ by up to 2% in length


def test_sweep_of_clips_has_those_of_the_recipes(config: Config) -> None:
    frame = find_target("scalerl_fig19").assemble(config)
    clips = frame[frame["kind"] == "clip"].set_index("arm")["value"]
    assert clips[["dapo_clip_020", "baseline", "dapo_clip_028", "dapo_clip_040"]].tolist() == [0.2, 0.26, 0.28, 0.4]
    assert clips[["cispo_cap_4", "cispo", "cispo_cap_8"]].tolist() == [4, 5, 8]


def test_entropy_is_shown_from_step_0(config: Config) -> None:
    target = find_target("scalerl_fig16")
    frame = target.assemble(config)
    assert frame.loc[frame["kind"] == "mean", "step"].min() == 0
    texts = legend_entries(target.draw(frame))
    assert all("0.30" in text and "→ 0.15" in text for text in texts)
    assert "(paper 0.29 → 0.15)" in texts[0] and "(paper 0.29 → 0.12)" in texts[1]


def test_unknown_target_lists_the_targets() -> None:
    with pytest.raises(ConfigError, match=r"scalerl_fig99: not a figure; the targets are scalerl_fig1,.*scoreboard"):
        find_target("scalerl_fig99")


def test_every_figure_has_a_caption() -> None:
    captions = {file.stem for file in (ROOT / "workflow" / "report" / "figures").glob("*.rst")}
    assert captions == {figure.target for figure in FIGURES}


def test_paper_values_are_those_of_the_figures() -> None:
    assert set(FIG2) == set(next(f.arms for f in FIGURES if f.target == "scalerl_fig2"))
    assert len(TABLE_1) == 15
    sft = [row.sparsity for row in TABLE_1 if row.method == "SFT"]
    rl = [row.sparsity for row in TABLE_1 if row.method != "SFT"]
    assert (min(sft), max(sft)) == (0.006, 0.188)  # the text: SFT 0.6-18.8%, RL 36-92%
    assert (min(rl), max(rl)) == (0.363, 0.917)
    for row in TABLE_1:  # x is the inverse of the isotropic density
        assert 1 - row.sparsity == pytest.approx(2 / np.pi * np.arctan(row.update_size), abs=0.006)


def test_mean_forecast_leaves_out_refused_seeds(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds={"scalerl": 2, "others": 1})
    write_scalerl_results(config, {"scalerl": Run(granted=False)})
    frame = find_target("scalerl_fig2").assemble(config)
    refused = frame[frame["arm"] == "scalerl"]
    granted = refused.loc[refused["kind"] == "granted"].iloc[0]
    assert (granted["value"], granted["seeds"]) == (0, 2)
    assert refused.loc[refused["quantity"] == "forecast_A", "value"].isna().all()


def test_mask_panel_agrees_with_the_measured_overlap(config: Config) -> None:
    frame = find_target("off_principals_fig1").assemble(config)
    for arm in ("rlvr", "sft"):
        first = frame[(frame["arm"] == arm) & (frame["seed"] == config.first_seed)]
        category = first.loc[first["kind"] == "mask", "category"]
        overlap = first.loc[first["quantity"] == "overlap", "value"].item()
        assert (category == 3).sum() / (category >= 2).sum() == pytest.approx(overlap)


@pytest.mark.parametrize(("half", "at"), [(False, ""), (True, "_half")])
def test_pooled_overlap_weighs_matrices_by_their_changed_entries(half: bool, at: str) -> None:
    matrices = pd.DataFrame(
        {
            "layer": [0, 0, 1, None],
            "m": 10,
            "n": 10,
            f"density{at}": [0.3, 0.1, 0.0, 1.0],
            f"overlap{at}_low": [0.8, 0.4, np.nan, 0.0],
            f"overlap{at}_low_chance": 0.5,
        }
    )
    for null in NULLS_AT_HALF if half else NULLS:
        matrices[f"overlap{at}_low_{null}"] = [0.6, 0.2, np.nan, 0.0]
        matrices[f"overlap{at}_low_{null}_low"] = [0.2, 0.0, np.nan, 0.0]
        matrices[f"overlap{at}_low_{null}_high"] = [1.0, 0.4, np.nan, 0.0]
    pooled = pooled_overlaps(matrices, "low", ["layer"], half=half).set_index("layer")
    assert pooled.loc[0, "value"] == pytest.approx(0.75 * 0.8 + 0.25 * 0.4)
    assert pooled.loc[0, "binned"] == pytest.approx(0.5)
    margin = np.hypot(0.75 * 0.4, 0.25 * 0.2)
    assert pooled.loc[0, "binned_high"] - pooled.loc[0, "binned"] == pytest.approx(margin)
    assert np.isnan(pooled.loc[1, "value"])  # nothing changed
    assert list(pooled.index) == [0, 1]  # embeddings and heads stay out
    reversed_rows = pooled_overlaps(matrices[::-1], "low", ["layer"], half=half)
    assert list(reversed_rows["layer"]) == [0, 1]  # lines are drawn from layer to layer


def test_command_line_writes_three_files(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = tmp_path / "figures" / "fig05"
    settings = config.model_dump_json()
    run_entry(plot_figure, monkeypatch, target="scalerl_fig5", settings=settings, output_stem=stem)
    assert sorted(file.name for file in stem.parent.iterdir()) == ["fig05.csv", "fig05.png", "fig05.svg"]
