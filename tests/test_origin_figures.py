"""Table 1, Figure 13 and the controls on learning rate and origin of P2, from updates with planted properties."""

import numpy as np
import pandas as pd
import pytest
import torch

from rlscape.catalogue import ARMS, FIGURES, arms_of, figure_of, runs_of, seeds_of
from rlscape.figures.off_principals import control_learning_rate, control_origin, fig13, mask_panels, table1
from rlscape.figures.off_principals.paper_values import TABLE_1
from rlscape.figures.style import write_figure
from rlscape.files import write_parquet
from rlscape.geometry.masks import low_mask, principal_mask, svd
from rlscape.paths import results_dir
from rlscape.results import origin
from tests.synthetic import small_config, write_geometry

MODULES = {
    module.__name__.rpartition(".")[2]: module for module in (table1, fig13, control_learning_rate, control_origin)
}
LAYERS, SIZE = 2, 20
BEFORE, AFTER = 0.25, 0.5
FIGURES_HERE = [figure for figure in FIGURES if figure.stem in MODULES and figure.paper == "off_principals"]
SHOWN = {arm for figure in FIGURES_HERE for arm in (*figure.arms, *figure.optional)}
ARMS_HERE = sorted(arm for arm in SHOWN if not ARMS[arm].extra)
SCALE = 6e-5
"""RMS of the update at RL's own learning rate, of weights of 0.03: x = 0.7."""
PATHS = {3: [(0, 0.0, 1.0), (3, 0.15, 0.97), (6, 0.3, 0.94)], 4: [(0, 0.0, 1.0), (3, 0.2, 0.96), (6, 0.4, 0.92)]}
"""Step, x and sparsity at a run's evaluations, by seed."""


def checkpoint(generator):
    shapes = {"self_attn.q_proj": (SIZE, SIZE), "mlp.up_proj": (32, SIZE)}
    return {
        f"model.layers.{layer}.{name}.weight": (0.03 * torch.randn(shape, generator=generator)).bfloat16().float()
        for layer in range(LAYERS)
        for name, shape in shapes.items()
    }


def planted(arm, weights, generator):
    """Isotropic at the size of the arm's rate; but sft_self inside both subspaces, sft_noisy on principal entries."""
    spec = ARMS[arm]
    scale = SCALE * spec.scaled.get("learning_rate", 1.0) * (30 if spec.method == "sft" and not spec.at_rl_rate else 1)
    update = scale * torch.randn(weights.shape, generator=generator)
    base = svd(weights.double())
    rank = round(0.25 * min(weights.shape))
    if arm == "sft_self":
        left, right = base.U[:, :rank].float(), base.Vh[:rank].float()
        update = left @ left.T @ update @ right.T @ right
    if arm == "sft_noisy":
        update = update * principal_mask(base, rank, 0.5)
    if arm == "rlvr_sgd":
        update = update * low_mask(weights, 0.5)
    return update


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = small_config(tmp_path_factory.mktemp("origin"), dict.fromkeys(ARMS_HERE, 1) | {"rlvr": 2})
    generator = torch.Generator().manual_seed(0)
    base = checkpoint(generator)
    for run in runs_of(config, ARMS_HERE):
        arm = run.rpartition("-s")[0]
        tuned = {name: weights + planted(arm, weights, generator) for name, weights in base.items()}
        write_geometry(config, run, base, tuned)
        seed = int(run.rpartition("-s")[2])
        metrics = pd.DataFrame(PATHS[seed], columns=["step", "x", "sparsity"])
        metrics = metrics.assign(run=run, arm=arm, seed=seed, pass_rate=[BEFORE, 0.4, AFTER])
        write_parquet(results_dir(config) / "runs" / run / "metrics.parquet", metrics)
    return config


@pytest.mark.parametrize("name", MODULES)
def test_figure_is_drawn_and_its_csv_gives_the_same_picture(name, config, tmp_path):
    frame = MODULES[name].assemble(config)
    figure = MODULES[name].draw(frame)
    assert figure.texts[-1].get_text().startswith("scale: smoke")
    write_figure(figure, frame, tmp_path / "first")
    reread = pd.read_csv(tmp_path / "first.csv")
    write_figure(MODULES[name].draw(reread), reread, tmp_path / "second")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


def test_table1_has_the_papers_pairs_and_every_arm_with_what_it_starts_from(config):
    frame = table1.assemble(config)
    assert (frame["source"] == "paper").sum() == len(TABLE_1) == 15
    ours = frame[(frame["source"] == "ours") & (frame["part"] == "linear")].set_index("tuned")
    shown = arms_of(config, figure_of(table1.TARGET))
    assert list(ours.index) == [ARMS[arm].label for arm in shown]
    for arm, base, method in (
        ("rlvr", "deep", "DAPO"),
        ("footprint_cispo", "deep", "CISPO"),
        ("sft_then_rl", ARMS["sft"].label, "DAPO"),
        ("dpo", "deep", "DPO"),
        ("llama_full", "llama", "DAPO"),
        ("agent_search", "agents", "DAPO"),
    ):
        assert ours.loc[ARMS[arm].label, ["base", "method"]].tolist() == [base, method]
    assert ours.loc[ARMS["agent_search"].label, "data"] == "search"
    assert ours.loc[ARMS["rlvr"].label, "seeds"] == 2
    # Isotropic updates: the formula holds. SFT's are 30 times as large.
    assert ours["isotropic_sparsity"].to_numpy() == pytest.approx(ours["sparsity"].to_numpy(), abs=0.04)
    assert ours.loc[ARMS["sft"].label, "x"] == pytest.approx(30 * ours.loc[ARMS["rlvr"].label, "x"], rel=0.1)


