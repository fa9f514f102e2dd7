"""Similarity of update masks: by hand, on planted footprints, through interventions, and the command."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from rlscape.geometry import masks, nulls
from rlscape.geometry.pairs import (
    View,
    _compare_views,
    compare,
    permuted_in_bins,
    segment_share,
    segments,
    similarity,
    stripe_share,
    stripes,
)
from rlscape.geometry.sparsity import scale_to_density
from rlscape.models.build import as_decoder, build_model, save_model, snap_to_bf16_
from rlscape.models.interventions import Gauge
from rlscape.models.weight_files import WEIGHTS
from rlscape.pipeline.intervene_base import intervene_base
from rlscape.pipeline.measure_pairs import measure_pairs
from rlscape.results.pairs import both_ways, pooled_overlap
from rlscape.settings.base_model import ModelSettings
from rlscape.settings.measurement import GeometrySettings, Intervention, LayerEdit
from tests.entries import run_entry

SETTINGS = GeometrySettings(rank_fraction=0.25, null_draws=4)
MODEL = ModelSettings(hidden_size=48, layers=3, heads=6, kv_heads=3, head_dim=8, intermediate_size=48)
INTERVENTION = Intervention(edits=(LayerEdit(depth=0.34, permute=True), LayerEdit(depth=0.67, rotate=True)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def test_similarities_are_those_of_the_masks():
    first, second = (gaussian(30, 40, seed=seed) > 0.3 * seed for seed in (0, 1))
    found = compare(first, second, nulls.magnitude_bins(gaussian(30, 40, seed=2), 10))
    assert found["jaccard"] == pytest.approx(masks.jaccard(first, second))
    assert found["jaccard_chance"] == pytest.approx(masks.chance_jaccard(first, second))
    assert found["phi"] == pytest.approx(masks.phi(first, second))
    assert found["overlap"] == pytest.approx(masks.overlap(first, second))
    assert found["overlap_chance"] == pytest.approx(masks.density(first))
    assert math.isnan(similarity(0, 0, 5, 10)["phi"]) and similarity(0, 0, 5, 10)["jaccard"] == 0


def test_binned_null_is_that_of_simulated_permutations_of_either_mask():
    base = gaussian(24, 24)
    bins = nulls.magnitude_bins(base, 12)
    first, second = (base.abs() < 0.6 + gaussian(24, 24, seed=seed).abs() for seed in (1, 2))
    found = compare(first, second, bins)
    random = generator(3)
    for a, b in ((first, second), (second, first)):
        drawn = pd.DataFrame(
            {"phi": masks.phi(a, draw), "jaccard": masks.jaccard(a, draw)}
            for draw in (permuted_in_bins(b, bins, random) for _ in range(1500))
        )
        for name in ("phi", "jaccard"):
            assert abs(drawn[name].mean() - found[f"{name}_binned"]) < 4 * drawn[name].std() / math.sqrt(1500) + 1e-4
            width = found[f"{name}_binned_high"] - found[f"{name}_binned_low"]
            assert width == pytest.approx(2 * 1.96 * drawn[name].std(), rel=0.08)
    assert found["phi_binned"] > 0.2  # magnitude alone makes them similar
    assert found["phi_binned_low"] < found["phi"] < found["phi_binned_high"]


def test_permutation_within_bins_keeps_every_bins_count():
    bins = nulls.magnitude_bins(gaussian(20, 20), 8)
    mask = gaussian(20, 20, seed=1) > 0.5
    permuted = permuted_in_bins(mask, bins, generator())
    assert torch.equal(torch.bincount(bins[mask], minlength=8), torch.bincount(bins[permuted], minlength=8))
    assert (permuted != mask).sum() > 50


STRIPES = (0.0, 0.3)
"""Relative deviation of a line's rate of change, up in half of the lines and down in the others."""


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("shape", [(64, 64), (64, 128), (128, 64), (32, 256)])
def test_stripe_shares_are_the_variance_of_the_rates_whatever_the_shape_and_density(shape, density):
    """Planted along rows, columns, both or neither; rows less columns is 0 where both have as much."""
    random, draws = generator(5), 400
    unit = min(density, 1 - density)
    for along_rows in STRIPES:
        for along_columns in STRIPES:
            found = {"row": [], "column": []}
            for _ in range(draws):
                signs = [torch.randint(2, (length,), generator=random) * 2 - 1 for length in shape]
                for sign in signs:  # exactly half of the lines
                    sign[torch.randperm(len(sign), generator=random)] = torch.arange(len(sign)) % 2 * 2 - 1
                rates = density + unit * (along_rows * signs[0][:, None] + along_columns * signs[1])
                mask = torch.rand(shape, generator=random) < rates
                for axis, shares in found.items():
                    shares.append(stripe_share(mask, axis))
            planted = {"row": along_rows, "column": along_columns}
            for axis, relative in planted.items():
                truth = (unit * relative) ** 2 / (density * (1 - density)) * (1 + 1 / (shape[axis == "column"] - 1))
                error = np.std(found[axis]) / math.sqrt(draws)
                assert np.mean(found[axis]) == pytest.approx(truth, abs=4 * error), (axis, planted)
            difference = np.subtract(found["row"], found["column"])
            error = np.std(difference) / math.sqrt(draws)
            side = np.sign(round(along_rows - along_columns, 9))
            assert abs(difference.mean()) < 4 * error + 1e-3 if side == 0 else side * difference.mean() > 4 * error


