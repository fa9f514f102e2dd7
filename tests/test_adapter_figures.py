"""Masks and adapters: what is read from their runs, and the figures and tables that show it."""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS, base_of, runs_of, seeds_of
from rlscape.figures import adapters as looks
from rlscape.figures.off_principals import control_adapters, fig09, fig10, fig11, table4, table5
from rlscape.figures.off_principals.paper_tables import TABLE_4, TABLE_5
from rlscape.files import write_json, write_parquet
from rlscape.paths import parse_run_name, results_dir
from rlscape.results import curves
from rlscape.results.restricted import (
    adapter_arms,
    distances_to_dense,
    evaluations_at,
    learning_rate,
    masked_arms,
    stability,
    sustained_fall,
)
from rlscape.settings.scale import Config
from tests.pictures import crowded_axes, legends_on_lines
from tests.synthetic import seeded_by, small_config

STEPS = 50
CHANCE = 0.11
MODULES = (fig09, fig10, fig11, table4, table5, control_adapters)
DENSITIES = {"dense": 1.0, "principal": 0.5, "complement": 0.5, "low": 0.586, "safe": 0.74, "random": 0.74}


class Restricted(NamedTuple):
    """What a synthetic run does."""

    end: float = 0.6
    """Pass rate at the end; 0.4 at the start."""
    kl: float = 0.01
    """KL(pi || pi_0) at the end, nats per token."""
    falls_at: int | None = None
    """Step after which the training pass rate is a tenth of what it was."""
    step_size: float = 1e-3
    """Relative norm of the update per step."""


def write_runs(config: Config, arms: Collection[str], run_of: Callable[[str, int], Restricted]) -> None:
    """metrics.parquet, updates.parquet and run.json of every seed of some arms, and what their bases score.

    Seeds count from 0 in ``run_of``.
    """
    for base in {base_of(config, arm) for arm in arms}:
        write_json(results_dir(config) / "bases" / base / "evaluation.json", {"chance_rate": CHANCE})
    for run in runs_of(config, arms):
        arm, seed = parse_run_name(run)
        number = seed - config.first_seed
        made = run_of(arm, number)
        rng = seeded_by(arm, number)
        steps = np.arange(0, STEPS + 1, 10)
        rates = np.linspace(0.4, made.end, len(steps))
        metrics = pd.DataFrame({"run": run, "arm": arm, "seed": seed, "step": steps, "compute": steps * 1.0})
        metrics["pass_rate"], metrics["downstream_pass_rate"] = rates, rates / 2
        metrics["pass_rate_se"], metrics["downstream_pass_rate_se"] = 0.008, 0.016
        metrics["relative_norm"] = made.step_size * steps
        step = np.arange(1, STEPS + 1)
        training = np.interp(step, steps, rates) + 0.01 * rng.standard_normal(STEPS)
        training[step > (STEPS if made.falls_at is None else made.falls_at)] *= 0.1
        kl = made.kl * step / STEPS
        updates = pd.DataFrame({"step": step, "pass_rate": training, "reward_mean": 2 * training - 1})
        updates["kl_to_start"], updates["kl_from_start"], updates["kl_step"] = kl, kl * 1.1, made.kl / STEPS
        directory = results_dir(config) / "runs" / run
        write_parquet(directory / "metrics.parquet", metrics)
        write_parquet(directory / "updates.parquet", updates)
        mask = ARMS[arm].mask
        write_json(directory / "run.json", {"trained_share": DENSITIES.get(mask, 0.5)} if mask else {})


def everything(config: Config) -> list[str]:
    return [*masked_arms(config), *adapter_arms(config), fig11.FULL, *adapter_arms(config, fig11.BASE)]


def unstable_at_high_rates(arm: str, seed: int) -> Restricted:
    """PiSSA takes twice the steps, and falls at the highest rate."""
    adapter = ARMS[arm].adapter
    pissa = adapter is not None and adapter.kind == "pissa"
    falls = 25 if pissa and arm.endswith("_high") else None
    return Restricted(end=0.6 + 0.01 * seed, falls_at=falls, step_size=2e-3 if pissa else 1e-3)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = small_config(tmp_path_factory.mktemp("tree"), seeds=2)
    write_runs(config, everything(config), unstable_at_high_rates)
    return config


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """One seed, and no arm that no figure of the paper needs."""
    config = small_config(tmp_path_factory.mktemp("single"), seeds={"others": 1, "extras": 0})
    write_runs(config, everything(config), unstable_at_high_rates)
    return config


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def legend(figure: Figure) -> list[str]:
    entries = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return [text.get_text() for entry in entries for text in entry.get_texts()]


