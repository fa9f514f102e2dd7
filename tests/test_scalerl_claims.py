"""Every verdict of every criterion of P1's claims is reached by data that deserve it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import ARMS, runs_of
from rlscape.claims import evaluate_register, load_register
from rlscape.claims.scalerl.ablations import holm
from rlscape.files import write_parquet
from rlscape.paths import results_dir
from rlscape.scaling.stability import collapsed
from rlscape.settings.scale import Config
from tests import synthetic
from tests.claim_verdicts import BLOCKED, CLAIMS, NO, OPEN, YES, verdict
from tests.synthetic import Run, small_config, write_scalerl_results

pytestmark = pytest.mark.usefixtures("precise_evaluations")

HIGH, LOW = Run(A=0.70), Run(A=0.55)
LATE, CLIMBS = Run(A=0.85, C_mid=21), Run(A=0.95, C_mid=60)
FITTED = ("scalerl", "deepseek_grpo", "qwen_dapo", "magistral", "minimax", "large_batch")
LESS_EFFICIENT = {arm: Run(C_mid=20) for arm in ARMS if arm.startswith("loo_")}
PEAK = {"dapo_clip_020": LOW, "baseline": Run(A=0.66), "dapo_clip_028": Run(A=0.66), "dapo_clip_040": Run(A=0.60)}
SELECTION = {"baseline": LOW, "loo_batch": Run(C_mid=20), "loo_uniform": Run(C_mid=20)}
NOISY_DAPO, NOISY_MOE = ({f"{arm}_m{bits}": LOW for bits in (2, 1)} for arm in ("head", "moe_head"))
EXACT = LOW._replace(mismatch=0.001)
EARLY = dict.fromkeys(NOISY_DAPO, Run(A=0.55, C_mid=4, B=4))
FAST = Run(A=0.70, C_mid=8)
QUICK, WANDERS = dict.fromkeys(FITTED, FAST), FAST._replace(window_spread=0.1)
SCALERL_CASES = [
    # claim, seeds, runs that differ from HIGH, half-spread of A over seeds, verdict
    ("S1", 5, {}, 0.004, YES),
    ("S1", 5, {"scalerl": Run(A=0.70, forecast_A=0.95)}, 0.004, NO),
    ("S1", 5, {"scalerl": Run(A=0.70, granted=False)}, 0.004, OPEN),
    ("S1", 5, {"large_batch": Run(forecast_A=0.95)}, 0.004, NO),
    ("S1", 5, {"large_batch": Run(granted=False)}, 0.004, OPEN),
    ("S1", 1, {}, 0.004, OPEN),
    ("S2", 5, QUICK, 0.004, YES),
    ("S2", 5, dict.fromkeys(FITTED, FAST._replace(window_spread=0.3, power_law_spread=0.01)), 0.004, NO),
    ("S2", 5, dict.fromkeys(FITTED, Run(fails=True)) | {"scalerl": FAST}, 0.004, YES),  # unfitted arms reach nowhere
    ("S2", 4, QUICK, 0.004, OPEN),
    ("S2", 5, {}, 0.004, BLOCKED),  # half a run is too short
    ("S3", 5, QUICK, 0.004, YES),
    ("S3", 5, dict.fromkeys(FITTED, WANDERS), 0.004, NO),
    ("S3", 5, {}, 0.004, BLOCKED),
    ("S3", 5, QUICK | dict.fromkeys(FITTED[1:4], WANDERS), 0.004, NO),
    ("S3", 5, QUICK | dict.fromkeys(FITTED[1:3], WANDERS), 0.004, OPEN),
    ("S3", 5, QUICK | dict.fromkeys(FITTED[1:3], WANDERS._replace(collapse_at=60)), 0.004, YES),  # left out
    ("S3", 1, QUICK, 0.004, OPEN),
    ("S4", 5, {"deepseek_grpo": LOW, "qwen_dapo": LOW, "magistral": LOW}, 0.004, YES),
    ("S4", 5, {"deepseek_grpo": LOW, "qwen_dapo": LOW}, 0.004, NO),
    ("S4", 5, {"deepseek_grpo": LOW, "qwen_dapo": LOW, "magistral": Run(A=1.0)}, 0.004, OPEN),  # a bound
    ("S4", 5, {"deepseek_grpo": LOW, "qwen_dapo": LOW, "magistral": Run(A=0.55, C_mid=40)}, 0.004, OPEN),
    ("S5", 5, {"minimax": Run(A=0.70, C_mid=20)}, 0.004, YES),
    ("S5", 5, {"minimax": LOW}, 0.004, NO),
    ("S5", 5, {"minimax": Run(A=0.70, C_mid=8)}, 0.004, NO),
    ("S5", 4, {"minimax": Run(A=0.70, C_mid=20)}, 0.004, OPEN),
    ("S6", 5, {"deepseek_grpo": Run(collapse_at=60)}, 0.004, YES),
    ("S6", 5, {}, 0.004, NO),
    ("S6", 2, {"deepseek_grpo": Run(collapse_at=60)}, 0.004, OPEN),
    ("S7", 5, {"ppo8": Run(C_mid=20)}, 0.004, NO),  # as many updates per compute
    ("S7", 5, {"ppo8": LOW}, 0.004, NO),
    ("S7", 5, {}, 0.004, OPEN),
    ("S7", 1, {}, 0.004, OPEN),
    ("S8", 5, {"pipeline12": LOW}, 0.004, YES),
    ("S8", 5, {}, 0.004, NO),
    ("S8", 5, {"pipeline12": LOW, "pipeline4": LOW}, 0.004, NO),
    ("S8", 1, {"pipeline12": LOW}, 0.004, OPEN),
    ("S9", 5, {"baseline": LOW}, 0.004, YES),
    ("S9", 5, {"baseline": LOW, "gspo": Run(A=0.62)}, 0.004, NO),
    ("S9", 5, {}, 0.004, NO),
    ("S9", 4, {"baseline": LOW}, 0.004, OPEN),
    ("S10", 5, NOISY_DAPO, 0.004, YES),
    ("S10", 5, {}, 0.004, NO),
    ("S10", 5, {"head_m1": LOW}, 0.004, NO),  # one dose only
    ("S10", 5, NOISY_DAPO | {"head_m2": EXACT}, 0.004, BLOCKED),
    ("S10", 1, NOISY_DAPO, 0.004, OPEN),
    ("S11", 5, NOISY_DAPO | NOISY_MOE, 0.004, YES),
    ("S11", 5, NOISY_DAPO | NOISY_MOE | {"cispo_head_m1": LOW}, 0.004, NO),
    ("S11", 5, NOISY_DAPO, 0.004, NO),
    ("S11", 5, NOISY_MOE, 0.004, NO),
    ("S11", 5, NOISY_DAPO | NOISY_MOE | {"moe_head_m2": EXACT}, 0.004, BLOCKED),
    ("S11", 5, NOISY_DAPO | NOISY_MOE | {"head_m1": EXACT}, 0.004, BLOCKED),
    ("S11", 1, NOISY_DAPO | NOISY_MOE, 0.004, OPEN),
    ("S12", 5, SELECTION, 0.004, BLOCKED),
    ("S13", 5, {}, 0.004, YES),
    ("S13", 5, {"token_average": Run(A=0.75)}, 0.004, NO),
    ("S13", 4, {}, 0.004, OPEN),
    ("S14", 5, LESS_EFFICIENT, 0.004, YES),
    ("S14", 5, LESS_EFFICIENT | {"loo_dapo": Run(A=0.60, C_mid=20)}, 0.004, NO),
    ("S14", 5, LESS_EFFICIENT | {"loo_dapo": Run(C_mid=8)}, 0.004, NO),
    ("S14", 5, LESS_EFFICIENT | {"loo_dapo": Run()}, 0.004, OPEN),
    ("S14", 1, LESS_EFFICIENT, 0.004, OPEN),
    ("S15", 5, PEAK, 0.004, YES),
    ("S15", 5, {}, 0.004, NO),
    ("S15", 5, PEAK | {"baseline": LOW, "dapo_clip_028": LOW}, 0.004, NO),
    ("S15", 5, PEAK | {"cispo_cap_8": LOW}, 0.004, NO),
    ("S15", 1, PEAK, 0.004, OPEN),
    ("S16", 5, {"gspo_1e4": LOW}, 0.004, NO),
    ("S16", 5, {"gspo_1e2": Run(collapse_at=60)}, 0.004, NO),
    ("S16", 5, {"gspo_1e4": LOW, "gspo_1e2": Run(A=0.60)}, 0.004, NO),
    ("S16", 5, {"gspo_1e4": LOW, "gspo_1e2": Run(collapse_at=60)}, 0.004, OPEN),  # no ceiling without a stable run
    ("S16", 1, {"gspo_1e4": LOW}, 0.004, OPEN),
    ("S18", 5, {"scalerl": Run(truncation=0.1)}, 0.004, NO),
    ("S18", 5, {"scalerl": Run(truncation=0.0)}, 0.004, BLOCKED),
    ("S18", 1, {"scalerl": Run(truncation=0.1)}, 0.004, OPEN),
    ("S19", 5, {"loo_length_penalty": Run(C_mid=20)}, 0.004, YES),
    ("S19", 5, {"loo_length_penalty": LOW}, 0.004, NO),
    ("S19", 1, {"loo_length_penalty": Run(C_mid=20)}, 0.004, OPEN),
    ("S20", 5, {"long_budget": LATE}, 0.004, YES),
    ("S20", 5, {}, 0.004, NO),
    ("S20", 5, {"long_budget": Run(A=0.80, C_mid=8)}, 0.004, NO),
    ("S20", 5, {"long_budget": Run(A=0.75, C_mid=90)}, 0.004, OPEN),
    ("S20", 1, {"long_budget": LATE}, 0.004, OPEN),
    ("S21", 5, {"large_batch": LATE, "small_batch": CLIMBS}, 0.004, NO),
    ("S21", 5, {}, 0.004, NO),
    ("S21", 5, {"large_batch": LATE, "scalerl": Run(downstream=0.1)}, 0.004, BLOCKED),
    ("S21", 1, {"large_batch": LATE}, 0.004, OPEN),
    ("S22", 5, dict.fromkeys(FITTED, CLIMBS), 0.004, YES),
    ("S22", 5, dict.fromkeys(FITTED[:3], CLIMBS._replace(downstream=0.95)), 0.004, NO),
    ("S22", 5, dict.fromkeys(FITTED, CLIMBS._replace(downstream=0.1)), 0.004, BLOCKED),
    ("S22", 5, dict.fromkeys(FITTED, Run(A=0.43)), 0.004, BLOCKED),
    ("S22", 1, dict.fromkeys(FITTED, CLIMBS), 0.004, OPEN),
    ("S23", 5, {}, 0.004, YES),
    ("S23", 5, {"generations_8": LOW}, 0.004, NO),
    ("S23", 4, {}, 0.004, OPEN),
    ("S24", 5, {}, 0.004, YES),
    ("S24", 5, {"math_and_code": Run(forecast_A=0.95)}, 0.004, NO),
    ("S24", 5, {"math_and_code": Run(code_A=0.33)}, 0.004, BLOCKED),
    ("S24", 1, {}, 0.004, OPEN),
    ("S25", 5, {"moe": Run(A=0.90, C_mid=5)}, 0.004, YES),
    ("S25", 5, {"moe": Run(A=0.90, C_mid=30)}, 0.004, NO),
    ("S25", 5, {}, 0.004, NO),
    ("S25", 5, {"moe": Run(A=0.90), "large_batch": Run(A=0.38)}, 0.004, BLOCKED),
    ("S25", 1, {"moe": Run(A=0.90, C_mid=5)}, 0.004, OPEN),
    ("S27", 5, EARLY, 0.004, YES),
    ("S27", 5, {}, 0.004, NO),
    ("S27", 5, {"head_m1": EARLY["head_m1"]}, 0.004, NO),  # one dose only
    ("S27", 5, EARLY | {"head_m2": EXACT}, 0.004, BLOCKED),
    ("S27", 2, EARLY, 0.004, OPEN),
    ("S28", 5, {}, 0.004, YES),
    ("S28", 5, {}, 0.2, NO),
    ("S28", 2, {}, 0.02, OPEN),
    ("S28", 1, {}, 0.004, OPEN),
]


@pytest.mark.parametrize(("claim", "seeds", "runs", "spread", "expected"), SCALERL_CASES)
def test_scalerl_verdicts(
    claim: str, seeds: int, runs: Mapping[str, Run], spread: float, expected: str, tmp_path: Path
) -> None:
    arms = {arm for entry in load_register(CLAIMS).claims if entry.id == claim for arm in entry.arms}
    config = small_config(tmp_path, seeds=dict.fromkeys(arms | {"scalerl"}, seeds))
    write_scalerl_results(config, {"scalerl": HIGH} | dict(runs), spread)
    row = verdict(config, claim)
    assert row["verdict"] == expected, row["reason"]
    assert row["seeds"] <= seeds


def test_three_seeds_decide_where_evaluations_are_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer samples the interval of three seeds contains no gain over the last value, or not, by chance."""
    monkeypatch.setattr(synthetic, "SAMPLES", 2**20)
    config = small_config(tmp_path, seeds=dict.fromkeys(("scalerl", "large_batch"), 3))
    write_scalerl_results(config, {"scalerl": HIGH}, 0.004)
    row = verdict(config, "S1")
    assert row["verdict"] == YES, row["reason"]
    assert row["seeds"] == 3


