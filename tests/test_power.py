"""Simulated results, and what the register's evaluators make of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import load_scale, runs_of
from rlscape.claims import evaluate_claim, evaluate_register, load_register
from rlscape.claims.power import COLUMNS, design_of_claim, read_power
from rlscape.claims.register import Register
from rlscape.errors import ResultError
from rlscape.power.estimate import SIMULATORS, estimate_power
from rlscape.power.recorded import Recorded, measure_scatter
from rlscape.power.runs import Draw, Truth, design_of
from rlscape.power.scalerl import WORLDS
from rlscape.power.worlds import Simulation
from rlscape.results import curves
from rlscape.results.files import read_from
from rlscape.scaling.curves import Curve
from rlscape.scaling.sigmoid import sigmoid
from rlscape.settings.scale import Config
from tests.claim_verdicts import BLOCKED, CLAIMS, NO, YES
from tests.recorded_scatter import CURVES, SCATTER
from tests.synthetic import ROOT, small_config, write_scalerl_results


@pytest.fixture(scope="module")
def register() -> Register:
    return load_register(CLAIMS)


@pytest.fixture(scope="module")
def long_runs() -> Config:
    """The default scale with eight seeds for every arm and thrice the steps."""
    config = load_scale(ROOT / "config" / "config.yaml")
    scalerl = config.scalerl.model_dump()
    scalerl["rl"] |= {"steps": 330}
    return config.changed(seeds=dict.fromkeys(config.seeds, 8), scalerl=scalerl)


@pytest.fixture(scope="module")
def precise_runs(long_runs: Config) -> Config:
    """The same with so many samples that an evaluation is the truth; twice as many seeds of losses that diverge."""
    scalerl = long_runs.scalerl.model_dump()
    scalerl["rl"] |= {"steps": 990}
    scalerl["evaluation"] |= {"evaluations": 40, "samples_per_prompt": 10_000, "downstream_samples_per_prompt": 10_000}
    return long_runs.changed(seeds={arm: 16 if "spo" in arm else 8 for arm in long_runs.seeds}, scalerl=scalerl)


def simulation(register: Register, name: str, config: Config, recorded: Recorded = CURVES) -> Simulation:
    return Simulation(register.claim(name), register.conventions, config, SCATTER._replace(curves=recorded))


def drawn(config: Config, arm: str, truth: Truth, number: int = 0) -> Draw:
    return Draw(config, {arm: design_of(config, CURVES, arm)}, CURVES, "scalerl", {arm: truth}, number)


def test_every_claim_is_simulated(register: Register) -> None:
    assert set(SIMULATORS) == {claim.id for claim in register.claims}


NO_ROOM = {
    "S21": "the paper's larger ceiling, carried over, lies .02 above ScaleRL's, which is neutral",
    "S25": "the same, and the mixture of experts starts no higher than the dense model",
}
"""Claims that cannot hold on a testbed whose ceiling is near 1."""


NEVER_REFUTED = {"S28": "a spread far above delta puts single ceilings on their bound, and delta is unknown"}


@pytest.mark.parametrize("claim", sorted({*WORLDS, "S7"}))
def test_without_noise_a_claim_is_found_where_it_holds_and_nowhere_else(
    claim: str, register: Register, precise_runs: Config
) -> None:
    """What this shows is that the worlds are what they say."""
    precise = replace(
        CURVES,
        dispersion=1.0,
        spread={"A": 1e-3, "log_C_mid": 1e-3},
        downstream_spread=1e-4,
        entropy_spread=(1e-4, 1e-4),
    )
    simulated = simulation(register, claim, precise_runs, precise)
    verdicts, worlds = {}, SIMULATORS[claim](simulated)
    for world in ("holds", "fails"):
        with read_from(worlds[world](0)):
            outcome = evaluate_claim(simulated.claim, register.conventions, precise_runs)
        verdicts[world] = outcome.verdict, outcome.reason
    assert verdicts["fails"][0] != YES, verdicts["fails"]
    if claim not in NEVER_REFUTED:
        assert verdicts["fails"][0] == NO, verdicts["fails"]
    if claim not in NO_ROOM:
        assert verdicts["holds"][0] == YES, verdicts["holds"]


@pytest.mark.parametrize("claim", ["S5", "S13"])
def test_planted_differences_are_found_and_their_absence_refuted(
    claim: str, register: Register, long_runs: Config
) -> None:
    table = estimate_power(simulation(register, claim, long_runs), draws=6)
    assert list(table.columns) == COLUMNS
    verdicts = table[table["part"] == ""].set_index("world")
    assert verdicts.loc["holds", "replicated"] > 0.5
    assert verdicts.loc["fails", "not_replicated"] > 0.5
    assert verdicts.drop(index="holds")["replicated"].max() < 0.5
    assert np.allclose(table[["replicated", "not_replicated", "inconclusive", "not_testable"]].sum(axis=1), 1)


def test_errors_of_a_criterion_that_finds_nothing_are_not_simulated(register: Register, long_runs: Config) -> None:
    one_seed = long_runs.changed(seeds=dict.fromkeys(long_runs.seeds, 1))
    table = estimate_power(simulation(register, "S13", one_seed), draws=6)
    assert set(table["world"]) == {"holds", "fails"} and table["replicated"].max() == 0


def test_a_draw_is_the_same_whatever_is_read_first(long_runs: Config) -> None:
    first, second = (drawn(long_runs, "scalerl", Truth()) for _ in range(2))
    with read_from(second):
        curves.fits(long_runs, ["scalerl"])
        again = curves.metrics(long_runs, ["scalerl"])
    with read_from(first):
        pd.testing.assert_frame_equal(curves.metrics(long_runs, ["scalerl"]), again)
    with read_from(drawn(long_runs, "scalerl", Truth(), number=1)):
        assert not curves.metrics(long_runs, ["scalerl"])["pass_rate"].equals(again["pass_rate"])


def test_simulated_runs_scatter_as_recorded(long_runs: Config) -> None:
    runs = runs_of(long_runs, ["scalerl"])
    finals = []
    for number in range(60):
        results = drawn(long_runs, "scalerl", Truth(), number)
        finals += [results.metrics(run)["pass_rate"].iloc[-1] for run in runs]
    truth = sigmoid(330 * 25.0, 0.8, 1.5, 500.0, 0.3)
    binomial = truth * (1 - truth) * 1.2 / 4096
    assert np.mean(finals) == pytest.approx(float(truth), abs=0.003)
    assert np.std(finals) == pytest.approx(float(np.sqrt(0.01**2 + binomial)), rel=0.2)


def test_the_scatter_of_planted_curves_is_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for arm in ("scalerl", "minimax"):
        rows.append({"arm": arm, "kind": "base", "value": 0.3, "task": "math"})
        for seed in range(8):
            A, C_mid = 0.85 + rng.normal(0, 0.03), 500 * np.exp(rng.normal(0, 0.15))
            compute = np.linspace(0, 3000, 21)[1:]
            samples = np.where(np.arange(20) == 19, 4096, 1024) / 2  # a dispersion of 2
            rates = rng.binomial(samples.astype(int), sigmoid(compute, A, 1.5, C_mid, 0.3)) / samples
            for index, (spent, rate) in enumerate(zip(compute, rates, strict=True)):
                point = {"step": 5 * (index + 1), "compute": spent, "value": rate}
                rows.append({"arm": arm, "seed": seed, "kind": "evaluation", "task": "math"} | point)
    directory = tmp_path / "scalerl"
    directory.mkdir()
    pd.DataFrame(rows).to_csv(directory / "fig02.csv", index=False)
    gallery = ROOT / "figures" / "gallery" / "default" / "scalerl"
    for name in ("run.json", "fig16.csv", "table_truncation.csv", "control_head_precision.csv"):
        (directory / name).write_bytes((gallery / name).read_bytes())
    recorded = pd.read_csv(gallery / "fig10.csv")
    recorded[recorded["kind"].str.startswith("downstream")].to_csv(directory / "fig10.csv", index=False)
    found = measure_scatter(tmp_path, "scalerl")
    assert found.rise == pytest.approx(0.55, abs=0.03)
    assert found.dispersion == pytest.approx(2.0, rel=0.25)
    assert 0.02 < found.spread["A"] < 0.05
    assert 0.1 < found.spread["log_C_mid"] < 0.25
    assert found.arms["minimax"].compute_per_step == pytest.approx(30.0)
    assert found.arms["minimax"].R_0 == 0.3
    assert np.isnan(found.arms["minimax"].mismatch)
    again = Recorded.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()


def test_no_recorded_curve_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "scalerl").mkdir()
    with pytest.raises(ResultError, match="no recorded curve of scalerl; `make gallery PAPER=scalerl` records it"):
        measure_scatter(tmp_path, "scalerl")


def power_table(found: float, refuted: float, mistaken: float, design: str) -> pd.DataFrame:
    rows = [("holds", found, refuted), ("fails", 0.0, 0.9), ("edge", mistaken, 0.3)]
    return pd.DataFrame(
        [
            {"id": "S23", "world": world, "part": "", "draws": 400, "replicated": yes, "not_replicated": no}
            | {"inconclusive": 1 - yes - no, "not_testable": 0.0, "design": design}
            for world, yes, no in rows
        ]
    )


@pytest.mark.usefixtures("precise_evaluations")
def test_what_cannot_decide_is_not_testable(register: Register, tmp_path: Path) -> None:
    claim = register.claim("S23")
    config = small_config(tmp_path, seeds=dict.fromkeys(claim.arms, 5))
    write_scalerl_results(config)
    chosen = register.model_copy(update={"claims": (claim,)})
    design = design_of_claim(claim, register.conventions, config)
    for table, verdict, reason in (
        (None, YES, "parts: 6 holds"),
        (power_table(0.9, 0.0, 0.0, design), YES, "parts: 6 holds"),
        (power_table(0.5, 0.0, 0.0, design), BLOCKED, "power 0.50, below 0.8; replicated: parts"),
        (power_table(0.9, 0.1, 0.0, design), BLOCKED, "errs in 10% of simulations"),
        (power_table(0.9, 0.0, 0.2, design), BLOCKED, "errs in 20% of simulations"),
        (power_table(0.9, 0.0, 0.0, "another"), BLOCKED, "power unknown: make power simulates"),
    ):
        row = evaluate_register(chosen, config, table).iloc[0]
        assert row["verdict"] == verdict
        assert row["reason"].startswith(reason), row["reason"]


def test_the_digest_of_a_design_follows_criterion_and_scale_but_no_text(register: Register, long_runs: Config) -> None:
    claim, conventions = register.claim("S23"), register.conventions
    design = design_of_claim(claim, conventions, long_runs)
    assert design_of_claim(claim.changed(text="other words"), conventions, long_runs) == design
    assert design_of_claim(claim, conventions.changed(min_power=0.9), long_runs) == design
    assert design_of_claim(claim.changed(thresholds={"new": 1.0}), conventions, long_runs) != design
    assert design_of_claim(claim, conventions, long_runs.changed(seeds={"scalerl": 5})) != design
    dense = long_runs.bases["dense"].changed(precision="fp32")
    for base, same in (("dense", False), ("another", True)):
        changed = long_runs.changed(bases=long_runs.bases | {base: dense})
        assert (design_of_claim(claim, conventions, changed) == design) is same
    assert design_of_claim(claim, conventions, long_runs.changed(seeds=long_runs.seeds | {"minimax": 1})) == design


def test_a_damaged_power_table_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    power_table(0.9, 0.0, 0.0, "").drop(columns="world").to_csv(path, index=False)
    with pytest.raises(ResultError, match="no column world; `make power` writes it again"):
        read_power(path)


def test_a_result_that_is_not_simulated_is_named(long_runs: Config) -> None:
    with pytest.raises(ResultError, match="masks.npz: not simulated"):
        drawn(long_runs, "scalerl", Truth())(long_runs.results / long_runs.scale / "geometry" / "masks.npz")


def test_a_late_bend_and_a_collapse_are_as_planted(long_runs: Config) -> None:
    def mean_curve(truth: Truth) -> Curve:
        tables = [drawn(long_runs, "scalerl", truth, number).metrics("scalerl-s0") for number in range(20)]
        rates = np.mean([table["pass_rate"] for table in tables], axis=0)
        return Curve(tables[0]["compute"].to_numpy(), rates, np.full(len(rates), 0.01))

    plain, late, fallen = (mean_curve(truth) for truth in (Truth(), Truth(late=0.1), Truth(collapse=1.0)))
    assert late.pass_rate[-1] - plain.pass_rate[-1] == pytest.approx(0.05, abs=0.01)
    assert late.pass_rate[5] == pytest.approx(plain.pass_rate[5], abs=0.02)
    assert plain.pass_rate[10] - fallen.pass_rate[-1] == pytest.approx(0.15, abs=0.03)
