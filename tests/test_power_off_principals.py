"""P2's claims on simulated updates: planted effects are found, their absence refuted, and scatter is as recorded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from rlscape.catalogue import load_scale
from rlscape.claims import evaluate_claim, load_register
from rlscape.claims.power import FAILS, HOLDS
from rlscape.claims.register import Register
from rlscape.errors import ResultError
from rlscape.paths import results_dir, run_name
from rlscape.power import recorded_weights
from rlscape.power.estimate import estimate_power
from rlscape.power.off_principals.masks import scatter
from rlscape.power.off_principals.simulators import SIMULATORS
from rlscape.power.recorded_weights import RL, SFT, SLOW, Cells, RecordedWeights, cell_scatter, measure_weights
from rlscape.power.worlds import Scatter, Simulation
from rlscape.results import origin
from rlscape.results.archive import recorded_results
from rlscape.results.files import read_from
from rlscape.results.weights import in_blocks, matrices
from rlscape.settings.scale import Config
from tests.claim_verdicts import CLAIMS
from tests.recorded_scatter import SCATTER, WEIGHTS
from tests.synthetic import ROOT

GALLERY = ROOT / "figures" / "gallery" / "default"
WORDS = {HOLDS: "replicated", FAILS: "not_replicated"}


@pytest.fixture(scope="module")
def register() -> Register:
    return load_register(CLAIMS)


@pytest.fixture(scope="module")
def seeded() -> Config:
    """The default scale with five seeds for every arm, eight for adapters."""
    config = load_scale(ROOT / "config" / "config.yaml")
    return config.changed(seeds={arm: 8 if arm.startswith(("lora", "pissa")) else 5 for arm in config.seeds})


@pytest.mark.parametrize("name", SIMULATORS)
def test_evaluators_find_what_they_read_and_know_the_worlds_apart(
    name: str, register: Register, seeded: Config
) -> None:
    claim = register.claim(name)
    worlds = SIMULATORS[name](Simulation(claim, register.conventions, seeded, SCATTER))
    wrong = {HOLDS: "not replicated", FAILS: "replicated"}
    assert wrong.keys() <= worlds.keys()
    for world, results in worlds.items():
        with read_from(results(0)):
            outcome = evaluate_claim(claim, register.conventions, seeded)
        assert outcome.verdict != wrong.get(world), f"{world}: {outcome.reason}"
        assert outcome.units >= 5, f"{world}: {outcome.reason}"
        assert all(np.isfinite(part.interval.estimate) for part in outcome.parts), f"{world}: {outcome.reason}"


@pytest.mark.parametrize(
    ("name", "seeds"),
    [("O3", 5), pytest.param("O6", 30, marks=pytest.mark.more), pytest.param("O11", 30, marks=pytest.mark.more)],
)
def test_effects_at_the_margin_are_no_replication(name: str, seeds: int, register: Register, seeded: Config) -> None:
    """With as many seeds as find the claim; its edges are left out elsewhere."""
    config = seeded.changed(seeds=dict.fromkeys(seeded.seeds, seeds))
    table = estimate_power(Simulation(register.claim(name), register.conventions, config, SCATTER), draws=12)
    edges = table[(table["part"] == "") & table["world"].str.startswith("edge")]
    assert len(edges) >= 3 and edges["replicated"].max() <= 0.25, table.to_string()


@pytest.mark.parametrize("name", ["O2", "O7", "O8", "O9", "O10"])
def test_planted_effects_are_found_and_their_absence_refuted(name: str, register: Register, seeded: Config) -> None:
    table = estimate_power(Simulation(register.claim(name), register.conventions, seeded, SCATTER), draws=5)
    verdicts = table[table["part"] == ""].set_index("world")
    for world, word in WORDS.items():
        assert verdicts.loc[world, word] > 0.5, table.to_string()


@pytest.mark.parametrize("name", ["O2", "O5", "O7", "O10", "O14"])
def test_in_every_edge_one_part_fails_and_the_others_hold(name: str, register: Register, seeded: Config) -> None:
    """O14 judges two parts of one quantity; of O10, what is lost and what remains are one quantity too."""
    simulation = Simulation(register.claim(name), register.conventions, seeded, SCATTER)
    edges = {world: results for world, results in SIMULATORS[name](simulation).items() if world.startswith("edge")}
    parts_each, found = 2 if name == "O14" else 1, set()
    for world, results in edges.items():
        drawn = []
        for number in range(5):
            with read_from(results(number)):
                outcome = evaluate_claim(simulation.claim, register.conventions, seeded)
            drawn.append([part.verdict == "replicated" for part in outcome.parts])
        shares = np.mean(drawn, axis=0)
        failing = np.flatnonzero(shares < 0.4)
        quantities = {index // parts_each for index in failing}
        assert len(quantities) == 1, f"{world}: {shares}"
        others = [share for index, share in enumerate(shares) if index // parts_each not in quantities]
        assert min(others) > 0.5, f"{world}: {shares}"
        found |= quantities
    parts = range(len(shares) // parts_each)
    assert found == set(parts[1:] if name == "O10" else parts), "a part without an edge"


AT_MARGIN = {
    "O1": {
        "edge norm": "equal norm (between snapshots)",
        "edge pass rate": "equal pass rate (between snapshots)",
        "edge learning rate": "equal learning rate",
        "edge as run": "as run",
    },
    "O4": {
        f"edge {kind} {other}": f"{kind}: {along} less {name}"
        for kind, along, across in [(kind, "row", "column") for kind in ("q", "k", "v")] + [("o", "column", "row")]
        for other, name in {"across": across, "binned": "binned", "spectrum": "spectrum-matched"}.items()
    },
}
"""Claim -> its edge worlds, and the part that just fails in each."""


@pytest.mark.parametrize(("name", "world"), [(name, world) for name, worlds in AT_MARGIN.items() for world in worlds])
def test_at_an_edge_one_part_lies_at_its_margin_and_the_others_hold(
    name: str, world: str, register: Register, seeded: Config
) -> None:
    claim, part = register.claim(name), AT_MARGIN[name][world]
    config = seeded.changed(seeds=dict.fromkeys(seeded.seeds, 20))
    worlds = SIMULATORS[name](Simulation(claim, register.conventions, config, SCATTER))
    assert AT_MARGIN[name].keys() == {other for other in worlds if other.startswith("edge")}
    with read_from(worlds[world](0)):
        found = {part.measure: part for part in evaluate_claim(claim, register.conventions, config).parts}
    assert found[part].interval.estimate == pytest.approx(claim.threshold("negligible"), abs=0.004)
    for other, interval in ((other.measure, other.interval) for other in found.values() if other.measure != part):
        assert interval.estimate > 1.5 * claim.threshold("negligible"), other


@pytest.fixture(scope="module")
def without_scatter() -> Scatter:
    """What the recorded gallery's updates are like, of seeds that do not differ."""
    found = measure_weights(GALLERY)
    return Scatter(SCATTER.curves, replace(found, spread=dict.fromkeys(found.spread, 1e-12)))


