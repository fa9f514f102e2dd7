"""Claims on the footprint: verdicts from similarities that a test chooses, and the jackknife."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

from rlscape.catalogue import runs_of, seeds_of
from rlscape.catalogue.grids import FOOTPRINT
from rlscape.claims import load_register
from rlscape.claims.off_principals import footprint
from rlscape.claims.register import Claim
from rlscape.files import write_parquet
from rlscape.geometry import masks
from rlscape.geometry.pairs import View, stripes
from rlscape.paths import results_dir, run_name
from tests.claim_verdicts import CLAIMS
from tests.synthetic import small_config

CONVENTIONS = load_register(CLAIMS).conventions
KINDS = ("q", "k", "v", "o", "up")
LAYERS = range(3)
SEEDS = 5


def claim(evaluator, arms, **values):
    text = dict.fromkeys(("id", "text", "evidence", "criterion"), "x")
    return Claim.model_validate(
        text | {"paper": "off_principals", "figures": (), "evaluator": evaluator, "arms": arms} | values
    )


O3 = claim("shared_footprint", (*FOOTPRINT, "sft"), thresholds={"negligible": 0.01})
O4 = claim(
    "striped",
    ("rlvr",),
    directions={"q": "above", "k": "above", "v": "above", "o": "below"},
    thresholds={"negligible": 0.01},
)
O10 = claim("overlap_follows_edits", ("rlvr", "rlvr_intervened"))


@pytest.fixture
def config(tmp_path):
    seeds = dict.fromkeys((*FOOTPRINT, "sft", "rlvr", "rlvr_intervened"), SEEDS)
    return small_config(tmp_path, seeds)


def matrices():
    return [{"tensor": f"{layer}.{kind}", "layer": layer, "kind": kind} for layer in LAYERS for kind in KINDS]


def noise(seed):
    rng = np.random.default_rng(seed)
    return lambda size=0.005: float(rng.normal(0, size))


# --- the jackknife


def test_jackknife_covers_means_over_pairs_where_means_per_run_do_not():
    """A pair's value has an effect of each of its runs; the truth is 0."""
    rng = np.random.default_rng(0)
    covered = naive = 0
    trials = 400
    for _ in range(trials):
        effects, own = rng.normal(size=5), rng.normal(0, 0.5, (5, 5))
        values = {(a, b): effects[a] + effects[b] + own[a, b] for a, b in combinations(range(5), 2)}

        def mean(units, values=values):
            return np.mean([value for pair, value in values.items() if set(pair) <= set(units)])

        interval = footprint.jackknife(mean, range(5))
        assert interval.estimate == pytest.approx(np.mean(list(values.values()))) and interval.seeds == 5
        covered += interval.low < 0 < interval.high
        by_run = [np.mean([value for pair, value in values.items() if run in pair]) for run in range(5)]
        simple = footprint.t_interval(by_run)
        naive += simple.low < 0 < simple.high
    assert covered / trials > 0.93
    assert naive / trials < 0.8


def test_jackknife_of_two_units_has_no_limits():
    interval = footprint.jackknife(lambda units: float(len(units)), range(2))
    assert interval.estimate == 2 and np.isnan(interval.low) and interval.seeds == 2


# --- O3


def write_footprint(config, phi=0.6, binned=0.25, spectrum=0.26, phi_sft=0.08, phi_top=0.6, phi_top_sft=0.05):
    jitter = noise(1)
    rows = []
    for seed in seeds_of(config, *FOOTPRINT):
        for a, b in combinations((*FOOTPRINT, "rlvr", "sft"), 2):
            of_pair = phi_sft if b == "sft" else phi
            columns = {"density_a": 0.3, "density_b": 0.3, "phi_binned": binned, "phi_spectrum": spectrum}
            identity = {"run_a": run_name(a, seed), "run_b": run_name(b, seed), "view": "stored", "jaccard_chance": 0.2}
            for matrix in matrices():
                found = {"jaccard": 0.2 + 0.4 * of_pair + jitter(), "phi": of_pair + jitter()}
                found["phi_top"] = (phi_top_sft if b == "sft" else phi_top) + jitter()
                rows.append(identity | matrix | columns | found)
    write_parquet(results_dir(config) / "geometry/pairs_footprint.parquet", pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("planted", "verdict", "measure"),
    [
        ({}, "replicated", "phi less binned"),
        ({"binned": 0.6}, "not replicated", "phi less binned"),  # explained by magnitude
        ({"binned": 0.595}, "not replicated", "phi less binned"),  # but for what is negligible
        ({"binned": 0.59}, "inconclusive", "phi less binned"),
        ({"spectrum": 0.595}, "not replicated", "phi less spectrum-matched"),
        ({"phi_sft": 0.7}, "replicated", "phi less binned"),  # a difference of densities: reported
        ({"phi_top_sft": 0.6}, "not replicated", "fp32 phi within RL less with sft"),
        ({"phi": 0.0, "binned": -0.1, "spectrum": -0.1}, "not replicated", "J less J_0"),
    ],
)
def test_shared_footprint(config, planted, verdict, measure):
    write_footprint(config, **planted)
    found = footprint.shared_footprint(O3, CONVENTIONS, config)
    assert (found.verdict, found.measure, found.units, found.seeds) == (verdict, measure, SEEDS, SEEDS), found.reason
    assert "10 pairs of recipes" in found.reason
    if not planted:
        assert found.low < 0.35 < found.high and found.high - found.low < 0.02
        assert "phi within RL 0.6" in found.reason