def test_stripe_share_of_nothing_and_of_all_is_unknown():
    assert math.isnan(stripe_share(torch.zeros(4, 6, dtype=torch.bool), "row"))
    assert math.isnan(stripe_share(torch.ones(4, 6, dtype=torch.bool), "column"))
    rows = (torch.arange(4)[:, None] < 2).expand(4, 6)
    assert stripe_share(rows, "row") == pytest.approx(4 / 3) and stripe_share(rows, "column") == pytest.approx(0)


@pytest.mark.parametrize("shape", [(64, 64), (64, 128), (128, 64), (16, 64)])
@pytest.mark.parametrize("entries", ["gaussian", "laplace", "equal"])
def test_lines_that_move_further_have_one_stripe_share_at_any_density(entries, shape):
    """Strengths of lines are log-normal, as varied in rows as in columns, more, or in rows alone.

    The update mask itself has a fifth of the stripes or less where a hundredth of the entries change.
    """
    random, draws = generator(8), 20

    def normal(*size):
        return torch.randn(size, generator=random, dtype=torch.float64)

    def strengths(axis, spread):
        values = normal(*(length if index == axis else 1 for index, length in enumerate(shape)))
        return (spread * (values - values.mean()) / values.std()).exp()

    def moved():
        values = normal(*shape)
        return {"gaussian": values, "laplace": values * normal(*shape).abs(), "equal": 0.1 * values + values.sign()}[
            entries
        ]

    differences, errors = {}, {}
    for spread in ((0.3, 0.3), (0.4, 0.2), (0.4, 0.0)):
        of_density = {density: [] for density in (0.01, 0.1, 0.5, 0.95)}
        as_it_is = []
        for _ in range(draws):
            base = (0.05 * normal(*shape)).bfloat16().double()
            update = strengths(0, spread[0]) * strengths(1, spread[1]) * moved()
            for density, found in of_density.items():
                after = (base + scale_to_density(base, update, density) * update).float().double()
                view = View.of(base, after, SETTINGS.changed(null_draws=1), random)
                assert masks.density(view.masks["_half"]) == pytest.approx(0.5, abs=3e-3)
                half = view.masks["_half"]
                found.append(stripe_share(half, "row") - stripe_share(half, "column"))
                if density == 0.01:
                    as_it_is.append(stripe_share(view.masks[""], "row"))
        means = {density: np.mean(found) for density, found in of_density.items()}
        assert max(means.values()) - min(means.values()) < 1e-3, means
        differences[spread], errors[spread] = means[0.5], np.std(of_density[0.5]) / math.sqrt(draws)
        if spread[1] == 0:
            assert np.mean(as_it_is) < means[0.5] / 5
    assert abs(differences.pop((0.3, 0.3))) < 4 * errors.pop((0.3, 0.3))
    assert all(difference > 4 * errors[spread] for spread, difference in differences.items())


def test_of_an_update_of_few_entries_all_are_looked_at():
    base = (0.05 * gaussian(16, 16)).bfloat16().double()
    update = torch.zeros(16, 16, dtype=torch.float64)
    update[::4, 0] = 1e-6
    view = View.of(base, base + update, SETTINGS.changed(null_draws=1), generator())
    assert torch.equal(view.masks["_half"], update != 0) and not view.masks[""].any()
    assert torch.equal(view.masks["_top"], update != 0)


def test_where_nothing_moves_nothing_is_known():
    """Neither of stripes nor of similarity: equal entries have no order that says which are the largest."""
    base = (0.05 * gaussian(16, 16)).bfloat16().double()
    view = View.of(base, base, SETTINGS, generator())
    assert not any(mask.any() for each in (view.masks, *view.rotated) for mask in each.values())
    assert math.isnan(_compare_views(view, view)["phi_top"])
    assert all(math.isnan(value) for name, value in stripes(view, generator()).items() if name != "density")