# Reading


def test_arms_of_masks_and_adapters(config: Config, single: Config) -> None:
    assert {ARMS[arm].mask for arm in masked_arms(single)} == set(DENSITIES)
    assert set(masked_arms(config)) - set(masked_arms(single)) == {
        "mask_random_half",
        "mask_random_magnitude",
        "mask_low_complement",
    }
    assert len(adapter_arms(single)) == 18
    assert {"milora_r8_mid", "subspace_r8_mid"} < set(adapter_arms(config))
    assert len(adapter_arms(single, "llama")) == 6


def test_the_evaluation_nearest_to_a_share_of_the_run() -> None:
    metrics = pd.DataFrame({"run": ["a"] * 6 + ["b"] * 3, "step": [0, 9, 18, 28, 37, 46, 0, 5, 10]})
    found = evaluations_at(metrics.sample(frac=1, random_state=0), 0.64).set_index("run")["step"]
    assert found.to_dict() == {"a": 28, "b": 5}
    assert evaluations_at(metrics, 1.0).set_index("run")["step"].to_dict() == {"a": 46, "b": 10}


def test_distance_to_dense_is_the_share_of_the_dense_area_that_is_missing() -> None:
    kl = {"mask_dense": [1.0, 2, 3], "mask_safe": [1.0, 2, 3], "mask_principal": [0, 0, 0], "mask_low": [2.0, 3, 4]}
    rows = [
        {"arm": arm, "seed": 0, "step": step, "kl_to_start": value}
        for arm, curve in kl.items()
        for step, value in enumerate(curve, start=1)
    ]
    rows.append({"arm": "mask_safe", "seed": 7, "step": 1, "kl_to_start": 1.0})
    found = distances_to_dense(pd.DataFrame(rows))
    assert found.set_index("arm")["value"].to_dict() == {
        "mask_low": pytest.approx(-1 / 2),
        "mask_principal": 1.0,
        "mask_safe": 0.0,
    }
    assert set(found["seed"]) == {0}, "a seed without a dense run has no distance"


def test_noise_is_no_distance_and_hides_none() -> None:
    """Two masks as dense training, one with noisier steps, and one that is a tenth behind."""
    rng, steps = np.random.default_rng(0), np.arange(1, 41)
    masks = {"mask_dense": (0.1, 1.0), "mask_safe": (0.1, 1.0), "mask_random": (0.4, 1.0), "mask_principal": (0.4, 0.9)}
    rows = [
        {"arm": arm, "seed": seed, "step": step, "kl_to_start": share * step * (1 + noise * rng.normal())}
        for arm, (noise, share) in masks.items()
        for seed in range(40)
        for step in steps
    ]
    updates = pd.DataFrame(rows)
    found = distances_to_dense(updates).groupby("arm")["value"].mean()
    expected = {"mask_safe": 0.0, "mask_random": 0.0, "mask_principal": 0.1}
    assert found.to_dict() == pytest.approx(expected, abs=0.03)
    by_step = updates.pivot(index=["arm", "seed"], columns="step", values="kl_to_start")
    between = (by_step - by_step.loc["mask_dense"]).abs().mean(axis=1) / by_step.loc["mask_dense"].mean().mean()
    areas = between.groupby("arm").mean()
    assert areas["mask_random"] - areas["mask_safe"] > 0.1 > areas["mask_principal"] - areas["mask_random"] + 0.05


def test_a_fall_counts_as_far_as_it_lasts_a_tenth_of_the_run() -> None:
    curve = np.full(40, 0.8)
    assert sustained_fall(curve) == 0
    curve[20:23] = 0.2  # three of forty steps are too few
    assert sustained_fall(curve) == 0
    curve[23] = 0.3
    assert sustained_fall(curve) == pytest.approx(1 - 0.3 / 0.8)
    assert sustained_fall(np.linspace(0, 1, 40)) == 0
    assert sustained_fall(np.zeros(40)) == 0