def test_few_seeds_decide_nothing_about_the_footprint(config):
    few = config.changed(seeds=dict.fromkeys(FOOTPRINT, 1) | {"sft": 1, "rlvr": 1})
    write_footprint(few)
    found = footprint.shared_footprint(O3, CONVENTIONS, few)
    assert found.verdict == "inconclusive" and found.units == 1


def test_a_mask_of_nearly_all_entries_has_little_phi_with_any():
    """Three updates that share their large entries to the same degree, the last with nearly all entries changed."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(200, 200))
    first, second, full = (torch.from_numpy(np.abs(common + 0.5 * rng.normal(size=common.shape))) for _ in range(3))
    density = {"changed": (0.4, 0.4, 0.98), "largest": (0.2, 0.2, 0.2)}
    within, beyond = {}, {}
    for name, shares in density.items():
        a, b, c = (masks.top_mask(size, share) for size, share in zip((first, second, full), shares, strict=True))
        within[name], beyond[name] = masks.phi(a, b), masks.phi(a, b) - masks.phi(a, c)
    assert beyond["changed"] > 0.7 * within["changed"]
    assert abs(beyond["largest"]) < 0.02


# --- O4


def write_stripes(config, row=None, column=None, binned=0.0, spectrum=0.04, across=0.0):
    """Stripe shares by kind; the other kinds have 0.15 along the claimed axis, 0.1 across.

    Nulls are the same along both, but for what binned ones of Q, K and V have ``across`` more.
    """
    jitter = noise(2)
    rows = []
    for run in runs_of(config, ["rlvr"]):
        for matrix in matrices():
            along = {"row": 0.1, "column": 0.15} if matrix["kind"] == "o" else {"row": 0.15, "column": 0.1}
            along |= {"row": (row or {}).get(matrix["kind"], along["row"])}
            along |= {"column": (column or {}).get(matrix["kind"], along["column"])}
            columns = {}
            for axis, value in along.items():
                for suffix in ("", "_top"):
                    columns[f"{axis}_stripes{suffix}"] = value + jitter(0.003)
                more = across if axis == "column" and matrix["kind"] != "o" else 0.0
                columns |= {f"{axis}_stripes_binned": binned + more, f"{axis}_stripes_spectrum": spectrum}
            for view in ("stored", "undone"):  # the second is not looked at
                bad = {name: 1.0 for name in columns} if view == "undone" else columns
                rows.append({"run": run, "view": view, "edit": "none"} | matrix | bad)
    write_parquet(results_dir(config) / "geometry/stripes_intervened.parquet", pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("planted", "verdict", "measure"),
    [
        ({}, "replicated", "q: row less column"),
        ({"row": {"o": 0.2}}, "not replicated", "o: column less row"),
        ({"column": {"k": 0.2}}, "not replicated", "k: row less column"),
        ({"column": {"v": 0.15}}, "not replicated", "v: row less column"),  # as striped along either axis
        ({"row": {"q": 0.0}, "column": {"q": 0.0}}, "not replicated", "q: row less column"),  # no stripes
        ({"spectrum": 0.15}, "not replicated", "q: row less spectrum-matched"),
        ({"binned": 0.2}, "not replicated", "q: row less binned"),
        ({"column": {"v": 0.1405}}, "inconclusive", "v: row less column"),
        ({"across": -0.05}, "not replicated", "q: row less column"),  # no more than the sizes of rows make
    ],
)
def test_stripes(config, planted, verdict, measure):
    write_stripes(config, **planted)
    found = footprint.striped(O4, CONVENTIONS, config)
    assert (found.verdict, found.measure, found.seeds) == (verdict, measure, SEEDS)
    if not planted:
        assert found.effect == pytest.approx(0.05, abs=0.003)


def test_one_seed_has_no_stripes_to_judge(config):
    single = config.changed(seeds=config.seeds | {"rlvr": 1})
    write_stripes(single)
    found = footprint.striped(O4, CONVENTIONS, single)
    assert found.verdict == "inconclusive" and found.units == 1


SHAPES = {"q": (64, 32), "k": (32, 32), "v": (32, 32), "o": (32, 64)}


@pytest.mark.parametrize(
    ("rows", "columns", "verdict"),
    [
        ({"q": 0.5, "k": 0.5, "v": 0.5}, {"o": 0.5}, "replicated"),
        ({"q": 0.5, "k": 0.5, "v": 0.5, "o": 0.5}, {"o": 0.5}, "not replicated"),  # O: as much along either axis
        ({}, {}, "not replicated"),
    ],
)
def test_stripes_planted_in_masks_of_any_shape_are_judged_by_their_axis(config, rows, columns, verdict):
    """From masks on, through the measured statistic; O is twice as wide as it is high."""
    random = torch.Generator().manual_seed(0)
    measured = []
    for seed in range(SEEDS):
        for layer in range(30):
            for kind, shape in SHAPES.items():
                rates = 0.3 * torch.ones(shape)
                rates[::2] *= 1 - rows.get(kind, 0)
                rates[1::2] *= 1 + rows.get(kind, 0)
                rates[:, ::2] *= 1 - columns.get(kind, 0)
                rates[:, 1::2] *= 1 + columns.get(kind, 0)
                masks = {suffix: torch.rand(shape, generator=random) < rates for suffix in ("", "_half", "_top")}
                plain = {suffix: torch.rand(shape, generator=random) < 0.3 for suffix in masks}
                found = stripes(View(masks, torch.zeros(shape, dtype=torch.int64), [plain]), random)
                measured.append({"run": f"rlvr-s{seed}", "view": "stored", "layer": layer, "kind": kind} | found)
    write_parquet(results_dir(config) / "geometry/stripes_intervened.parquet", pd.DataFrame(measured))
    found = footprint.striped(O4, CONVENTIONS, config)
    assert found.verdict == verdict, found.reason


# --- O10


def write_intervened(config, repeat=0.2, edited=0.0, elsewhere=0.2, undone=0.2, seeds=SEEDS, changed=SEEDS):
    """Overlap less random; layer 1 is changed in q, k, v and o, layer 2 in v and o. Returns ``config`` so."""
    jitter = noise(3)
    config = config.changed(seeds=config.seeds | {"rlvr": seeds, "rlvr_intervened": changed})
    runs = runs_of(config, ["rlvr", "rlvr_intervened"])
    rows = []
    for a, b in combinations(runs, 2):
        crossed = a.startswith("rlvr-s") and b.startswith("rlvr_intervened")
        for matrix in matrices():
            edit = {1: "permuted", 2: "rotated"}.get(matrix["layer"], "none")
            if b.startswith("rlvr-s") or matrix["kind"] == "up" or (matrix["layer"] == 2 and matrix["kind"] in "qk"):
                edit = "none"
            for view in ("stored", "undone") if "intervened" in b else ("stored",):
                excess = {"none": elsewhere if crossed else repeat}.get(edit, edited if view == "stored" else undone)
                if a[-1] == b[-1]:
                    excess = 0.9  # the same seed, which does not count
                rows.append(
                    {"run_a": a, "run_b": b, "view": view, "edit": edit, "size": 64, "density_a": 0.3}
                    | matrix
                    | {"density_b": 0.3, "overlap": 0.3 + excess + jitter(0.002), "overlap_chance": 0.3}
                )
    write_parquet(results_dir(config) / "geometry/pairs_intervened.parquet", pd.DataFrame(rows))
    return config


@pytest.mark.parametrize(
    ("planted", "verdict", "measure"),
    [
        ({}, "replicated", "fall of overlap in changed matrices"),
        ({"edited": 0.2}, "not replicated", "overlap there less random"),
        ({"edited": 0.05}, "not replicated", "overlap there less random"),  # falls, but not to random
        ({"elsewhere": 0.1}, "not replicated", "fall elsewhere"),
        ({"edited": 0.25}, "not replicated", "fall of overlap in changed matrices"),
        ({"changed": 3}, "inconclusive", "overlap there less random"),
    ],
)
def test_overlap_follows_edits(config, planted, verdict, measure):
    config = write_intervened(config, **planted)
    found = footprint.overlap_follows_edits(O10, CONVENTIONS, config)
    assert (found.verdict, found.measure, found.seeds) == (verdict, measure, planted.get("changed", SEEDS))
    if not planted:
        assert found.effect == pytest.approx(0.2, abs=0.01)


def test_where_no_changed_block_is_measured_nothing_can_be_said(config):
    config = write_intervened(config)
    file = results_dir(config) / "geometry/pairs_intervened.parquet"
    table = pd.read_parquet(file)
    write_parquet(file, table[~table["layer"].isin([1, 2])])
    found = footprint.overlap_follows_edits(O10, CONVENTIONS, config)
    assert found.verdict == "not testable at this scale" and "geometry.block_stride" in found.reason


@pytest.mark.parametrize("undone", [0.2, 0.05])
def test_what_remains_when_the_change_is_undone_is_reported(config, undone):
    config = write_intervened(config, undone=undone)
    reason = footprint.overlap_follows_edits(O10, CONVENTIONS, config).reason
    tail = reason.partition("when the change is undone: ")[2]
    for edit in ("permuted", "rotated"):
        remaining = float(tail.partition(f"{edit} ")[2].split()[0])
        assert remaining == pytest.approx(0.2 - undone, abs=0.01)


@pytest.mark.parametrize(("seeds", "changed"), [(1, 1), (2, 1), (2, 2)])
def test_few_seeds_decide_nothing(config, seeds, changed):
    config = write_intervened(config, seeds=seeds, changed=changed)
    found = footprint.overlap_follows_edits(O10, CONVENTIONS, config)
    assert found.verdict == "inconclusive" and found.seeds == min(seeds, changed)
