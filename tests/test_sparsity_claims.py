"""Claims on how many weights change: verdicts from sparsities that a test chooses."""

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import runs_of, seeds_of
from rlscape.claims import load_register
from rlscape.claims.off_principals import sparsity
from rlscape.claims.register import INCONCLUSIVE, NOT_REPLICATED, REPLICATED, Claim
from rlscape.files import write_json, write_parquet
from rlscape.paths import results_dir
from tests.claim_verdicts import CLAIMS
from tests.synthetic import small_config

CONVENTIONS = load_register(CLAIMS).conventions
RATES = {"rlvr_lr_quarter": 0.25, "rlvr": 1.0, "rlvr_lr_x4": 4.0, "rlvr_lr_x30": 30.0}
SEEDS = 5
SPREAD = 0.002
"""Standard deviation over seeds."""


def claim(evaluator, arms, **thresholds):
    text = dict.fromkeys(("id", "text", "evidence", "criterion"), "x")
    return Claim.model_validate(
        text
        | {"paper": "off_principals", "figures": (), "evaluator": evaluator, "arms": arms, "thresholds": thresholds}
    )


O1 = claim("sparser_when_matched", ("rlvr", "sft", "sft_rl_rate"), negligible=0.01)
O2 = claim("rounding_effect", tuple(RATES), min_correlation=0.9, octaves=1.0, accuracy=0.01, exact_zeros=0.01)


def isotropic(x):
    return 1 - 2 / np.pi * np.arctan(x)


def write_summaries(config, arms, summary):
    rng = np.random.default_rng(0)
    for run in runs_of(config, arms):
        found = {"exact_zero_share": 0.0} | summary(run.rpartition("-s")[0])
        found["sparsity"] += rng.normal(0, SPREAD)
        write_json(results_dir(config) / "geometry" / run / "summary.json", {"linear": found, "all": found})


# --- O1

AT_NORM, AT_RATE = "equal norm (between snapshots)", "equal pass rate (between snapshots)"
AS_PAPER = {"as_run": 0.6, "rate": 0.2, "norm": 0.1, "kl": 0.1}
"""Matching -> sparsity of RL less that of SFT."""


STEPS = np.arange(0, 101, 5)
"""Evaluations, the first before any update."""


def curve(sizes, pass_rates, sparsities):
    """Of a run, from what it has at its first evaluation after the start, at a half, at three quarters, at the end."""
    columns = {"x": sizes, "pass_rate": pass_rates, "sparsity": sparsities}
    start = pd.DataFrame({"x": 0.0, "pass_rate": 0.3, "sparsity": 1.0}, index=[0])
    rest = pd.DataFrame({name: np.interp(STEPS[1:], (5, 50, 75, 100), column) for name, column in columns.items()})
    return pd.concat([start, rest], ignore_index=True).assign(step=STEPS)


def o1(tmp_path, matched=None, at_norm=0.3, at_rate=0.3, sizes_of_sft=(1, 4, 9, 16), excess=0.1, seeds=SEEDS):
    """Sparsity of RL less that of SFT: in each matching, and at RL's norm and pass rate between SFT's snapshots.

    Args:
        sizes_of_sft: x of SFT's snapshots; RL ends at 2.
        excess: of RL beyond isotropic updates of its size.
    """
    config = small_config(tmp_path, dict.fromkeys(O1.arms, seeds))
    sizes = {"rlvr": (0.7, isotropic(0.7) + excess), "sft": (15.0, isotropic(15.0))}
    sizes["sft_rl_rate"] = (0.6, isotropic(0.6) - 0.2)

    def summary(arm):
        x, sparse = sizes[arm]
        return {"x": x, "sparsity": sparse, "isotropic_sparsity": isotropic(x)}

    write_summaries(config, O1.arms, summary)
    rng = np.random.default_rng(1)
    for seed in seeds_of(config, *O1.arms):
        rows = [
            {"matching": matching, "method": method, "seed": seed, "sparsity": value + rng.normal(0, SPREAD)}
            for matching, difference in (AS_PAPER | (matched or {})).items()
            if difference is not None
            for method, value in (("rl", 0.7), ("sft", 0.7 - difference))
        ]
        write_parquet(results_dir(config) / "geometry" / f"matching-s{seed}.parquet", pd.DataFrame(rows))
        rl, of_norm, of_rate = (0.7 - less + rng.normal(0, SPREAD) for less in (0.0, at_norm, at_rate))
        curves = {
            "rlvr": curve((0.5, 1, 1.5, 2), (0.35, 0.4, 0.45, 0.5), (0.9, 0.8, 0.75, rl)),
            "sft_rl_rate": curve(sizes_of_sft, (0.4, 0.4, 0.6, 0.8), (of_norm, of_norm, of_norm, 0.0)),
        }
        # SFT has RL's size before it is half way, and RL's pass rate half way from there to three quarters.
        curves["sft_rl_rate"].loc[(STEPS >= 45) & (STEPS < 100), "sparsity"] = of_rate
        for arm, metrics in curves.items():
            write_parquet(results_dir(config) / "runs" / f"{arm}-s{seed}" / "metrics.parquet", metrics)
    return sparsity.sparser_when_matched(O1, CONVENTIONS, config)