def test_stability_of_runs(config: Config) -> None:
    runs = stability(config, ["lora_r4_high", "pissa_r4_high", "pissa_r4_low"]).set_index(["arm", "seed"])
    first, second = seeds_of(config, "pissa_r4_low")
    assert runs["collapsed"].to_dict() == {
        ("lora_r4_high", first): False,
        ("lora_r4_high", second): False,
        ("pissa_r4_high", first): True,
        ("pissa_r4_high", second): True,
        ("pissa_r4_low", first): False,
        ("pissa_r4_low", second): False,
    }
    assert runs.loc[("pissa_r4_low", first), "step_size"] == pytest.approx(2e-3)
    assert runs.loc[("pissa_r4_low", first), "relative_norm"] == pytest.approx(2e-3 * STEPS)
    assert runs.loc[("pissa_r4_low", second), "pass_rate"] == pytest.approx(0.61)
    rates = runs["learning_rate"].groupby("arm").first()
    assert rates["pissa_r4_high"] == rates["lora_r4_high"] == pytest.approx(10 * rates["pissa_r4_low"])
    assert rates["pissa_r4_low"] == pytest.approx(10 * learning_rate(config, "rlvr"))


# The paper's tables


def test_averages_of_the_papers_tables() -> None:
    """Three of Table 5 differ from their rows by more than rounding; all of Table 4 are right."""
    differing = {
        name: {arm: row.recomputed for arm, row in table.items() if abs(row.average - row.recomputed) > 0.011}
        for name, table in {"4": TABLE_4, "5": TABLE_5}.items()
    }
    assert differing == {
        "4": {},
        "5": {"mask_principal": 55.53, "mask_complement": 57.11, "mask_random": 56.96},
    }


# Figures


def drawn(figure: Figure) -> list:
    """Every line, marker and text of a figure."""
    lines = [
        (line.get_xydata().tolist(), line.get_color(), line.get_linestyle(), line.get_marker(), line.get_label())
        for ax in figure.axes
        for line in ax.lines
    ]
    return [*lines, *(text for ax in figure.axes for text in texts(ax)), *legend(figure), figure.texts[-1].get_text()]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
@pytest.mark.parametrize("scale", ["config", "single"])
def test_a_figure_says_its_seeds_and_its_csv_gives_the_same_picture(module, scale, request, tmp_path: Path) -> None:
    frame = module.assemble(request.getfixturevalue(scale))
    figure = module.draw(frame)
    note = figure.texts[-1].get_text()
    assert note.startswith("scale: smoke")
    assert ("one seed: no verdict" in note) == (scale == "single")
    assert "paper" in note
    assert crowded_axes(figure) == legends_on_lines(figure) == []
    frame.to_csv(tmp_path / "frame.csv", index=False)
    assert drawn(module.draw(pd.read_csv(tmp_path / "frame.csv"))) == drawn(figure)


def test_figure_9_shows_both_directions_and_the_distance_of_each_mask(single: Config) -> None:
    kl = {"mask_principal": 0.001, "mask_safe": 0.009}
    write_runs(single, masked_arms(single), lambda arm, _: Restricted(kl=kl.get(arm, 0.01)))
    figure = fig09.draw(fig09.assemble(single))
    assert len(figure.axes) == 2
    for ax in figure.axes:
        entries = [text.get_text() for text in ax.get_legend().get_texts()]
        assert ARMS["mask_dense"].label in entries
        assert f"{ARMS['mask_principal'].label} (0.90)" in entries
        assert f"{ARMS['mask_safe'].label} (0.10)" in entries
        dense = next(line for line in ax.lines if line.get_label() == ARMS["mask_dense"].label)
        assert list(dense.get_xdata())[:2] == [0, 1]
        assert dense.get_ydata()[0] == 0
    paper, other = (max(line.get_ydata()[-1] for line in ax.lines[:-1]) for ax in figure.axes)
    assert other == pytest.approx(1.1 * paper)
    assert any("320 steps" in text for text in texts(figure.axes[0]))
    write_runs(single, masked_arms(single), unstable_at_high_rates)


def test_figure_10_has_a_column_per_rank_and_the_harder_problems_below(config: Config) -> None:
    figure = fig10.draw(fig10.assemble(config))
    assert len(figure.axes) == 2 * 3
    assert [ax.get_title(loc="left") for ax in figure.axes[:3]] == ["rank 1", "rank 4", "rank 8"]
    labels = legend(figure)
    assert len(labels) == len(set(labels)) == 6 + 1
    colours = {line.get_color() for line in figure.axes[0].lines}
    assert colours == {looks.KINDS[kind][1] for kind in ("lora", "pissa")}
    above, below = (max(line.get_ydata()[-1] for line in ax.lines) for ax in figure.axes[:4:3])
    assert below == pytest.approx(above / 2)


def test_figure_11_has_the_papers_seven_runs(config: Config, single: Config) -> None:
    for scale in (single, config):
        entries = legend(fig11.draw(fig11.assemble(scale)))
        assert [entry.partition(",")[0] for entry in entries[:-1]] == ["full", *["LoRA"] * 3, *["PiSSA"] * 3]
        assert len(set(entries)) == 7 + 1


