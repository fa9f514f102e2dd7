"""Figures of updates over time, by operator, by precision and at equal size, from small trees of results."""

from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from rlscape.catalogue import ARMS, FIGURES, resolve_run, seeds_of
from rlscape.errors import ResultError
from rlscape.figures.off_principals import (
    control_bounds,
    control_kl,
    control_matching,
    control_nulls,
    control_operators,
    control_optimizer,
    control_precision,
    fig03,
    fig14,
    fig15,
    matched_panels,
)
from rlscape.files import write_parquet
from rlscape.geometry.measure import BaseMatrix, TunedMatrix, measure_matrix
from rlscape.geometry.operators import MANTISSA_BITS, read_with_bits, vary_operators
from rlscape.geometry.profiles import matrix_profiles
from rlscape.paths import results_dir, run_name
from rlscape.results import bias
from rlscape.results.bias import MATCHED
from rlscape.settings.measurement import GeometrySettings
from rlscape.settings.scale import Config
from tests.pictures import crowded_axes, legends_on_lines
from tests.synthetic import ROOT, small_config

MODULES = (
    fig03,
    fig14,
    fig15,
    control_kl,
    control_matching,
    control_operators,
    control_optimizer,
    control_precision,
    control_nulls,
    control_bounds,
)
STEPS = (3, 6)
SETTINGS = GeometrySettings(rank_fraction=0.25, null_draws=2)
LAYERS, SIZE = 3, 32
SEEDS = {"rlvr": 2, "sft": 2, "sft_rl_rate": 2, "rlvr_sgd": 2, "sft_sgd": 2}
"""Other arms have one seed."""
BOUND_ARMS = next(figure.arms for figure in FIGURES if figure.target == control_bounds.TARGET)
SIZES = {"rlvr": 1e-4, "sft": 2e-3}


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrices_of(scale: float, seed: int) -> dict[tuple[int, str], dict[int, TunedMatrix]]:
    """(layer, kind) -> step -> a square matrix after a random walk."""
    found = {}
    for layer in range(LAYERS):
        for number, kind in enumerate(("q", "o", "up")):
            weights = (0.05 * draw(SIZE, SIZE, seed=10 * layer + number)).bfloat16().double()
            start = BaseMatrix(weights, SETTINGS)
            steps = torch.stack([draw(SIZE, SIZE, seed=1000 * seed + 50 * layer + number + s) for s in range(6)])
            found[layer, kind] = {step: TunedMatrix(start, weights + scale * steps[:step].sum(0)) for step in STEPS}
    return found


@cache
def tables_of(scale: float, seed: int) -> dict[str, pd.DataFrame]:
    """matrices, profiles, operators and mantissa of one run."""
    tables: dict[str, list[pd.DataFrame]] = {"matrices": [], "profiles": [], "operators": [], "mantissa": []}
    for (layer, kind), by_step in matrices_of(scale, seed).items():
        identity = {"tensor": f"model.layers.{layer}.{kind}", "layer": layer, "kind": kind}
        first, last = by_step[STEPS[0]], by_step[STEPS[-1]]
        row = measure_matrix(last.base.weights, last.weights, SETTINGS, torch.Generator().manual_seed(seed))
        tables["matrices"].append(pd.DataFrame([row]).assign(**identity))
        tables["operators"].append(vary_operators(last).assign(**identity))
        bits = pd.DataFrame(read_with_bits(last.base.weights, last.update, bits) for bits in MANTISSA_BITS)
        tables["mantissa"].append(bits.assign(**identity))
        if kind != "up":
            tables["profiles"] += [matrix_profiles(first, by_step[s]).assign(step=s, **identity) for s in STEPS]
    return {name: pd.concat(frames, ignore_index=True) for name, frames in tables.items()}


def write_updates(config: Config, arm: str, seed: int, step_kl: float | None = None) -> None:
    """metrics and updates of one run whose KL of a step is the square of 10 times its learning rate."""
    settings = resolve_run(config, run_name(arm, seed))
    rate = settings.sft.learning_rate if settings.sft else settings.rl.learning_rate
    kl = (10 * rate) ** 2 if step_kl is None else step_kl
    steps = np.arange(1, STEPS[-1] + 1)
    updates = pd.DataFrame({"step": steps, "kl_step": kl, "kl_from_start": kl * steps, "kl_to_start": 1.1 * kl * steps})
    # One step of two is clipped.
    updates["gradient_norm"] = np.where(steps % 2, 3.0, 0.5)
    if ARMS[arm].method == "rl":
        updates["clip_fraction"] = 0.01
    directory = results_dir(config) / "runs" / run_name(arm, seed)
    write_parquet(directory / "updates.parquet", updates)
    evaluations = [0, *STEPS]
    metrics = pd.DataFrame({"step": evaluations, "pass_rate": 0.3 + 0.01 * np.array(evaluations)})
    write_parquet(directory / "metrics.parquet", metrics.assign(run=run_name(arm, seed), arm=arm, seed=seed))