def test_fig13_shows_the_entries_that_changed(config):
    frame = fig13.assemble(config)
    for arm in fig13.SHOWN:
        mask = frame[(frame["arm"] == arm) & (frame["kind"] == "mask")]
        assert len(mask) == SIZE**2
        updated, principal = mask["category"].isin([2, 3]), mask["category"].isin([1, 3])
        shown = frame[(frame["arm"] == arm) & (frame["kind"] == "overlap")].set_index("quantity")["value"]
        assert updated.mean() == pytest.approx(1 - shown["sparsity"])
        assert (updated & principal).sum() / updated.sum() == pytest.approx(shown["overlap"])
        assert principal.mean() == shown["chance"]
    titles = [ax.get_title() for ax in fig13.draw(frame).axes]
    assert [title.partition(":")[0] for title in titles] == ["13a", "13b"]
    assert mask_panels.LARGEST_MASK >= SIZE


def test_sparsity_follows_the_rate_and_the_isotropic_curve(config):
    frame = control_learning_rate.assemble(config)
    frame = frame[frame["kind"] == "end"]
    for _, rows in frame.groupby("method"):
        ordered = rows.sort_values("learning_rate")
        assert ordered.drop_duplicates("arm")["sparsity"].is_monotonic_decreasing
    assert (frame["sparsity"] - frame["isotropic_sparsity"]).abs().max() < 0.04
    assert frame["gain"].unique() == pytest.approx([AFTER - BEFORE])
    rates = frame.set_index("arm")["learning_rate"]
    assert rates["sft_rl_rate"] == config.off_principals.rl.learning_rate
    assert rates["rlvr_lr_x30"] == pytest.approx(30 * config.off_principals.rl.learning_rate)
    # Rounding alone moves the overlaps off chance, and the isotropic null with them.
    slow = frame[frame["arm"] == "rlvr_lr_quarter"].iloc[0]
    assert slow["low"] > slow["low_chance"] + 0.1
    assert slow["low"] == pytest.approx(slow["low_isotropic"], abs=0.06)


def test_runs_are_followed_along_their_evaluations(config):
    frame = control_learning_rate.assemble(config)
    paths = frame[frame["kind"] == "path"]
    assert set(paths["run"]) == set(frame.loc[frame["kind"] == "end", "run"])
    for (_, seed), rows in paths.groupby(["run", "seed"]):
        # At the start, where nothing has changed, x is 0, which has no place on the axis.
        assert list(rows[["step", "x", "sparsity"]].itertuples(index=False, name=None)) == PATHS[seed][1:]
    by_size = control_learning_rate.draw(frame).axes[2]
    small = [line.get_xydata() for line in by_size.lines if line.get_markersize() == 2]
    drawn = {tuple(place) for places in small for place in places}
    assert drawn == {(0.15, 0.97), (0.3, 0.94), (0.2, 0.96), (0.4, 0.92)}
    assert sum(map(len, small)) == len(paths)


def test_learning_rates_have_gains_beside_the_points(config):
    frame = control_learning_rate.assemble(config)
    by_rate = control_learning_rate.draw(frame).axes[0]
    assert [text.get_text() for text in by_rate.texts] == ["+0.25"] * frame["arm"].nunique()


@pytest.fixture(scope="module")
def statistics(config):
    frame = control_origin.assemble(config)
    return frame.groupby(["arm", "quantity"])[["value", "null"]].mean()


def test_every_quantity_of_every_arm_is_shown(statistics, config):
    shown = arms_of(config, figure_of(control_origin.TARGET))
    assert set(statistics.index) == {(arm, quantity) for arm in shown for quantity in control_origin.QUANTITIES}
    assert np.isfinite(statistics["value"]).all()


def test_planted_directions_are_seen_and_isotropic_updates_are_at_their_nulls(statistics):
    def value(arm, quantity):
        return statistics.loc[(arm, quantity), "value"]

    for side in origin.SUBSPACES:  # k / m or k / n of the energy, or their product, would be chance
        assert value("sft_self", f"energy_{side}") > 3
        assert value("sft", f"energy_{side}") == pytest.approx(1, abs=0.35)
    for null in ("principal", "principal_half", "principal_rotated"):
        assert value("sft_noisy", null) > 0.1
        assert abs(value("sft", null)) < 0.03
    assert value("rlvr_sgd", "low") > 0.1
    assert abs(value("rlvr", "low")) < 0.05
    for quantity in ("sparsity", "efficiency"):
        found = statistics.loc[("rlvr", quantity)]
        assert found["value"] == pytest.approx(found["null"], abs=0.06)
    assert value("sft", "angle") > 5 * value("rlvr", "angle")


def test_seeds_keep_their_own_rows(config):
    frame = control_origin.assemble(config)
    rlvr = frame[(frame["arm"] == "rlvr") & (frame["quantity"] == "x")]
    assert sorted(rlvr["seed"]) == list(seeds_of(config, "rlvr")) and rlvr["value"].nunique() == 2