@pytest.mark.parametrize("module", [fig10, fig11])
def test_harder_problems_have_error_bars_and_chance(module, config: Config, single: Config) -> None:
    """One seed: the sampling error of its evaluations, 1.96 x 0.016 to either side."""
    for scale, several in ((single, False), (config, True)):
        figure = module.draw(module.assemble(scale))
        last = figure.axes[-1]
        assert legend(figure)[-1] == "best constant answer"
        chance = [[CHANCE, CHANCE] in [list(line.get_ydata()) for line in ax.lines] for ax in figure.axes]
        assert chance[-1] and not chance[0]
        bars = [mark for mark in last.collections if isinstance(mark, LineCollection)]
        assert bool(bars) != several
        for bar in bars:
            low, high = np.diff(bar.get_segments()[0][:, 1])[0] * np.array([-0.5, 0.5])
            assert (low, high) == pytest.approx((-1.96 * 0.016, 1.96 * 0.016))


@pytest.mark.parametrize(("module", "rate"), [(table4, 0.4 + 0.6 * 0.2), (table5, 0.6)])
def test_tables_read_their_length_of_the_run_beside_the_papers_row(module, rate: float, single: Config) -> None:
    frame = module.assemble(single)
    rows = frame.set_index("arm")
    assert rows["pass_rate"].to_numpy() == pytest.approx(rate)
    assert rows["downstream_pass_rate"].to_numpy() == pytest.approx(rate / 2)
    assert rows["pass_rate_error"].to_numpy() == pytest.approx(0.008)
    assert rows["pass_rate_difference_error"].dropna().to_numpy() == pytest.approx(0.008 * np.sqrt(2))
    assert rows["trained"].to_dict() == {f"mask_{mask}": share for mask, share in DENSITIES.items()}
    cells = texts(module.draw(frame).axes[0])
    average = (TABLE_4 if module is table4 else TABLE_5)["mask_principal"].average
    assert any(cell.startswith(f"{average:.2f}") for cell in cells)
    assert f"{100 * rate:.1f} ± 0.8" in cells


def test_errors_of_tables_are_those_over_seeds_and_differences_are_paired(config: Config) -> None:
    rows = table5.assemble(config).set_index("arm")
    assert rows.loc["mask_safe", "pass_rate"] == pytest.approx(0.605)
    assert rows.loc["mask_safe", "pass_rate_error"] == pytest.approx(0.005)
    assert rows.loc["mask_safe", "pass_rate_difference"] == pytest.approx(0, abs=1e-12)
    assert rows.loc["mask_safe", "pass_rate_difference_error"] == pytest.approx(0, abs=1e-12)
    assert np.isnan(rows.loc["mask_dense", "pass_rate_difference"])
    assert np.isnan(rows.loc["mask_random_half", "paper_average"])
    cells = texts(table5.draw(table5.assemble(config)).axes[0])
    assert "55.44 (55.53)" in cells
    assert "58.37" in cells


def test_the_control_separates_kinds_dropout_and_collapsed_runs(config: Config, single: Config) -> None:
    frame = control_adapters.assemble(config)
    entries = legend(control_adapters.draw(frame))
    assert {"LoRA", "PiSSA", "MiLoRA", "random subspace", "dropout 0.05"} < set(entries)
    collapsed = frame[frame["collapsed"]]
    assert set(collapsed["adapter"]) == {"pissa"}
    assert (collapsed["fall"] > 0.5).all()
    open_markers = [
        line for line in control_adapters.draw(frame).axes[0].lines if line.get_markerfacecolor() == "white"
    ]
    assert len(open_markers) == 2, "LoRA and PiSSA with dropout"
    few = legend(control_adapters.draw(control_adapters.assemble(single)))
    assert few == ["LoRA", "PiSSA", "rank 1", "rank 4", "rank 8"]


def test_what_a_figure_does_not_find_is_named(tmp_path: Path) -> None:
    for module in MODULES:
        with pytest.raises(ValueError, match=re.escape("no such result; `snakemake")):
            module.assemble(small_config(tmp_path))


def test_every_evaluation_is_one_row_of_a_panel(config: Config) -> None:
    frame = fig10.assemble(config)
    evaluations = frame[(frame["kind"] == "evaluation") & (frame["panel"] == "pass_rate")]
    assert len(evaluations) == len(curves.metrics(config, list(evaluations["arm"].unique())))