@pytest.mark.parametrize(
    ("name", "world", "part", "planted"),
    [
        ("O1", "fails", "equal pass rate (between snapshots)", 0.0),
        ("O1", "edge pass rate", "equal pass rate (between snapshots)", 0.01),
        ("O1", "holds", "equal pass rate (between snapshots)", 0.05),
        ("O6", "fails", "KL(sft) - KL(rlvr) at equal pass rate", 0.0),
        ("O6", "edge cost", "KL(sft) - KL(rlvr) at equal pass rate", 0.1),
        ("O6", "holds", "KL(sft) - KL(rlvr) at equal pass rate", 0.2),
    ],
)
def test_what_is_planted_at_equal_pass_rate_is_read(
    name: str, world: str, part: str, planted: float, register: Register, without_scatter: Scatter
) -> None:
    """To a tenth of the margin, without scatter and at the design that decides."""
    claim, config = register.claim(name), load_scale(ROOT / "config" / "evidence.yaml")
    with read_from(SIMULATORS[name](Simulation(claim, register.conventions, config, without_scatter))[world](0)):
        found = {each.measure: each for each in evaluate_claim(claim, register.conventions, config).parts}
    of_rl = without_scatter.weights.progress[RL].kl[-1]
    unit, margin = (1.0, 0.01) if name == "O1" else (of_rl, 0.1)
    assert found[part].interval.estimate / unit == pytest.approx(planted, abs=margin / 10)