def test_sparser_as_trained_and_when_matched(tmp_path):
    outcome = o1(tmp_path)
    assert outcome.verdict == REPLICATED and outcome.seeds == SEEDS
    assert outcome.effect == pytest.approx(0.6, abs=0.01)
    assert "sft 0.043 at x = 15, +0.00" in outcome.reason
    assert "sft_rl_rate 0.45" in outcome.reason and "at x = 0.6, -0.20" in outcome.reason


@pytest.mark.parametrize("difference", [0.0, -0.1])
@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("equal learning rate", lambda difference: {"matched": {"rate": difference}}),
        (AT_NORM, lambda difference: {"at_norm": difference}),
        (AT_RATE, lambda difference: {"at_rate": difference}),
    ],
)
def test_a_difference_that_trained_models_do_not_have_when_matched_is_not_replicated(
    name, planted, difference, tmp_path
):
    outcome = o1(tmp_path, **planted(difference))
    assert (outcome.verdict, outcome.measure) == (NOT_REPLICATED, name)
    assert outcome.effect == pytest.approx(difference, abs=0.005)


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ({"matched": {"norm": -0.1}}, "equal norm (scaled) -0."),
        ({"matched": {"kl": 0.0}}, "equal KL (scaled)"),
        ({"excess": 0.0}, "beyond isotropic updates of each size"),
    ],
)
def test_what_explains_the_difference_is_reported_and_does_not_decide(planted, says, tmp_path):
    outcome = o1(tmp_path, **planted)
    assert outcome.verdict == REPLICATED
    beside = outcome.reason.partition("does not decide): ")[2].partition("; trained models")[0]
    assert says in beside and beside.count("refuted") == 1


def test_few_seeds_or_a_matching_without_rows_decide_nothing(tmp_path):
    assert o1(tmp_path / "few", {"rate": 0.0}, seeds=3).verdict == INCONCLUSIVE
    assert o1(tmp_path / "one", seeds=1).units == 1
    assert o1(tmp_path / "reach", {"rate": None}).verdict == INCONCLUSIVE
    assert o1(tmp_path / "unexplained", {"kl": None}).verdict == REPLICATED


@pytest.mark.parametrize(
    ("sizes", "at_norm", "verdict", "limit"),
    [
        ((3, 4, 9, 16), 0.3, INCONCLUSIVE, "low"),  # SFT was beyond RL's norm at its first snapshot
        ((3, 4, 9, 16), -0.3, NOT_REPLICATED, "low"),  # and was sparser still before
        ((0.5, 1, 1.5, 1.8), 0.3, REPLICATED, "high"),  # SFT never gets there, and would be less sparse
    ],
)
def test_norms_out_of_reach_are_bounds(sizes, at_norm, verdict, limit, tmp_path):
    outcome = o1(tmp_path, sizes_of_sft=sizes, at_norm=at_norm)
    assert outcome.verdict == verdict
    if verdict != REPLICATED:
        assert outcome.measure == AT_NORM and np.isinf(getattr(outcome, limit))
    else:
        assert f"{AT_NORM} 0." in outcome.reason and "inf] holds" in outcome.reason