def write_matching(config: Config, seed: int, sft_effect: float = 2.0, name: str = "matching") -> None:
    """A matching table in which SFT's statistics are ``sft_effect`` times RL's."""
    rows = []
    rl, sft, _ = MATCHED[name]
    for matching in bias.MATCHINGS:
        for method, arm in {"rl": rl, "sft": sft}.items():
            factor = 1 if method == "rl" else sft_effect
            values = {name: factor * (0.5 + 0.01 * (seed - config.first_seed)) for name in matched_panels.STATISTICS}
            if matching in ("norm", "kl") and method == "sft":
                values["pass_rate"] = np.nan
            rows.append({"matching": matching, "method": method, "arm": arm, "seed": seed, "step": 6} | values)
    write_parquet(results_dir(config) / "geometry" / f"{name}-s{seed}.parquet", pd.DataFrame(rows))


def write_margins(config: Config) -> None:
    """Of two matrices of every run by plain gradient descent, expectations of 1 and what they are beyond them."""
    for arm, excess in {"rlvr_sgd": -0.3, "sft_sgd": -0.1, "rlvr_sgd_random_rewards": 0.1}.items():
        for seed in seeds_of(config, arm):
            rows = []
            for matrix in (-1, 1):
                columns = dict.fromkeys((column for column, _ in bias.DIRECTIONS.values()), 1 + excess + 0.2 * matrix)
                by_seed = {name: value + 0.01 * (seed - config.first_seed) for name, value in columns.items()}
                expected = {f"{name}_margins": 1.0 for name in columns}
                rows.append(by_seed | expected | {f"{name}_margins_sd": 0.1 for name in columns})
            write_parquet(
                results_dir(config) / "geometry" / run_name(arm, seed) / "margins.parquet", pd.DataFrame(rows)
            )


def tree(root: Path, seeds: dict[str, int]) -> Config:
    """A smoke-sized tree with everything that the figures read."""
    moving = [arm for family in control_kl.FAMILIES.values() for arm in family]
    measured = {*BOUND_ARMS, *control_nulls.METHODS, "rlvr_long"}
    matched = {arm for family in MATCHED.values() for arm in family}
    names = dict.fromkeys([*moving, *measured, *sorted(matched), "rlvr_sgd_random_rewards"])
    config = small_config(root, seeds={arm: seeds.get(arm, 1) for arm in names})
    for arm in config.seeds:
        for seed in seeds_of(config, arm):
            if arm in measured:
                for name, table in tables_of(SIZES.get(arm, 1e-4), seed).items():
                    write_parquet(results_dir(config) / "geometry" / run_name(arm, seed) / f"{name}.parquet", table)
            write_updates(config, arm, seed)
    for seed in seeds_of(config, *bias.MATCHED_ARMS):
        write_matching(config, seed)
        write_matching(config, seed, sft_effect=3.0, name="matching_sgd")
    write_margins(config)
    return config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tree(tmp_path_factory.mktemp("tree"), SEEDS)


def contents(figure: Figure) -> list[object]:
    """The numbers and words of every axes."""
    return [
        [
            [np.asarray(line.get_xydata()).round(9).tolist() for line in ax.lines],
            [text.get_text() for text in (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label)],
            [np.asarray(image.get_array()).round(9).tolist() for image in ax.images],
        ]
        for ax in figure.axes
    ]


def name_of(figure: ModuleType) -> str:
    return figure.__name__.rpartition(".")[2]


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_figure_is_drawn_and_its_csv_gives_the_same_picture(module: ModuleType, config: Config, tmp_path: Path) -> None:
    frame = module.assemble(config)
    figure = module.draw(frame)
    note = figure.texts[-1].get_text()
    assert note.startswith("scale: smoke") and "seed" in note and "paper" in note
    assert crowded_axes(figure) == legends_on_lines(figure) == []
    frame.to_csv(tmp_path / "frame.csv", index=False)
    assert contents(module.draw(pd.read_csv(tmp_path / "frame.csv"))) == contents(figure)


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_missing_result_is_one_clear_error(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=rf"^{tmp_path}/results/smoke/\S+: no such result; `snakemake"):
        module.assemble(small_config(tmp_path))


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_figure_has_a_caption(module: ModuleType) -> None:
    caption = ROOT / "workflow/report/figures" / f"off_principals_{name_of(module).replace('fig0', 'fig')}.rst"
    assert len(caption.read_text().split(".")) > 2


