"""Figures 4, 7, 8, 16, 17 and 18 and Table 3 of P2, from measured updates with planted directions."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from rlscape.catalogue import ARMS, runs_of
from rlscape.figures.off_principals import fig04, fig07, fig08, fig16, fig17, fig18, table3
from rlscape.figures.off_principals.paper_values import TABLE_3
from rlscape.figures.style import write_figure
from rlscape.files import write_parquet
from rlscape.paths import results_dir
from tests.synthetic import small_config, write_geometry

MODULES = {module.__name__.rpartition(".")[2]: module for module in (fig04, fig07, fig08, fig16, fig17, fig18, table3)}
LAYERS, SIZE = 2, 12
BEFORE, AFTER = 0.25, 0.5
LARGE = ("sft", "simpo")
"""Arms with a large update."""
ARMS_HERE = sorted({arm for module in MODULES.values() for arm in getattr(module, "SHOWN", ())})


def checkpoint(generator):
    shapes = {f"self_attn.{kind}_proj": (SIZE, SIZE) for kind in "qkvo"}
    shapes |= {"mlp.gate_proj": (16, SIZE), "mlp.up_proj": (16, SIZE), "mlp.down_proj": (SIZE, 16)}
    return {
        f"model.layers.{layer}.{name}.weight": (0.03 * torch.randn(shape, generator=generator)).bfloat16().float()
        for layer in range(LAYERS)
        for name, shape in shapes.items()
    }


def write_results(config):
    """Small updates of every arm but ``LARGE``; of the agent that searches, of its smallest weights only."""
    generator = torch.Generator().manual_seed(0)
    base = checkpoint(generator)
    for run in runs_of(config, ARMS_HERE):
        arm = run.rpartition("-s")[0]
        scale = 1e-2 if arm in LARGE else 1e-4
        update = {name: scale * torch.randn(weights.shape, generator=generator) for name, weights in base.items()}
        if arm == "agent_search":
            update = {name: delta * (base[name].abs() < base[name].abs().median()) for name, delta in update.items()}
        tuned = {name: weights + update[name] for name, weights in base.items()}
        write_geometry(config, run, base, tuned, null_draws=20)
        metrics = pd.DataFrame({"run": run, "step": [0, 3, 6], "pass_rate": [BEFORE, 0.4, AFTER]})
        write_parquet(results_dir(config) / "runs" / run / "metrics.parquet", metrics)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = small_config(tmp_path_factory.mktemp("agents"), dict.fromkeys(ARMS_HERE, 1) | {"sft": 2})
    write_results(config)
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


@pytest.mark.parametrize("name", ["fig04", "fig08", "fig16", "fig17", "fig18"])
def test_spectra_have_a_row_per_arm_and_show_which_update_is_large(name, config):
    module = MODULES[name]
    frame = module.assemble(config)
    figure = module.draw(frame)
    axes = [ax for ax in figure.axes if ax.get_ylabel()]
    assert len(axes) == 4 * (len(module.SHOWN) + (module in (fig04, fig16, fig17)))
    axes = axes[: 4 * len(module.SHOWN)]
    assert [ax.get_ylabel().partition("\n")[0] for ax in axes[::4]] == [ARMS[arm].label for arm in module.SHOWN]
    for kind in ("angle", "max_angle", "nss"):
        means = frame[frame["kind"] == kind].groupby("arm")["value"].mean()
        assert np.isfinite(means).all() and set(means.index) == set(module.SHOWN)
        for arm in set(module.SHOWN) & set(LARGE):
            assert (means[arm] > 10 * means.drop(arm)).all()
    shown = [float(re.search(r"mean (\S+)", ax.get_title(loc="right"))[1]) for ax in axes[3::4]]
    means = frame[frame["kind"] == "nss"].groupby("arm")["value"].mean()[list(module.SHOWN)]
    assert shown == pytest.approx(means.tolist(), rel=0.01)


def test_preference_tuning_states_its_own_learning_rate(config):
    rates = fig18.assemble(config).groupby("arm")["learning_rate"].first()
    assert rates.to_dict() == dict.fromkeys(fig18.SHOWN, config.off_principals.preference.learning_rate)


def test_masks_are_those_of_the_measured_overlap(config):
    frame = fig07.assemble(config)
    for arm, kind, layer in (("agent_planning", "o", 1), ("agent_search", "k", 0)):
        rows = frame[frame["arm"] == arm]
        assert rows["matrix"].unique().tolist() == [kind] and rows["layer"].unique().tolist() == [layer]
        update, principal = (
            np.array([row.split() for row in rows.loc[rows["mask"] == name, "entries"]], dtype=int)
            for name in ("update", "principal")
        )
        assert update.shape == principal.shape == (SIZE, SIZE)
        value = rows[rows["kind"] == "overlap"].set_index("quantity")["value"]
        assert value["overlap"] == pytest.approx((update & principal).sum() / update.sum())
        assert value["sparsity"] == pytest.approx(1 - update.mean())
    overlaps = frame[frame["quantity"] == "overlap"].set_index("arm")["value"]
    nulls = frame[frame["quantity"] == "isotropic"].set_index("arm")["value"]
    assert overlaps["agent_search"] < nulls["agent_search"] - 0.05, "planted: only small weights change"
    assert overlaps["agent_planning"] == pytest.approx(nulls["agent_planning"], abs=0.12)
    (legend,) = fig07.draw(frame).legends
    assert [text.get_text() for text in legend.get_texts()] == ["changed in bf16 (left), principal (right)", "not"]


@pytest.mark.parametrize("module", [fig04, fig16, fig17])
def test_the_row_of_rl_is_shown_again_on_axes_of_its_own(module, config):
    frame = module.assemble(config)
    figure = module.draw(frame)
    rows = np.array(figure.axes).reshape(3, 4)
    arm = module.SHOWN[1]
    assert ARMS[arm].label in rows[2, 0].get_ylabel() and "zoomed" in rows[2, 0].get_ylabel()
    for column, kind in ((0, "angle"), (2, "max_angle"), (3, "nss")):
        own = frame.loc[(frame["arm"] == arm) & (frame["kind"] == kind), "value"].max()
        common = frame.loc[frame["kind"] == kind, "value"].max()
        assert rows[1, column].get_ylim()[1] >= common > 5 * own
        assert own <= rows[2, column].get_ylim()[1] < 2 * own
    change = rows[2, 1].lines[0].get_ydata()
    spectra = frame[(frame["arm"] == arm) & (frame["matrix"] == "q")].groupby(["kind", "index"])["value"].mean()
    assert change == pytest.approx((spectra["singular_after"] - spectra["singular_before"]).to_numpy())


def test_the_table_has_the_papers_rows_with_our_arms_beside_them(config):
    frame = table3.assemble(config)
    assert list(frame["tuned"]) == [row.tuned for row in TABLE_3]
    assert set(frame["arm"]) == {"agent_search", "agent_calculator", "agent_planning", "dpo", "simpo"}
    assert (frame["before"] == BEFORE).all() and (frame["after"] == AFTER).all()
    by_arm = frame.drop_duplicates("arm").set_index("arm")
    assert by_arm.loc["simpo", "x"] > 10 * by_arm.loc["dpo", "x"]
    assert by_arm.loc["simpo", "sparsity"] < by_arm.loc["dpo", "sparsity"] < by_arm.loc["agent_search", "sparsity"]
    texts = [text.get_text() for text in table3.draw(frame).axes[0].texts]
    assert texts.count("as above") == len(TABLE_3) - 5
    assert "0.250" in texts and "0.500" in texts