Edit = tuple[str, str, Callable[[pd.DataFrame], pd.DataFrame]]
"""Arm, table and what happens to it."""


def edit(config: Config, arm: str, table: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Changes a table of every run of an arm."""
    for run in runs_of(config, [arm]):
        path = results_dir(config) / "runs" / run / f"{table}.parquet"
        write_parquet(path, change(pd.read_parquet(path)))


def with_fewer_steps(metrics: pd.DataFrame) -> pd.DataFrame:
    return metrics.assign(step=metrics["step"] * 3 / 4)


def with_smaller_pool(updates: pd.DataFrame) -> pd.DataFrame:
    return updates.assign(pool_size=np.where(updates["step"] > 40, 40, 48))


def with_stall(metrics: pd.DataFrame) -> pd.DataFrame:
    late = metrics["compute"] > metrics["compute"].max() / 2.1
    return metrics.assign(downstream_pass_rate=metrics["downstream_pass_rate"].mask(late, 0.3))


def with_length(sign: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda updates: updates.assign(mean_length=30 + sign * 100 * updates["truncation_rate"])


def with_seed_noise(metrics: pd.DataFrame) -> pd.DataFrame:
    return metrics.assign(entropy=metrics["entropy"] + 0.01 * metrics["seed"])


NOISY: list[Edit] = [(arm, "metrics", with_seed_noise) for arm in ("scalerl", "large_batch")]
POOL: list[Edit] = [("no_positive_resampling", "updates", with_smaller_pool)]
SPIKE = Run(truncation=0.01, truncates_at=95)
EDITED_CASES = [
    # claim, runs that differ from HIGH, edits, verdict
    ("S7", {"ppo8": Run(C_mid=20)}, [("ppo8", "metrics", with_fewer_steps)], YES),
    ("S12", SELECTION, POOL, YES),
    ("S12", SELECTION | {"no_positive_resampling": LOW}, POOL, NO),
    ("S12", SELECTION | {"loo_batch": Run(A=0.60)}, POOL, NO),
    ("S18", {"scalerl": SPIKE}, [("scalerl", "updates", with_length(1))], YES),
    ("S18", {"scalerl": SPIKE}, [("scalerl", "updates", with_length(-1))], NO),
    ("S21", {"large_batch": LATE, "small_batch": CLIMBS}, [("small_batch", "metrics", with_stall)], YES),
    ("S26", {"large_batch": Run(downstream=0.7)}, NOISY, YES),
    ("S26", {"large_batch": Run(downstream=0.7, entropy=0.5)}, NOISY, NO),
    ("S26", {}, NOISY, NO),
    ("S26", {"scalerl": Run(downstream=0.1)}, NOISY, BLOCKED),
]


@pytest.mark.parametrize(("claim", "runs", "edits", "expected"), EDITED_CASES)
def test_verdicts_on_edited_tables(
    claim: str, runs: Mapping[str, Run], edits: list[Edit], expected: str, tmp_path: Path
) -> None:
    arms = {arm for entry in load_register(CLAIMS).claims if entry.id == claim for arm in entry.arms}
    config = small_config(tmp_path, seeds=dict.fromkeys(arms | {"scalerl"}, 5))
    write_scalerl_results(config, runs)
    for arm, table, change in edits:
        edit(config, arm, table, change)
    row = verdict(config, claim)
    assert row["verdict"] == expected, row["reason"]


def test_some_runs_of_an_arm_diverge_and_the_others_have_its_ceiling(tmp_path: Path) -> None:
    arms = load_register(CLAIMS).claim("S16").arms
    config = small_config(tmp_path, seeds=dict.fromkeys((*arms, "scalerl"), 12))
    write_scalerl_results(config, {"gspo_1e4": LOW})
    for run in runs_of(config, ["gspo_1e2"])[:6]:
        path = results_dir(config) / "runs" / run / "metrics.parquet"
        metrics = pd.read_parquet(path)
        late = metrics["compute"] > metrics["compute"].max() / 2
        write_parquet(path, metrics.assign(pass_rate=metrics["pass_rate"].mask(late, 0.4)))
    row = verdict(config, "S16")
    assert row["verdict"] == YES, row["reason"]
    assert "6 of 48 against 0 of 36 runs collapse" in row["reason"]


FALLS = Run(collapse_at=60)


@pytest.mark.parametrize(
    ("seeds", "runs", "expected"),
    [
        (5, {"gspo": FALLS._replace(truncates_at=30)}, YES),
        (5, {"gspo": FALLS}, NO),
        (5, {"gspo": FALLS._replace(truncates_at=80)}, NO),  # only after the collapse
        (5, {"gspo": FALLS._replace(truncates_at=30), "cispo": Run(truncation=0.3)}, NO),
        (2, {"gspo": FALLS._replace(truncates_at=30)}, OPEN),
        (1, dict.fromkeys(("gspo", "cispo", "scalerl"), FALLS._replace(truncates_at=30)), OPEN),
        (5, {"cispo": Run(truncation=0.3)}, BLOCKED),
    ],
)
def test_truncation_before_collapse(seeds: int, runs: Mapping[str, Run], expected: str, tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds=dict.fromkeys(("scalerl", "gspo", "cispo"), seeds))
    write_scalerl_results(config, runs)
    row = verdict(config, "S17")
    assert row["verdict"] == expected, row["reason"]


def test_the_part_that_decides_gives_the_effect(tmp_path: Path) -> None:
    """One arm with five seeds refutes a claim although another arm has a single one."""
    config = small_config(tmp_path, seeds={"scalerl": 5, "baseline": 5, "pipeline4": 1, "pipeline12": 5})
    write_scalerl_results(config, {"pipeline12": Run(A=0.75)})
    row = verdict(config, "S8")
    assert row["verdict"] == NO, row["reason"]
    assert row["measure"] == "A(baseline) - A(pipeline12)"
    assert row["seeds"] == 5


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_failed_fits_decide_nothing(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds={"scalerl": 5, "minimax": 5})
    write_scalerl_results(config, {"minimax": Run(fails=True, granted=False)})
    row = verdict(config, "S5")
    assert row["verdict"] == OPEN
    assert row["reason"].startswith("no usable seed")


def test_failed_fits_stop_no_evaluator(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds={"others": 1})
    write_scalerl_results(config, dict.fromkeys(ARMS, Run(fails=True, granted=False)))
    register = load_register(CLAIMS)
    claims = tuple(claim for claim in register.claims if claim.paper == "scalerl")
    table = evaluate_register(register.model_copy(update={"claims": claims}), config)
    assert set(table["verdict"]) <= {OPEN, BLOCKED}


def test_unreached_level_is_censored_and_still_counts(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds={"scalerl": 5, "minimax": 5})
    write_scalerl_results(config, {"minimax": Run(A=0.70, C_mid=200.0)})
    row = verdict(config, "S5")
    assert row["verdict"] == OPEN
    assert "R(scalerl) - R(minimax) at equal compute, as A(minimax) is a bound" in row["reason"]
    assert "inf] holds" in row["reason"]


def test_collapse_needs_a_lasting_drop() -> None:
    rise = [0.40, 0.50, 0.60]
    assert collapsed([*rise, 0.55, 0.55, 0.55], margin=0.045, evaluations=3)
    assert not collapsed([*rise, 0.55, 0.55, 0.60], margin=0.045, evaluations=3)
    assert not collapsed([*rise, 0.56, 0.56, 0.56], margin=0.045, evaluations=3)
    assert not collapsed(rise, margin=0.05, evaluations=4)
    assert not collapsed([*rise, 0.40, 0.40, 0.40], margin=0.0, evaluations=3)