def test_profiles_are_those_of_the_middle_layer_at_the_papers_shares_of_the_run(config: Config) -> None:
    frame = fig03.assemble(config)
    assert set(frame["tensor"]) == {"model.layers.1.q", "model.layers.1.o"}
    assert sorted(frame["step"].unique()) == list(STEPS)  # 3/16 and 9/16 are both nearest to the first
    assert set(zip(frame["kind"], frame["axis"], strict=True)) == {("q", "row"), ("o", "column")}
    assert set(zip(*fig14.assemble(config)[["kind", "axis"]].to_numpy().T, strict=True)) == {
        ("q", "column"),
        ("o", "row"),
    }
    matrix = matrices_of(1e-4, config.first_seed)[1, "q"][STEPS[-1]]
    rows = frame[(frame["kind"] == "q") & (frame["step"] == STEPS[-1])].sort_values("index")
    np.testing.assert_allclose(rows["share"], matrix.changed.double().mean(1))
    borders = [line for line in fig03.draw(frame).axes[0].lines if line.get_linestyle() == "--"]
    assert len(borders) == SIZE // int(frame["head_dim"].iloc[0]) + 1


def test_a_profile_that_grows_in_place_is_stable_and_a_random_one_is_not() -> None:
    rng = np.random.default_rng(0)
    peaks = rng.random(200)
    frames = []
    for run, new in (("stable-s0", peaks), ("random-s0", rng.random(200))):
        for step, share in ((1, 0.2 * peaks), (2, 0.2 * peaks + 0.5 * new)):
            values = {"share": share, "share_by_magnitude": 0.1, "new": new, "new_by_magnitude": 0.1}
            identity = {"run": run, "arm": run[:-3], "seed": 0, "layer": 0, "kind": "q", "axis": "row", "step": step}
            frames.append(pd.DataFrame(values | {"index": range(200)}).assign(**identity))
    stability = bias.rank_stability(pd.concat(frames), {"q": "row"}).set_index("arm")
    assert stability.loc["stable", ["share", "new"]].tolist() == pytest.approx([1, 1])
    assert stability.loc["random", "share"] > 0.2  # nested masks
    assert abs(stability.loc["random", "new"]) < 0.2
    alone = pd.concat(frames).query("step == 1")
    assert bias.rank_stability(alone, {"q": "row"})["new"].isna().all()


def test_kl_of_a_step_grows_with_the_square_of_the_rate_where_it_does(config: Config) -> None:
    frame = control_kl.assemble(config)
    slopes = frame[frame["kind"] == "slope"].set_index("family")["value"]
    assert slopes.to_dict() == pytest.approx({"rlvr": 2, "sft": 2})
    steps = frame[frame["kind"] == "step"].set_index("arm")
    assert steps.loc["rlvr_lr_x10", "learning_rate"] == pytest.approx(10 * steps.loc["rlvr", "learning_rate"])
    assert steps["bound"].unique() == pytest.approx(0.28**2 / 2)
    paths = frame[(frame["kind"] == "path") & (frame["arm"] == "sft")]
    assert paths["step"].min() == STEPS[0] and paths["gain"].max() == pytest.approx(0.06)
    assert steps.loc[steps["family"] == "sft", "clip_fraction"].isna().all()


def test_divergence_starts_at_zero_in_both_directions(config: Config) -> None:
    frame = fig15.assemble(config)
    assert set(frame["arm"]) == {"rlvr", "rlvr_long", "sft"}
    assert (frame.loc[frame["step"] == 0, "value"] == 0).all()
    last = frame[frame["step"] == STEPS[-1]].groupby("direction")["value"].sum()
    assert last["kl_to_start"] == pytest.approx(1.1 * last["kl_from_start"])


def test_isotropic_updates_are_quiet_on_the_grid_and_on_the_curve(config: Config) -> None:
    cells = control_operators.assemble(config)
    principal = cells[cells["operator"] == "principal"]
    assert principal[["energy_excess", "largest_excess"]].abs().mean().max() < 0.05
    subspaces = cells[cells["operator"].isin(control_operators.SUBSPACES) & (cells["rank_fraction"] >= 1 / 8)]
    assert subspaces["energy"].between(0.5, 2).all()  # k = 4 of 32: few entries
    precision = control_precision.assemble(config)
    assert (precision["sparsity"] - precision["expected_sparsity"]).abs().max() < 0.03


def test_nulls_stand_beside_both_precisions(config: Config) -> None:
    frame = control_nulls.assemble(config)
    assert frame.groupby(["precision", "mask", "arm"]).size().eq(2).all()
    fp32 = frame[frame["precision"] == "fp32"]
    assert (fp32["chance"] == 1).all() and fp32["isotropic"].isna().all() and fp32["binned"].notna().all()
    assert (fp32["value"] - 1).abs().max() < 0.2
    assert frame.loc[frame["precision"] == "bf16", ["isotropic", "spectrum", "binned"]].notna().all().all()


