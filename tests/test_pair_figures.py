"""Figures 2, 6 and 12, Table 2 and the gauge control, from measured updates with a planted footprint."""

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue.grids import FOOTPRINT
from rlscape.figures.off_principals import control_gauge, fig02, fig06, fig12, table2
from rlscape.figures.style import write_figure
from rlscape.results import pairs
from tests.pair_results import write_pair_results
from tests.synthetic import small_config

MODULES = {module.__name__.rpartition(".")[2]: module for module in (fig02, fig06, fig12, table2, control_gauge)}


def seeds(rlvr: int, intervened: int, **others: int) -> dict[str, int]:
    return dict.fromkeys(FOOTPRINT, 1) | {"rlvr": rlvr, "sft": 1, "rlvr_intervened": intervened} | others


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Three seeds, and SGD."""
    config = small_config(tmp_path_factory.mktemp("pairs"), seeds(3, 3, rlvr_sgd=2, rlvr_intervened_sgd=2))
    write_pair_results(config, sgd=True)
    return config


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One seed of everything."""
    config = small_config(tmp_path_factory.mktemp("single"), seeds(1, 1))
    write_pair_results(config)
    return config


@pytest.mark.parametrize(
    ("name", "scale"), [*((name, "config") for name in MODULES), ("fig06", "single"), ("control_gauge", "single")]
)
def test_figure_is_drawn_and_its_csv_gives_the_same_picture(name, scale, request, tmp_path):
    config = request.getfixturevalue(scale)
    frame = MODULES[name].assemble(config)
    figure = MODULES[name].draw(frame)
    assert f"scale: {config.scale}" in "".join(text.get_text() for text in figure.texts)
    write_figure(figure, frame, tmp_path / "first")
    reread = pd.read_csv(tmp_path / "first.csv")
    write_figure(MODULES[name].draw(reread), reread, tmp_path / "second")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


def test_consensus_counts_the_runs(config):
    frame = fig02.assemble(config)
    q = frame[(frame["matrix"] == "q")]
    counts = np.array([row.split() for row in q.dropna(subset="counts")["counts"]], dtype=int)
    assert counts.shape == (32, 16) and set(np.unique(counts)) <= set(range(6))
    value = q.dropna(subset="statistic").set_index("statistic")["value"]
    assert value["in_all"] == pytest.approx((counts == 5).mean())
    assert value["in_all"] > value["in_all_chance"] + 0.05
    measured = pairs.stripes(config, "footprint")
    measured = measured[measured["arm"].isin(FOOTPRINT) & (measured["layer"] == 1) & (measured["kind"] == "q")]
    assert counts.mean() / 5 == pytest.approx(measured["density"].mean())
    assert value["row"] == pytest.approx(measured["row_stripes"].mean())


def test_matrices_are_drawn_at_one_scale(config):
    figure = fig02.draw(fig02.assemble(config))
    figure.draw_without_rendering()
    heatmaps = [ax for ax in figure.axes if ax.images]
    shapes = [ax.images[0].get_array().shape for ax in heatmaps]
    assert len(set(shapes)) > 1
    for side in (0, 1):
        extents = [ax.get_window_extent().size[1 - side] for ax in heatmaps]
        sizes = [extent / shape[side] for extent, shape in zip(extents, shapes, strict=True)]
        assert sizes == pytest.approx([sizes[0]] * len(fig02.SHOWN), rel=0.01)


def test_jaccard_matrices_are_symmetric_and_their_means_are_the_tables(config):
    frame = fig12.assemble(config)
    assert len(frame) == 7 * 5 * 4
    table = table2.assemble(config).set_index(["layers", "kind"]).loc["middle"]
    for kind, rows in frame.groupby("kind"):
        values = rows.pivot(index="arm_a", columns="arm_b", values="jaccard").to_numpy()
        np.testing.assert_array_equal(values, values.T)
        assert table.loc[kind, "jaccard"] == pytest.approx(rows["jaccard"].mean())
        assert table.loc[kind, "jaccard_low"] == rows["jaccard"].min() <= rows["jaccard"].max()
    assert table.loc["q", ["paper_jaccard", "paper_jaccard_chance", "paper_phi"]].tolist() == [0.58, 0.43, 0.33]
    assert (table["pairs"] == 10).all()
    for name in ("phi_top", "phi"):
        assert (table[name] > table[f"{name}_binned"] + 0.1).all()


def test_overlap_falls_in_the_changed_layers_only(config):
    frame = fig06.assemble(config)
    excess = (frame["value"] - frame["chance"]).groupby([frame["arm"], frame["part"], frame["layer"]]).mean()
    edits = frame[frame["arm"] == "rlvr_intervened"].groupby(["part", "layer"])["edit"].first()
    assert (edits == "none").groupby("part").sum().to_dict() == {"MLP": 3, "query, key": 2, "value, output": 1}
    drop = (excess["rlvr"] - excess["rlvr_intervened"]).loc[edits.index]
    assert drop[edits != "none"].min() > 0.1
    assert drop[edits == "none"].abs().max() < 0.06
    assert frame.groupby("arm")["seed"].nunique().to_dict() == {"rlvr": 3, "rlvr_intervened": 3}
    assert (frame["binned_low"] <= frame["binned"]).all()


def test_a_run_is_compared_with_other_seeds_only(config):
    chosen = pairs.against(pairs.pairs(config, "intervened"), "rlvr", "rlvr_intervened")
    assert (chosen["seed_a"] != chosen["seed_b"]).all() and (chosen["arm_a"] == "rlvr").all()
    assert chosen.groupby("view").apply(lambda rows: len(rows[["run_a", "run_b"]].drop_duplicates())).tolist() == [6, 6]
    repeat = pairs.against(pairs.pairs(config, "intervened"), "rlvr", "rlvr")
    assert len(repeat[["run_a", "run_b"]].drop_duplicates()) == 6


def test_undoing_the_change_brings_the_overlap_back(config):
    frame = control_gauge.assemble(config)
    assert set(frame["optimizer"]) == {"AdamW", "SGD"}
    for _, rows in frame[frame["edit"] != "none"].groupby(["optimizer", "measure", "layer", "kind"]):
        value = rows.groupby("comparison")["value"].mean()
        assert value["undone"] == pytest.approx(value["repeat"], abs=0.15)
        assert value["stored"] < value["repeat"] - 0.15
        assert value["twins"] > value["stored"] + 0.15
    unchanged = frame[frame["edit"] == "none"].groupby("comparison")["value"].mean()
    assert unchanged["undone"] == unchanged["stored"]


def test_one_seed_has_no_repeat(single):
    frame = fig06.assemble(single)
    assert set(frame["arm"]) == {"rlvr_intervened"}
    assert set(control_gauge.assemble(single)["comparison"]) == {"stored", "undone"}
