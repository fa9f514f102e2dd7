"""Claims on how many weights change: verdicts from sparsities that a test chooses."""

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import runs_of, seeds_of
from rlscape.claims.off_principals import sparsity
from rlscape.claims.register import INCONCLUSIVE, NOT_REPLICATED, REPLICATED, Claim, Conventions
from rlscape.files import write_json, write_parquet
from rlscape.paths import results_dir
from tests.synthetic import small_config

CONVENTIONS = Conventions(
    reference_arm="scalerl", margin_share=0.1, level_share=0.7, seeds_for_neutral=5, collapse_evaluations=3
)
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


O1 = claim("sparser_when_matched", ("rlvr", "sft", "sft_lr_thirtieth"), negligible=0.01)
O2 = claim("rounding_effect", tuple(RATES), min_correlation=0.9, curve=0.05, exact_zeros=0.01)


def isotropic(x):
    return 1 - 2 / np.pi * np.arctan(x)


def write_summaries(config, arms, summary):
    rng = np.random.default_rng(0)
    for run in runs_of(config, arms):
        found = {"exact_zero_share": 0.0} | summary(run.rpartition("-s")[0])
        found["sparsity"] += rng.normal(0, SPREAD)
        write_json(results_dir(config) / "geometry" / run / "summary.json", {"linear": found, "all": found})


# --- O1


def o1(tmp_path, matched, excess=0.1, seeds=SEEDS):
    """``matched``: sparsity of RL less that of SFT in each matching that has rows."""
    config = small_config(tmp_path, dict.fromkeys(O1.arms, seeds))
    sizes = {"rlvr": (0.7, isotropic(0.7) + excess), "sft": (15.0, isotropic(15.0))}
    sizes["sft_lr_thirtieth"] = (0.6, isotropic(0.6) - 0.2)

    def summary(arm):
        x, sparse = sizes[arm]
        return {"x": x, "sparsity": sparse, "isotropic_sparsity": isotropic(x)}

    write_summaries(config, O1.arms, summary)
    rng = np.random.default_rng(1)
    for seed in seeds_of(config, *O1.arms):
        rows = [
            {"matching": matching, "method": method, "seed": seed, "sparsity": value + rng.normal(0, SPREAD)}
            for matching, difference in matched.items()
            for method, value in (("rl", 0.7), ("sft", 0.7 - difference))
        ]
        write_parquet(results_dir(config) / "geometry" / f"matching-s{seed}.parquet", pd.DataFrame(rows))
    return sparsity.sparser_when_matched(O1, CONVENTIONS, config)


ALL = {"as_run": 0.6, "rate": 0.2, "norm": 0.1, "kl": 0.1, "norm_snapshot": 0.3}


def test_sparser_in_every_matching(tmp_path):
    outcome = o1(tmp_path, ALL)
    assert outcome.verdict == REPLICATED and outcome.seeds == SEEDS
    assert outcome.effect == pytest.approx(0.6, abs=0.01)
    assert "sft 0.043 at x = 15, +0.00" in outcome.reason
    assert "sft_lr_thirtieth 0.45" in outcome.reason and "at x = 0.6, -0.20" in outcome.reason
    assert "not judged: equal norm (snapshot) 0.3" in outcome.reason


@pytest.mark.parametrize("matching", ["rate", "norm", "kl"])
@pytest.mark.parametrize("difference", [0.0, -0.1])
def test_a_difference_that_goes_when_matched_is_not_replicated(matching, difference, tmp_path):
    outcome = o1(tmp_path, ALL | {matching: difference})
    assert outcome.verdict == NOT_REPLICATED
    assert outcome.effect == pytest.approx(difference, abs=0.005)


def test_sparsity_of_the_size_alone_is_not_replicated(tmp_path):
    assert o1(tmp_path, ALL, excess=0.0).verdict == NOT_REPLICATED


def test_few_seeds_or_a_matching_out_of_reach_decide_nothing(tmp_path):
    assert o1(tmp_path / "few", ALL | {"norm": 0.0}, seeds=3).verdict == INCONCLUSIVE
    assert o1(tmp_path / "reach", {name: value for name, value in ALL.items() if name != "kl"}).verdict == INCONCLUSIVE


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
    ("changes", "effect"),
    [
        ({"sparsity_of": lambda x: isotropic(x) + 0.1}, 0.1),  # does not vanish
        ({"sparsity_of": lambda x: 0.5 * isotropic(x)}, 0.445),  # less than rounding makes
        ({"sparsity_of": lambda x: 0.5 + x / 100}, 1.0),  # grows with the rate
        ({"zeros": 0.2}, 0.2),  # weights that no gradient reaches
    ],
)
def test_sparsity_that_is_not_rounding_is_not_replicated(changes, effect, tmp_path):
    outcome = o2(tmp_path, **changes)
    assert outcome.verdict == NOT_REPLICATED
    assert outcome.effect == pytest.approx(effect, abs=0.03)