# --- O2


def o2(tmp_path, sparsity_of=isotropic, zeros=0.0, seeds=SEEDS):
    config = small_config(tmp_path, dict.fromkeys(RATES, seeds) | {"rlvr": SEEDS})

    def summary(arm):
        x = 0.7 * RATES[arm]
        return {"x": x, "sparsity": sparsity_of(x), "isotropic_sparsity": isotropic(x), "exact_zero_share": zeros}

    write_summaries(config, RATES, summary)
    return sparsity.rounding_effect(O2, CONVENTIONS, config)


def test_sparsity_on_the_curve_that_falls_with_the_rate(tmp_path):
    outcome = o2(tmp_path)
    assert outcome.verdict == REPLICATED
    assert outcome.effect == pytest.approx(-1) and outcome.seeds == SEEDS


def test_only_seeds_that_every_rate_has_count(tmp_path):
    outcome = o2(tmp_path, seeds=1)
    assert outcome.verdict == INCONCLUSIVE and outcome.seeds == 1


@pytest.mark.parametrize(
    ("changes", "measure"),
    [
        ({"sparsity_of": lambda x: isotropic(x) + 0.1}, "octaves"),  # does not vanish
        ({"sparsity_of": lambda x: 0.5 * isotropic(x)}, "octaves"),  # less than rounding makes
        ({"sparsity_of": lambda x: 0.5 + x / 100}, "rank correlation"),  # grows with the rate
        ({"zeros": 0.2}, "exact fp32 zeros"),  # weights that no gradient reaches
    ],
)
def test_sparsity_that_is_not_rounding_is_not_replicated(changes, measure, tmp_path):
    outcome = o2(tmp_path, **changes)
    assert outcome.verdict == NOT_REPLICATED
    assert measure in outcome.measure


def test_an_update_of_nothing_is_on_the_isotropic_curve():
    """One that hides is not, and one of unknown size is unknown."""
    x, sparse = pd.Series([0.0, 0.0, 1.0, np.nan]), pd.Series([1.0, 0.5, isotropic(0.25), 0.5])
    found = sparsity.octaves_off_isotropic(x, sparse, accuracy=1e-6)
    assert found.tolist() == pytest.approx([0, np.inf, 2, np.nan], abs=1e-3, nan_ok=True)


def updates(kind, weights, rng):
    """Entries without a size, independent of the weights or not."""
    gaussian = rng.normal(size=len(weights))
    return {
        "gaussian": gaussian,
        "uniform": rng.uniform(-1, 1, len(weights)),
        "laplace": rng.laplace(size=len(weights)),
        "student": rng.standard_t(3, len(weights)),
        "frozen": gaussian * (rng.random(len(weights)) < 0.5),
        "few rows": gaussian * np.where(np.arange(len(weights)) % 10, 0.05, 1),
        "multiplicative": gaussian * np.abs(weights),
        "off large weights": gaussian / (np.abs(weights) + 0.01),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        *((kind, REPLICATED) for kind in ("gaussian", "uniform", "laplace", "student")),
        *((kind, NOT_REPLICATED) for kind in ("frozen", "few rows", "multiplicative", "off large weights")),
    ],
)
def test_updates_without_structure_lie_on_the_isotropic_curve_and_others_do_not(kind, verdict, tmp_path):
    """Read in bf16, at sizes from x = 0.1 to 21; entries of any usual distribution are rounding's."""

    def to_bf16(values):
        mantissa, exponent = np.frexp(values)
        return np.ldexp(np.round(mantissa * 256) / 256, exponent)

    rng = np.random.default_rng(0)
    weights = to_bf16(rng.normal(0, 0.05, 60_000))
    entries = updates(kind, weights, rng)
    unit = np.sqrt((weights**2).mean() / (entries**2).mean()) / 355

    def sparsity_of(x):
        return (to_bf16(weights + x * unit * entries) == weights).mean()

    assert o2(tmp_path, sparsity_of=sparsity_of).verdict == verdict