def test_an_update_that_rounding_hides_is_compared_with_its_own_null():
    base = (0.05 * gaussian(32, 32)).bfloat16().double()
    moved = torch.where(base.abs() > 1e-3, 1e-9 * gaussian(32, 32, seed=1), 0)
    view = View.of(base, base + moved, SETTINGS, generator())
    assert not view.masks[""].any() and not any(draw[""].any() for draw in view.rotated)
    for name in ("_half", "_top"):
        for draw in view.rotated:
            assert draw[name].sum() == view.masks[name].sum() > 0
    assert np.isfinite([value for name, value in stripes(view, generator()).items()]).all()
    assert np.isnan(list(segments(view, generator()).values())).all()  # of the mask as it is: empty
    assert np.isfinite(_compare_views(view, view)["phi_top_spectrum"])


def test_rotated_updates_change_as_many_entries():
    """An update of flat tails, as Adam's: rotated at equal norm it would change fewer."""
    base = (0.05 * gaussian(64, 64)).bfloat16().double()
    update = 2e-4 * (torch.rand(64, 64, generator=generator(3), dtype=torch.float64) - 0.5)
    view = View.of(base, base + update, SETTINGS, generator())
    density = masks.density(view.masks[""])
    assert 0.2 < density < 0.9
    assert [masks.density(draw[""]) for draw in view.rotated] == pytest.approx([density] * len(view.rotated))


