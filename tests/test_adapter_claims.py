"""Every verdict of the criteria on masks and adapters is reached by data that deserve it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import ARMS
from rlscape.claims import evaluate_register, load_register
from rlscape.claims.off_principals.adapters import log_ratio
from tests.synthetic import ROOT, small_config
from tests.test_adapter_figures import Restricted, write_runs

YES, NO, OPEN, BLOCKED = "replicated", "not replicated", "inconclusive", "not testable at this scale"
RunOf = Callable[[str, int], Restricted]


def verdict(claim_id: str, seeds: int, run_of: RunOf, root: Path, ranks: str = "4") -> pd.Series:
    """A claim on synthetic runs of its arms, of which adapters have one of ``ranks``."""
    register = load_register(ROOT / "config" / "claims.yaml")
    claim = register.claim(claim_id)
    arms = tuple(arm for arm in claim.arms if ARMS[arm].adapter is None or arm.split("_")[1].removeprefix("r") in ranks)
    config = small_config(root, seeds=dict.fromkeys(arms, seeds))
    write_runs(config, arms, run_of)
    claim = claim.model_copy(update={"arms": arms})
    return evaluate_register(register.model_copy(update={"claims": (claim,)}), config).iloc[0]


def alternating(seed: int, name: str) -> int:
    """1 or -1: neighbouring seeds, and names of odd and of even length, have opposite signs."""
    return 1 - 2 * ((seed + len(name)) % 2)


# O11: KL at the end and pass rate at the end, by mask; dense has 0.01 and 0.6

PAPER_KL = {"safe": 0.0095, "random": 0.007, "complement": 0.006, "principal": 0.003}
PAPER_END = {"principal": 0.55}
SLOW = {"random": 0.0025, "complement": 0.0025, "principal": 0.0012}


def masks(kl: dict[str, float], end: dict[str, float], noise: float = 1e-4) -> RunOf:
    def run_of(arm: str, seed: int) -> Restricted:
        mask = arm.removeprefix("mask_")
        jitter = noise * alternating(seed, mask)
        return Restricted(end=end.get(mask, 0.6) + jitter, kl=kl.get(mask, 0.01) * (1 + jitter))

    return run_of


@pytest.mark.parametrize(
    ("seeds", "run_of", "expected"),
    [
        (3, masks(PAPER_KL, PAPER_END), YES),
        (
            3,
            masks(PAPER_KL | {"safe": 0.008, "random": 0.0098}, PAPER_END),
            NO,
        ),  # safe is further behind
        (3, masks(PAPER_KL | {"safe": 0.0105, "random": 0.015, "principal": 0.012}, PAPER_END), NO),
        (5, masks({"safe": 0.016, "random": 0.01, "principal": 0.009}, PAPER_END), NO),  # ahead is no nearer
        (5, masks(PAPER_KL | {"safe": 0.012}, PAPER_END), YES),  # ahead, by less than random is behind
        (5, masks(PAPER_KL | {"safe": 0.013}, PAPER_END), NO),  # by as much
        (3, masks(PAPER_KL | {"complement": 0.002}, PAPER_END), NO),  # equally dense, and no better
        (3, masks(PAPER_KL, {"principal": 0.65}), NO),
        (5, masks(PAPER_KL | {"random": 0.0092}, PAPER_END), NO),  # nearer than random, by less than negligible
        (5, masks(PAPER_KL, {"principal": 0.59}), NO),  # a pass rate that is lower by half of the margin
        (5, masks(PAPER_KL | {"random": 0.009}, PAPER_END, noise=1e-2), OPEN),  # by the margin
        (3, masks(PAPER_KL, PAPER_END, noise=0.3), OPEN),
        (5, masks({}, {}), NO),  # every mask is as dense training
        (1, masks(PAPER_KL, PAPER_END), OPEN),
        (5, masks({"safe": 0.004, **SLOW}, {"safe": 0.53, "principal": 0.46}), NO),  # first of those that do not follow
        (
            5,
            masks({"safe": 0.0099, **SLOW}, {"safe": 0.52, "principal": 0.46}),
            NO,
        ),  # with less than half of the dense gain
        (5, masks({"safe": 0.0099, **SLOW}, {"safe": 0.58, "principal": 0.46}), YES),
        (5, masks({"safe": 0.0065, **SLOW}, PAPER_END), YES),  # 0.35 behind, M_princ 0.88
        (5, masks({"safe": 0.0135, **SLOW}, PAPER_END), YES),  # ahead
        (5, masks({"safe": 0.0052, **SLOW}, PAPER_END), NO),  # by more than half of M_princ's distance
        (5, masks({"safe": 0.0148, **SLOW}, PAPER_END), NO),
        (5, masks({"safe": 0.0099, **SLOW}, {"safe": 0.75, "principal": 0.46}), NO),  # far better does not follow
        (5, masks({"safe": 0.0099, **SLOW}, {"safe": 0.65, "principal": 0.46}), YES),  # a little better does
        (5, masks(PAPER_KL | {"safe": 0.01, "random": 0.016}, PAPER_END), YES),  # random does not follow either
    ],
)
def test_masks_ranked(seeds: int, run_of: RunOf, expected: str, tmp_path: Path) -> None:
    row = verdict("O11", seeds, run_of, tmp_path)
    assert row["verdict"] == expected, row["reason"]
    assert "distance to dense: mask_safe " in row["reason"]


# O12: pass rate at the end, by kind and rate


def gains(pissa: dict[str, float], full: float = 0.2, noise: float = 0.002) -> RunOf:
    """LoRA ends at 0.6 at its best rate, PiSSA as given; full fine-tuning gains ``full``."""

    def run_of(arm: str, seed: int) -> Restricted:
        if arm == "rlvr":
            return Restricted(end=0.4 + full + 0.05 * (seed % 2))
        kind, _, rate = arm.split("_")
        end = pissa[rate] if kind == "pissa" else {"mid": 0.6}.get(rate, 0.5)
        return Restricted(end=end + noise * alternating(seed, kind))

    return run_of


@pytest.mark.parametrize(
    ("seeds", "run_of", "expected"),
    [
        (5, gains({"high": 0.2, "mid": 0.4, "low": 0.6}), YES),  # as good, at another rate
        (5, gains({"high": 0.2, "mid": 0.4, "low": 0.4}), YES),  # worse
        (5, gains({"high": 0.7, "mid": 0.4, "low": 0.4}), NO),
        (5, gains({"high": 0.2, "mid": 0.61, "low": 0.4}), YES),  # a gain within the margin
        (5, gains({"high": 0.2, "mid": 0.61, "low": 0.4}, full=0.01), NO),  # beyond it, however seeds scatter
        (5, gains({"high": 0.2, "mid": 0.61, "low": 0.4}, full=-0.2), NO),  # nothing is negligible beside no gain
        (4, gains({"high": 0.2, "mid": 0.4, "low": 0.6}), OPEN),  # too few seeds for "no gain"
        (5, gains({"high": 0.2, "mid": 0.6, "low": 0.4}, noise=0.05), OPEN),
    ],
)
def test_no_gain(seeds: int, run_of: RunOf, expected: str, tmp_path: Path) -> None:
    row = verdict("O12", seeds, run_of, tmp_path)
    assert row["verdict"] == expected, row["reason"]


def test_the_gain_is_the_mean_over_ranks_at_the_best_rate_of_each(tmp_path: Path) -> None:
    def run_of(arm: str, seed: int) -> Restricted:
        better = {"pissa_r1_low": 0.03, "pissa_r4_high": 0.09}.get(arm, 0.0)
        return Restricted(end=0.6 + better)

    row = verdict("O12", 2, run_of, tmp_path, ranks="148")
    assert row["effect"] == pytest.approx((0.03 + 0.09 + 0.0) / 3)
    assert row["reason"].startswith("margin 0.02; rank 1: +0.030 (pissa_r1_low against lora_r1_high)")
    assert "perhaps better beyond: lora_r1_high, pissa_r1_low, lora_r4_high, pissa_r4_high" in row["reason"]


# O13: which runs fall, by kind, rate and seed, and PiSSA's step size over LoRA's at equal rates

RATES = {"low": 10, "mid": 50, "high": 100}


def falls(when: Callable[[str, str, int], bool], larger: float = 1.0) -> RunOf:
    def run_of(arm: str, seed: int) -> Restricted:
        kind, _, rate = arm.split("_")
        size = RATES[rate] * 1e-4 * (larger if kind == "pissa" else 1.0)
        size *= 1 + 0.02 * np.random.default_rng([seed, len(rate)]).standard_normal()
        return Restricted(falls_at=20 if when(kind, rate, seed) else None, step_size=size)

    return run_of


def from_mid_on(kind: str, rate: str, seed: int) -> bool:
    """PiSSA falls from the middle rate on, LoRA at the highest in half of the seeds."""
    return rate != "low" if kind == "pissa" else rate == "high" and seed % 2 == 0


@pytest.mark.parametrize(
    ("seeds", "run_of", "expected", "says"),
    [
        (8, falls(from_mid_on), YES, "first at 5.0e-03"),
        (8, falls(from_mid_on, larger=20.0), NO, "step size"),  # at equal steps it is the more stable one
        (8, falls(lambda kind, rate, seed: from_mid_on({"lora": "pissa"}.get(kind, "lora"), rate, seed)), NO, ""),
        (8, falls(lambda kind, rate, seed: rate == "high" and seed % 2 == (kind == "pissa")), OPEN, "4"),
        (8, falls(lambda kind, rate, _: kind == "pissa" and rate != "low"), YES, "inf] holds"),  # LoRA never: a bound
        (8, falls(lambda kind, rate, _: kind == "lora" and rate != "low"), NO, "[-inf, "),
        (8, falls(lambda _, rate, __: rate != "low"), NO, "refuted"),  # both at the same rates
        (7, falls(from_mid_on), OPEN, "fewer than 8 seeds"),
        (1, falls(from_mid_on), OPEN, "pissa: 0/1 at 1.0e-03, 1/1 at 5.0e-03, 1/1 at 1.0e-02, first at 5.0e-03"),
        (8, falls(lambda *_: False), BLOCKED, "none of 48 runs collapses"),
        (8, falls(lambda *_: True), BLOCKED, "every run collapses"),
    ],
)
def test_collapses_earlier(seeds: int, run_of: RunOf, expected: str, says: str, tmp_path: Path) -> None:
    row = verdict("O13", seeds, run_of, tmp_path)
    assert row["verdict"] == expected, row["reason"]
    assert says in row["reason"]


@pytest.mark.parametrize("sooner", [1.2, 1.5])
def test_a_ratio_of_step_sizes_within_the_margin_is_no_replication(sooner: float, tmp_path: Path) -> None:
    """Runs collapse at a size of steps that is a little smaller under PiSSA, whose steps are larger at equal rates."""

    def run_of(arm: str, seed: int) -> Restricted:
        kind, _, rate = arm.split("_")
        pissa = kind == "pissa"
        size = RATES[rate] * (2.0 if pissa else 1.0) * np.exp(0.05 * np.random.default_rng(seed).normal())
        threshold = 70.0 * np.exp(0.3 * np.random.default_rng([seed, pissa]).logistic())
        collapses = size > threshold / (sooner if pissa else 1.0)
        return Restricted(falls_at=20 if collapses else None, step_size=size * 1e-4)

    row = verdict("O13", 8, run_of, tmp_path)
    assert row["verdict"] != YES, row["reason"]


def test_a_kind_that_never_collapses_is_bounded_by_the_rates_that_were_tried() -> None:
    """Half of PiSSA's runs collapse at a rate of 1, whatever the slope; LoRA was tried up to 3."""
    for width in (0.05, 0.3):
        chance = {rate: 1 / (1 + np.exp(-np.log(rate) / width)) for rate in (1 / 3, 1.0, 3.0)}
        pissa = [
            {"kind": "pissa", "rate": rate, "collapsed": index < round(40 * share)}
            for rate, share in chance.items()
            for index in range(40)
        ]
        lora = [{"kind": "lora", "rate": rate, "collapsed": False} for rate in chance for _ in range(40)]
        assert log_ratio(pd.DataFrame(pissa + lora), "rate") == pytest.approx(np.log(3.0), abs=0.05)
        always = [row | {"kind": "lora", "collapsed": True} for row in lora]
        assert log_ratio(pd.DataFrame(pissa + always), "rate") == pytest.approx(np.log(1 / 3), abs=0.05)
    never = [{"kind": "lora", "rate": 3.0, "collapsed": False}, {"kind": "pissa", "rate": 1 / 3, "collapsed": True}]
    assert log_ratio(pd.DataFrame(never), "rate") == pytest.approx(np.log(9.0))


def test_the_ratio_of_half_collapse_rates_is_found() -> None:
    """Many runs of a known logistic law: LoRA's half-collapse rate is three times PiSSA's."""
    rng = np.random.default_rng(0)
    runs = pd.DataFrame(
        {"learning_rate": np.exp(rng.uniform(-3, 3, 6000)), "kind": rng.choice(["lora", "pissa"], 6000)}
    )
    threshold = np.where(runs["kind"] == "lora", np.log(3.0), 0.0)
    logits = 2.0 * (np.log(runs["learning_rate"]) - threshold)
    runs["collapsed"] = rng.uniform(size=len(runs)) < 1 / (1 + np.exp(-logits))
    assert log_ratio(runs, "learning_rate") == pytest.approx(np.log(3.0), abs=0.1)
    falling = runs.assign(learning_rate=1 / runs["learning_rate"])
    assert np.isnan(log_ratio(falling, "learning_rate"))