def test_the_scatter_of_pass_rates_is_that_of_the_arms_that_are_simulated(gallery: Path) -> None:
    """SFT at its own rate, thirty times RL's, scatters more."""
    before = measure_weights(gallery).spread
    paths = gallery / "off_principals" / "control_kl.csv"
    table, rng = pd.read_csv(paths), np.random.default_rng(0)
    fast = table["arm"] == SFT
    table["gain"] += np.where(fast, rng.normal(0, 0.3, len(table)), 0)
    table.to_csv(paths, index=False)
    matching = gallery / "off_principals" / "control_matching.csv"
    table = pd.read_csv(matching)
    table.loc[table["arms"] == SFT, "value_high"] += 1
    table.to_csv(matching, index=False)
    after = measure_weights(gallery).spread
    assert {name: after[name] for name in ("pass_rate", "evaluation")} == {
        name: before[name] for name in ("pass_rate", "evaluation")
    }
    assert before["pass_rate"] < 0.012 and before["evaluation"] < 0.016


@pytest.mark.parametrize(("world", "sign"), [("edge safe behind", "-"), ("edge safe ahead", "+")])
def test_a_safe_mask_is_at_the_margin_on_either_side_of_dense_training(
    world: str, sign: str, register: Register, seeded: Config
) -> None:
    claim, config = register.claim("O11"), seeded.changed(seeds=dict.fromkeys(seeded.seeds, 40))
    with read_from(SIMULATORS["O11"](Simulation(claim, register.conventions, config, SCATTER))[world](0)):
        found = {part.measure: part for part in evaluate_claim(claim, register.conventions, config).parts}
    limit, by_sign = claim.threshold("negligible"), "abs distance(mask_random) {} distance(mask_safe)"
    at_margin = found.pop(by_sign.format(sign))
    assert at_margin.interval.estimate == pytest.approx(limit, abs=0.02) and at_margin.verdict == "inconclusive"
    assert {part.verdict for part in found.values()} == {"replicated"}


def test_lines_that_do_not_differ_cannot_reach_a_limit(register: Register, seeded: Config) -> None:
    """All of their tendencies may stay; the edge is then where all do."""
    same = Scatter(SCATTER.curves, replace(WEIGHTS, spread=WEIGHTS.spread | {"line": 0.0}))
    simulation = Simulation(register.claim("O5"), register.conventions, seeded, same)
    with read_from(SIMULATORS["O5"](simulation)["edge new"](0)):
        found = evaluate_claim(simulation.claim, register.conventions, seeded)
    assert found.parts[1].verdict != "replicated" and np.isfinite(found.parts[1].interval.estimate), found.reason


def test_tendencies_that_do_not_stay_are_not_mistaken_for_bias(register: Register, seeded: Config) -> None:
    """Ranks of profiles with unequal shares of entries left correlate a little though nothing persists."""
    simulation = Simulation(register.claim("O5"), register.conventions, seeded, SCATTER)
    results = SIMULATORS["O5"](simulation)["fails"]
    verdicts = []
    for number in range(8):
        with read_from(results(number)):
            first, new = evaluate_claim(simulation.claim, register.conventions, seeded).parts
        assert first.verdict == "replicated", first
        assert abs(new.interval.estimate) < simulation.claim.threshold("negligible"), new
        verdicts.append(new.verdict)
    assert verdicts.count("not replicated") >= 7


