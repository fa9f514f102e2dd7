"""Simulated results, and what the register's evaluators make of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import load_scale, runs_of
from rlscape.claims import evaluate_register, load_register
from rlscape.claims.power import Power, lack_of_power, power_of, read_power
from rlscape.claims.register import Claim, Register
from rlscape.errors import ResultError
from rlscape.power.estimate import SIMULATORS, estimate_power
from rlscape.power.recorded import Recorded, measure_scatter
from rlscape.power.runs import Draw, Truth, design_of
from rlscape.results import curves
from rlscape.results.files import read_from
from rlscape.scaling.curves import Curve
from rlscape.scaling.sigmoid import sigmoid
from rlscape.settings.scale import Config
from tests.claim_verdicts import BLOCKED, CLAIMS, YES
from tests.recorded_scatter import CURVES, SCATTER
from tests.synthetic import ROOT, small_config, write_scalerl_results


@pytest.fixture(scope="module")
def register() -> Register:
    return load_register(CLAIMS)


@pytest.fixture(scope="module")
def long_runs() -> Config:
    """The default scale with five seeds for every arm and twice the steps."""
    config = load_scale(ROOT / "config" / "config.yaml")
    rl = config.scalerl.rl.changed(steps=220)
    scalerl = config.scalerl.changed(rl=rl.model_dump())
    return config.changed(seeds=dict.fromkeys(config.seeds, 5), scalerl=scalerl.model_dump())


def claim_of(register: Register, name: str) -> Claim:
    return next(claim for claim in register.claims if claim.id == name)


def drawn(config: Config, arm: str, truth: Truth, number: int = 0) -> Draw:
    return Draw(config, {arm: design_of(config, arm)}, CURVES, "scalerl", {arm: truth}, number)


def test_every_claim_is_simulated(register: Register) -> None:
    assert set(SIMULATORS) == {claim.id for claim in register.claims}


@pytest.mark.parametrize("claim", ["S4", "S8", "S13", "S23"])
def test_planted_differences_of_ceilings_are_found_and_their_absence_refuted(
    claim: str, register: Register, long_runs: Config
) -> None:
    table = estimate_power(claim_of(register, claim), register.conventions, long_runs, SCATTER, draws=6)
    verdicts = table[table["part"] == ""].set_index("world")
    assert verdicts.loc["holds", "replicated"] > 0.5
    assert verdicts.loc["fails", "not_replicated"] > 0.5
    assert np.allclose(table[["replicated", "not_replicated", "inconclusive", "not_testable"]].sum(axis=1), 1)


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
    truth = sigmoid(220 * 25.0, 0.9, 1.5, 500.0, 0.3)
    binomial = truth * (1 - truth) * 1.2 / 4096
    assert np.mean(finals) == pytest.approx(float(truth), abs=0.003)
    assert np.std(finals) == pytest.approx(float(np.sqrt(0.01**2 + binomial)), rel=0.2)


def test_the_scatter_of_planted_curves_is_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for arm in ("scalerl", "minimax"):
        rows.append({"arm": arm, "kind": "base", "value": 0.3, "task": "math"})
        for seed in range(8):
            A = 0.85 + rng.normal(0, 0.02)
            compute = np.linspace(0, 3000, 21)[1:]
            samples = np.where(np.arange(20) == 19, 4096, 1024) / 2  # a dispersion of 2
            rates = rng.binomial(samples.astype(int), sigmoid(compute, A, 1.5, 500, 0.3)) / samples
            for index, (spent, rate) in enumerate(zip(compute, rates, strict=True)):
                point = {"step": 5 * (index + 1), "compute": spent, "value": rate}
                rows.append({"arm": arm, "seed": seed, "kind": "evaluation", "task": "math"} | point)
    directory = tmp_path / "scalerl"
    directory.mkdir()
    pd.DataFrame(rows).to_csv(directory / "fig02.csv", index=False)
    gallery = ROOT / "figures" / "gallery" / "default" / "scalerl"
    for name in ("run.json", "fig16.csv"):
        (directory / name).write_bytes((gallery / name).read_bytes())
    recorded = pd.read_csv(gallery / "fig10.csv")
    recorded[recorded["kind"].str.startswith("downstream")].to_csv(directory / "fig10.csv", index=False)
    found = measure_scatter(tmp_path, "scalerl", rng)
    assert found.R_0 == 0.3
    assert found.rise == pytest.approx(0.55, abs=0.03)
    assert found.dispersion == pytest.approx(2.0, rel=0.25)
    assert 0.015 < found.spread["A"] < 0.04
    assert found.arms["minimax"].compute_per_step == pytest.approx(30.0)
    assert Recorded.from_dict(found.to_dict()) == found


def test_no_recorded_curve_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "scalerl").mkdir()
    with pytest.raises(ResultError, match="no recorded curve of scalerl; `make gallery PAPER=scalerl` records it"):
        measure_scatter(tmp_path, "scalerl", np.random.default_rng(0))


def power_table(found: float, refuted: float, mistaken: float) -> pd.DataFrame:
    rows = [("holds", found, refuted), ("fails", mistaken, 0.9)]
    return pd.DataFrame(
        [
            {"id": "S23", "world": world, "part": "", "replicated": yes, "not_replicated": no}
            | {"inconclusive": 1 - yes - no, "not_testable": 0.0}
            for world, yes, no in rows
        ]
    )


def test_what_cannot_decide_is_not_testable(register: Register, tmp_path: Path) -> None:
    claim = claim_of(register, "S23")
    config = small_config(tmp_path, seeds=dict.fromkeys(claim.arms, 5))
    write_scalerl_results(config)
    chosen = register.model_copy(update={"claims": (claim,)})
    for table, verdict, reason in (
        (None, YES, "parts: 6 holds"),
        (power_table(0.9, 0.0, 0.0), YES, "parts: 6 holds"),
        (power_table(0.5, 0.0, 0.0), BLOCKED, "power 0.50, below 0.8; replicated: parts"),
        (power_table(0.9, 0.1, 0.0), BLOCKED, "errs in 10% of simulations"),
        (power_table(0.9, 0.0, 0.2), BLOCKED, "errs in 20% of simulations"),
    ):
        row = evaluate_register(chosen, config, table).iloc[0]
        assert row["verdict"] == verdict
        assert row["reason"].startswith(reason), row["reason"]


def test_a_list_of_equivalences_is_as_powerful_as_its_least_powerful_part(register: Register) -> None:
    table = power_table(0.3, 0.0, 0.0)
    parts = table[table["world"] == "holds"].assign(part="1: A(a) - A(b)", replicated=0.85)
    both = pd.concat([table, parts])
    assert power_of(both, claim_of(register, "S23")) == Power(0.85, 0.0)
    assert not lack_of_power(power_of(both, claim_of(register, "S23")), register.conventions)
    assert power_of(both, claim_of(register, "S1")) is None


def test_a_damaged_power_table_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    power_table(0.9, 0.0, 0.0).drop(columns="world").to_csv(path, index=False)
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
    assert late.pass_rate[-1] - plain.pass_rate[-1] == pytest.approx(0.06, abs=0.01)
    assert late.pass_rate[5] == pytest.approx(plain.pass_rate[5], abs=0.02)
    assert plain.pass_rate[10] - fallen.pass_rate[-1] == pytest.approx(0.18, abs=0.03)