@pytest.mark.parametrize(
    ("planted", "share", "rows"), [("none", 0.0, 0.0), ("segment", 1 / 3, 1 / 24), ("row", 1 / 3, 1 / 3)]
)
def test_segments_that_change_together_are_found(planted, share, rows):
    """Segments, or rows, of density 0 or 2 p in place of p: a variance between them of p^2 of p (1 - p), p = 1/4.

    A row's rate is the mean of its eight segments'.
    """
    chosen = torch.rand(256, 8 if planted == "segment" else 1, generator=generator()) < 0.5
    rates = 0.25 if planted == "none" else 0.5 * chosen.double().repeat_interleave(256 // chosen.shape[1], dim=1)
    mask = torch.rand(256, 256, generator=generator(1), dtype=torch.float64) < rates
    assert segment_share(mask) == pytest.approx(share, abs=0.03 if share else 0.01)
    assert stripe_share(mask, "row") == pytest.approx(rows, abs=0.03)
    assert abs(segment_share(permuted_in_bins(mask, torch.zeros(256, 256, dtype=torch.int64), generator(2)))) < 0.01


def test_segments_are_not_known_of_matrices_that_have_none():
    assert all(math.isnan(segment_share(torch.rand(32, width) < 0.5)) for width in (16, 48))
    assert math.isnan(segment_share(torch.zeros(32, 64, dtype=torch.bool)))


def test_low_rank_updates_have_stripes_that_the_spectrum_null_shares_and_the_binned_null_does_not():
    base = (0.05 * gaussian(64, 64)).bfloat16().double()
    update = 3e-5 * gaussian(64, 1, seed=1) @ gaussian(1, 64, seed=2)
    found = stripes(View.of(base, base + update, SETTINGS.changed(null_draws=12), generator()), generator(1))
    for axis in ("row", "column"):
        assert found[f"{axis}_stripes_top"] > 2 * found[f"{axis}_stripes_top_binned_high"]
        low, high = (found[f"{axis}_stripes_top_spectrum_{end}"] for end in ("low", "high"))
        assert low < found[f"{axis}_stripes_top"] < high


# --- whole models


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs from a base and one from its intervened twin, with updates that share their large entries.

    The intervened run's update is what the base's would be, mapped: undone, it must be as similar as a repeat.
    """
    root = tmp_path_factory.mktemp("pairs")
    stock = build_model(MODEL, seed=0)
    snap_to_bf16_(stock)
    save_model(stock, root / "base")
    with pytest.MonkeyPatch.context() as patch:
        run_entry(
            intervene_base, patch, base=root / "base", settings=INTERVENTION.model_dump_json(), output=root / "gauge"
        )
    gauge = Gauge.of(INTERVENTION, as_decoder(stock).config)
    state = stock.state_dict()
    shared = {name: gaussian(*w.shape, seed=7) ** 3 for name, w in state.items()}
    specs = []
    for seed, (run, base) in enumerate({"rlvr-s0": "base", "rlvr-s1": "base", "rlvr_intervened-s0": "gauge"}.items()):
        update = {name: 2e-5 * (values + gaussian(*values.shape, seed=seed + 20)) for name, values in shared.items()}
        update = gauge.apply(update) if base == "gauge" else update
        start = load_file(root / base / WEIGHTS)
        (root / run).mkdir()
        save_file({name: (w.double() + update[name]).float() for name, w in start.items()}, root / run / WEIGHTS)
        specs.append({"run": run, "base": str(root / base), "model": str(root / run)})
    specs[-1]["original"] = str(root / "base")
    return root, specs


@pytest.fixture
def measure(runs, monkeypatch, tmp_path):
    def measure(specs=None, name="first", sets=None):
        run_entry(
            measure_pairs,
            monkeypatch,
            sets=json.dumps(sets or [specs or runs[1]]),
            settings=SETTINGS.model_dump_json(),
            seed=0,
            pairs=tmp_path / f"{name}.parquet",
            stripes=tmp_path / f"{name}_stripes.parquet",
        )
        return pd.read_parquet(tmp_path / f"{name}.parquet"), pd.read_parquet(tmp_path / f"{name}_stripes.parquet")

    return measure


def test_overlap_falls_where_the_base_was_edited_and_returns_when_the_map_is_undone(measure):
    pairs, profiles = measure()
    assert pairs.groupby(["run_a", "run_b", "view"]).ngroups == 5
    assert (pairs.groupby(["run_a", "run_b", "view"]).size() == 3 * 7).all()  # the embedding and the head are not in it
    assert profiles.groupby(["run", "view"]).ngroups == 4
    repeat = pairs[(pairs.run_b == "rlvr-s1")].set_index("tensor")
    assert (repeat.edit == "none").all() and (repeat.view == "stored").all()
    intervened = pairs[(pairs.run_a == "rlvr-s0") & (pairs.run_b == "rlvr_intervened-s0")]
    stored, undone = (intervened[intervened.view == view].set_index("tensor") for view in ("stored", "undone"))
    edited = stored.index[stored.edit != "none"]
    assert sorted(stored.edit[edited]) == ["permuted"] * 4 + ["rotated"] * 2
    others = stored.index.difference(edited)

    assert (repeat.phi > repeat.phi_binned_high + 0.1).all()
    assert (repeat.phi > repeat.phi_spectrum_high).all()
    assert (repeat.phi_top > 0.3).all()
    assert (stored.phi_top[edited].abs() < 0.15).all()
    assert (stored.overlap - stored.overlap_chance)[edited].abs().max() < 0.1
    for measure_name in ("phi", "phi_top"):
        difference = (undone[measure_name] - repeat[measure_name]).abs()
        assert difference[edited].max() < 0.12 and difference[edited].mean() < 0.06
        assert (stored[measure_name] == undone[measure_name])[others].all()
    pooled = pooled_overlap(intervened.assign(group=intervened.edit != "none"), ["view", "group"])
    value = pooled.set_index(["view", "group"]).value
    assert value["undone", True] - value["stored", True] > 0.15


def test_measuring_again_gives_the_same_numbers(measure, runs):
    first, again = measure(name="first"), measure(name="again")
    for one, other in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one, other)
    reversed_pairs, _ = measure(runs[1][1::-1], name="reversed")
    mirrored = both_ways(first[0][first[0].run_b == "rlvr-s1"].assign(arm_a="x", arm_b="y", seed_a=0, seed_b=1))
    mirrored = mirrored[mirrored.run_a == "rlvr-s1"].set_index("tensor")
    found = reversed_pairs.set_index("tensor")
    for column in ("jaccard", "phi", "phi_top", "overlap", "overlap_chance", "overlap_binned", "overlap_binned_low"):
        np.testing.assert_allclose(mirrored[column], found[column], rtol=1e-9)


def test_only_runs_of_one_set_are_compared(measure, runs):
    first, second, changed = runs[1]
    found, profiles = measure(sets=[[first, second], [changed, first]])
    assert set(zip(found["run_a"], found["run_b"], strict=True)) == {
        ("rlvr-s0", "rlvr-s1"),
        ("rlvr_intervened-s0", "rlvr-s0"),
    }
    assert (profiles["run"] == "rlvr-s0").sum() == 2 * (profiles["run"] == "rlvr-s1").sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root, specs: specs[:1], "1 runs, no pair with a matrix"),
        (lambda root, specs: [specs[0], specs[1] | {"original": str(root / "base")}], "intervene_base writes it"),
        (lambda root, specs: [specs[0], specs[1] | {"model": str(root / "nowhere")}], "no such directory"),
    ],
)
def test_bad_groups_are_refused(measure, runs, change, message, capsys):
    with pytest.raises(SystemExit):
        measure(change(*runs))
    assert message in capsys.readouterr().err