def test_a_draw_is_the_same_twice_and_differs_from_others(register: Register, seeded: Config) -> None:
    simulation = Simulation(register.claim("O2"), register.conventions, seeded, SCATTER)
    results = SIMULATORS["O2"](simulation)["holds"]

    def sizes(number: int) -> pd.DataFrame:
        with read_from(results(number)):
            return origin.sizes(seeded, simulation.claim.arms)

    pd.testing.assert_frame_equal(sizes(0), sizes(0))
    assert not sizes(0)["x"].equals(sizes(1)["x"])
    x = np.log([table.loc[table["arm"] == RL, "x"].mean() for table in map(sizes, range(60))])
    assert x.mean() == pytest.approx(np.log(WEIGHTS.size[RL]), abs=0.005)
    assert x.std() == pytest.approx(WEIGHTS.spread["log_x"] / np.sqrt(5), rel=0.3)


def test_a_result_that_is_not_simulated_is_named(register: Register, seeded: Config) -> None:
    simulation = Simulation(register.claim("O2"), register.conventions, seeded, SCATTER)
    with pytest.raises(ResultError, match="masks.npz: not simulated"):
        SIMULATORS["O2"](simulation)["holds"](0)(results_dir(seeded) / "geometry" / "masks.npz")


# The scatter of recorded updates


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """The recorded gallery, of which a test changes a figure."""
    directory = tmp_path / "off_principals"
    directory.mkdir()
    for file in (GALLERY / "off_principals").iterdir():
        if file.suffix in (".csv", ".json", ".zip"):
            (directory / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_the_recorded_gallery_has_every_scatter_that_is_simulated(gallery: Path) -> None:
    found = measure_weights(gallery)
    assert set(found.spread) >= set(WEIGHTS.spread)
    assert all(value > 0 for value in found.spread.values())
    assert set(found.adapters) >= set(WEIGHTS.adapters)
    assert set(found.size) >= set(WEIGHTS.size)
    both = Scatter(SCATTER.curves, found)
    assert Scatter.from_dict(both.to_dict()) == both


def test_the_scatter_of_planted_sizes_is_measured(gallery: Path) -> None:
    rng = np.random.default_rng(0)
    planted = pd.DataFrame(
        {"run": run_name(arm, seed), "arm": arm, "seed": seed, "x": x * np.exp(rng.normal(0, 0.1))}
        for arm, x in {RL: 1.6, SLOW: 5.0, SFT: 30.0}.items()
        for seed in range(100)
    )
    planted["isotropic_sparsity"] = 1 - 2 / np.pi * np.arctan(planted["x"])
    planted["sparsity"] = planted["isotropic_sparsity"] + rng.normal(0, 0.004, len(planted))
    planted["gain"] = 0.2
    planted["exact_zero_share"] = 0.0
    along = planted.assign(kind="path", x=planted["x"] / 10)  # not where runs end
    planted = pd.concat([planted.assign(kind="end"), along])
    planted.to_csv(gallery / "off_principals" / "control_learning_rate.csv", index=False)
    spread = measure_weights(gallery).spread
    for name, deviation in {"log_x": 0.1, "sparsity": 0.004}.items():
        assert spread[name] == pytest.approx(deviation, rel=0.15), name


def test_the_scatter_of_planted_evaluations_is_measured(gallery: Path) -> None:
    figure = gallery / "off_principals" / "control_kl.csv"
    table, rng = pd.read_csv(figure), np.random.default_rng(3)
    planted = pd.DataFrame(
        {"kind": "path", "arm": arm, "seed": seed, "step": step, "kl": 0.01 * step}
        | {"gain": 0.02 * step + of_run + rng.normal(0, 0.01)}
        for arm in (RL, SLOW, SFT)
        for seed, of_run in enumerate(rng.normal(0, 0.05, 40))
        for step in range(1, 8)
    )
    pd.concat([table[table["kind"] != "path"], planted]).to_csv(figure, index=False)
    found = measure_weights(gallery)
    assert found.spread["evaluation"] == pytest.approx(0.01, rel=0.15)
    assert found.progress[RL].gain(1) == pytest.approx(0.14, abs=0.02)
    assert found.progress[RL].share[0] == pytest.approx(1 / 7)


def test_the_scatter_of_cells_is_each_ones_own_and_in_part_common() -> None:
    """Planted, and drawn again."""
    rng = np.random.default_rng(2)
    planted = Cells((0.02, 0.01, 0.005, 0.001), 0.3)
    table = pd.DataFrame(
        {"arm": arm, "seed": seed, "operator": mask, "rank_fraction": 0.25, "alpha": alpha, "chance": alpha}
        | {"energy": alpha * (1.1 + off), "energy_binned": alpha}
        for arm in (RL, SFT)
        for seed in range(400)
        for mask in ("principal", "low")
        for alpha, off in zip((0.05, 0.1, 0.3, 0.5), scatter(planted, rng), strict=True)
    )
    for found in cell_scatter(table).values():
        assert found.deviation == pytest.approx(planted.deviation, rel=0.1)
        assert found.common == pytest.approx(planted.common, abs=0.05)


@pytest.fixture(scope="module")
def recorded() -> Scatter:
    """The scatter of the recorded gallery."""
    return Scatter(SCATTER.curves, measure_weights(GALLERY))


def test_a_grid_of_which_too_little_has_a_preference_is_seldom_granted(
    register: Register, seeded: Config, recorded: Scatter
) -> None:
    """Half of the cells beyond the margin, the others on it: of those one or another is soon granted."""
    claim, config = register.claim("O9"), seeded.changed(seeds=seeded.seeds | {"sft": 8})
    results = SIMULATORS["O9"](Simulation(claim, register.conventions, config, recorded))["edge principal grid"]
    granted = {claim.threshold("min_share"): 0, 0.5: 0}
    for number in range(60):
        for min_share in granted:
            asked = claim.model_copy(update={"thresholds": claim.thresholds | {"min_share": min_share}})
            with read_from(results(number)):
                *_, grid = evaluate_claim(asked, register.conventions, config).parts
            granted[min_share] += grid.verdict == "replicated"
    assert granted[claim.threshold("min_share")] <= 6 < 20 <= granted[0.5]


@pytest.mark.parametrize("name", ["O8", "O9"])
def test_preferences_of_twice_the_margin_are_found_with_the_recorded_scatter(
    name: str, register: Register, seeded: Config, recorded: Scatter
) -> None:
    """Cells that scatter little do not scatter as the widest ones do."""
    results = SIMULATORS[name](Simulation(register.claim(name), register.conventions, seeded, recorded))[HOLDS]
    for number in range(10):
        with read_from(results(number)):
            found = evaluate_claim(register.claim(name), register.conventions, seeded)
        assert found.verdict == "replicated", found.reason


def test_settings_scatter_as_the_recorded_tables_do(recorded: Scatter) -> None:
    """Energies of eight settings, as O15 reads them, with the upper limit of their standard deviation."""
    with recorded_results(GALLERY / "off_principals") as config:
        energies = [
            in_blocks(matrices(config, [arm]))["energy_enrichment_principal"].mean()
            for arm in recorded_weights.SETTINGS
        ]
    upper = np.sqrt(7 / chi2.ppf(0.2, 7))
    assert recorded.weights.spread["setting_energy_principal"] == pytest.approx(np.std(energies, ddof=1) * upper)


def test_a_gallery_without_scatter_is_one_clear_error(gallery: Path) -> None:
    figure = gallery / "off_principals" / "control_learning_rate.csv"
    sizes = pd.read_csv(figure)
    sizes[sizes["seed"] == 0].to_csv(figure, index=False)
    with pytest.raises(ResultError, match="one seed of rlvr, sft, sft_rl_rate shows no scatter"):
        measure_weights(gallery)
    figure.unlink()
    with pytest.raises(ResultError, match="no such figure; `make gallery PAPER=off_principals` records it"):
        measure_weights(gallery)


def test_records_of_weights_survive_a_file() -> None:
    assert RecordedWeights.from_dict(WEIGHTS.to_dict()) == WEIGHTS