def test_theorems_hold_and_a_violation_would_show(config: Config) -> None:
    frame = control_bounds.assemble(config)
    slacks = frame[frame["check"].isin(control_bounds.SLACKS)]
    assert slacks["value"].min() > -control_bounds.TOLERANCE
    assert set(frame["check"]) == {*control_bounds.SLACKS, *control_bounds.PRINTED_WEDIN}
    broken = frame.assign(value=frame["value"].where(frame["check"] != "kyfan", -1.0))
    labels = [ax.get_xlabel() for ax in control_bounds.draw(broken).axes]
    count = int((frame["check"] == "kyfan").sum())
    assert f"slack ({count} violations in {count})" in labels
    assert sum("0 violations" in label for label in labels) == len(control_bounds.SLACKS) - 1


@pytest.mark.parametrize("shape", [(24, 16), (16, 24)])
def test_ky_fan_holds_and_is_tight_for_a_stretched_matrix(shape: tuple[int, int]) -> None:
    base = draw(*shape, seed=0)
    for size in (0.01, 1.0):
        row = measure_matrix(base, base + size * draw(*shape, seed=1), SETTINGS, torch.Generator())
        assert row["kyfan_slack"] > 1e-6 and row["kyfan_printed_slack"] >= row["kyfan_slack"] - 1e-10
    tight = measure_matrix(base, 1.01 * base, SETTINGS, torch.Generator())
    assert tight["kyfan_slack"] == pytest.approx(0, abs=1e-10)


def test_matching_shows_every_statistic_of_every_matching(config: Config) -> None:
    frame = control_matching.assemble(config).set_index(["matching", "method", "statistic"])
    assert len(frame) == 2 * len(bias.MATCHINGS) * len(matched_panels.STATISTICS)
    assert frame.loc[("norm", "sft", "efficiency"), "value"] == pytest.approx(2 * 0.505)
    assert frame.loc[("norm", "sft", "pass_rate"), "seeds"] == 2
    assert np.isnan(frame.loc[("norm", "sft", "pass_rate"), "value"])


def test_the_optimizers_are_compared_where_a_scale_has_both(config: Config) -> None:
    frame = control_optimizer.assemble(config)
    matched = frame[frame["kind"] == "matched"].set_index(["name", "matching", "method", "statistic"])
    assert len(matched) == 4 * len(bias.MATCHINGS) * len(matched_panels.STATISTICS)
    key = ("norm", "sft", "efficiency")
    assert matched.loc[("matching", *key), "value"] == pytest.approx(2 * 0.505)
    assert matched.loc[("matching_sgd", *key), "value"] == pytest.approx(3 * 0.505)
    assert matched.loc[("matching_sgd", *key), "arms"] == "sft_sgd"
    without_adamw = ("rlvr_sgd", "sft_sgd", "rlvr_sgd_random_rewards")
    alone = config.changed(seeds={arm: config.seeds[arm] for arm in without_adamw})
    frame = control_optimizer.assemble(alone)
    assert set(frame["name"].dropna()) == {"matching_sgd"}
    below = control_optimizer.draw(frame).subfigs[1]
    assert len(below.legends[0].texts) == 2


def test_directions_are_means_of_matrices_and_differences_are_of_a_seed(config: Config) -> None:
    frame = control_optimizer.assemble(config)

    def rows(kind: str, arm: str, statistic: str) -> pd.DataFrame:
        return frame[(frame["kind"] == kind) & (frame["arm"] == arm) & (frame["statistic"] == statistic)]

    assert rows("run", "rlvr_sgd", "enrichment")["value"].tolist() == pytest.approx([-0.3, -0.29])
    assert rows("run", "sft_sgd", "left")["value"].tolist() == pytest.approx([0.9, 0.91])
    # Of two seeds 0.01 apart: Student's t of one degree of freedom is 12.706, and the standard error 0.005.
    mean = rows("arm", "rlvr_sgd", "left").iloc[0]
    assert mean["value"] == pytest.approx(0.705)
    assert mean["value_high"] - mean["value"] == pytest.approx(12.706 * 0.005, abs=1e-4)
    less = rows("less", "sft_sgd", "enrichment").iloc[0]
    assert [less["value"], less["value_low"], less["value_high"]] == pytest.approx([-0.2] * 3)
    assert rows("less", "rlvr_sgd_random_rewards", "left")["seeds"].tolist() == [1]
    assert rows("arm", "sft_sgd", "clipped")["value"].tolist() == [0.5]
    assert rows("run", "rlvr_sgd", "left_sd")["value"].tolist() == pytest.approx([0.1 / 2**0.5] * 2)


def test_one_seed_draws_and_is_said(tmp_path: Path) -> None:
    config = tree(tmp_path, {})
    for module in MODULES:
        assert "one seed" in module.draw(module.assemble(config)).texts[-1].get_text(), name_of(module)
