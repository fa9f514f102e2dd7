"""The claims on bias: planted effects are replicated, their absence is not, and one seed decides nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import figure_of, resolve_run, runs_of, seeds_of
from rlscape.claims import BESIDE, load_register
from rlscape.claims.off_principals import bias as evaluators
from rlscape.claims.register import Claim, Outcome
from rlscape.files import write_parquet
from rlscape.paths import parse_run_name, results_dir, run_name
from rlscape.results import bias
from rlscape.results.files import recorded_reads
from rlscape.settings.scale import Config
from tests.claim_verdicts import CLAIMS
from tests.synthetic import ROOT, small_config

YES, NO, OPEN = "replicated", "not replicated", "inconclusive"
CONVENTIONS = load_register(CLAIMS).conventions
RATES = ("rlvr", "rlvr_lr_half", "rlvr_lr_double", "rlvr_lr_x4")


def claim(evaluator: str, arms: tuple[str, ...], thresholds: dict[str, float] | None = None, **values: object) -> Claim:
    common = {"id": "O0", "paper": "off_principals", "text": "", "figures": (), "evidence": "", "criterion": ""}
    return Claim.model_validate(
        common | {"evaluator": evaluator, "arms": arms, "thresholds": thresholds or {}} | values
    )


def judge(each: Claim, config: Config) -> Outcome:
    return getattr(evaluators, each.evaluator)(each, CONVENTIONS, config)


# O5

STABLE = claim("early_and_stable", ("rlvr", "rlvr_long"), {"min_correlation": 0.5, "negligible": 0.1})


def write_profiles(config: Config, kept: float, beyond: float) -> None:
    """Profiles of which a share ``kept`` is the first one's, and new changes that follow it to a degree ``beyond``."""
    for index, run in enumerate(runs_of(config, config.seeds)):
        rng = np.random.default_rng(index)
        frames = []
        for layer in range(3):
            for kind, axis in (("q", "row"), ("o", "column"), ("q", "column")):
                first = rng.normal(0.2, 0.05, 100)
                new = 0.3 + beyond * (first - 0.2) + rng.normal(0, 0.05, 100)
                last = kept * first + rng.normal(0, 0.05, 100)
                place = {"tensor": f"{layer}.{kind}", "layer": layer, "kind": kind, "axis": axis, "index": range(100)}
                shares = {"share_by_magnitude": 0.2, "new_by_magnitude": 0.3}
                frames.append(pd.DataFrame(place | shares | {"step": 2, "share": first, "new": 0.0}))
                frames.append(pd.DataFrame(place | shares | {"step": 10, "share": last, "new": new}))
        write_parquet(results_dir(config) / "geometry" / run / "profiles.parquet", pd.concat(frames))


@pytest.mark.parametrize(
    ("seeds", "kept", "beyond", "expected"),
    [
        (5, 3.0, 3.0, YES),
        (5, 0.0, 3.0, NO),  # the first correlation
        (5, 3.0, 0.0, NO),  # nesting alone
        (5, 3.0, -3.0, NO),
        (2, 3.0, 0.0, OPEN),
        (1, 3.0, 3.0, OPEN),
    ],
)
def test_early_and_stable(tmp_path: Path, seeds: int, kept: float, beyond: float, expected: str) -> None:
    config = small_config(tmp_path, seeds={"rlvr": seeds, "rlvr_long": 1})
    write_profiles(config, kept, beyond)
    found = judge(STABLE, config)
    assert found.verdict == expected, found.reason
    assert "rlvr_long: " in found.reason


def test_what_the_claim_reads_is_measured_for_the_figures_that_it_needs(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds={"rlvr": 2, "rlvr_long": 1})
    write_profiles(config, 3.0, 3.0)
    with recorded_reads() as files:
        judge(STABLE, config)
    (figures,) = (
        each.figures
        for each in load_register(ROOT / "config" / "claims.yaml").claims
        if each.evaluator == "early_and_stable"
    )
    needed = [figure_of(target) for target in (*figures, *BESIDE["early_and_stable"])]
    measured = {arm for figure in needed if "over_time" in figure.measurements for arm in figure.arms}
    assert {parse_run_name(file.parent.name)[0] for file in files} == {"rlvr", "rlvr_long"} <= measured


# O6

LEASH = claim("small_steps_without_penalty", RATES, {"slope_margin": 0.5})


def write_leash(
    config: Config,
    size: float = 0.01,
    power: float = 2.0,
    sft_kl: float = 2e-2,
    sft_start: float = 0.3,
    sft_end: float = 0.5,
) -> None:
    """Steps of KL ``size`` at the own rate and its ``power`` at others; SFT's KL at equal pass rate against 1e-2.

    RL ends at a pass rate of 0.4, which SFT, learning from 0.3 to 0.5, has at step 10.
    """
    rng = np.random.default_rng(0)
    own = resolve_run(config, run_name("rlvr", 0)).rl.learning_rate
    for run in runs_of(config, RATES):
        rate = resolve_run(config, run).rl.learning_rate
        kl = size * (rate / own) ** power * rng.uniform(0.95, 1.05, 20)
        updates = pd.DataFrame({"step": range(1, 21), "kl_step": kl, "clip_fraction": 0.01})
        write_curve(config, run, updates.assign(kl_from_start=np.linspace(0.05, 1, 20) * 1e-2), (0.3, 0.35, 0.4))
    for run in runs_of(config, ["sft_rl_rate"]):
        kl = np.linspace(0.05, 1, 20) * sft_kl / 0.5 * rng.uniform(0.99, 1.01)
        write_curve(
            config,
            run,
            pd.DataFrame({"step": range(1, 21), "kl_from_start": kl}),
            (sft_start, (sft_start + sft_end) / 2, sft_end),
        )


def write_curve(config: Config, run: str, updates: pd.DataFrame, pass_rates: tuple[float, ...]) -> None:
    """Updates, and evaluations at every step, linear between those given for steps 0, 10 and 20."""
    steps = np.arange(21)
    metrics = pd.DataFrame({"step": steps, "pass_rate": np.interp(steps, (0, 10, 20), pass_rates)})
    write_parquet(results_dir(config) / "runs" / run / "updates.parquet", updates)
    write_parquet(results_dir(config) / "runs" / run / "metrics.parquet", metrics)


def write_matching(config: Config, changes: Mapping[str, Mapping[str, tuple[float, float]]]) -> None:
    """Statistics of RL and SFT per matching; those not named are equal."""
    names = (*evaluators.AT_EQUAL_NORM, "kl")
    for seed in seeds_of(config, "sft_rl_rate"):
        rng = np.random.default_rng(seed)
        rows = []
        for matching in bias.MATCHINGS:
            values = dict.fromkeys(names, (1.0, 1.0)) | changes.get(matching, {})
            for index, method in enumerate(("rl", "sft")):
                row = {name: pair[index] * rng.uniform(0.99, 1.01) for name, pair in values.items()}
                rows.append({"matching": matching, "method": method, "arm": method, "seed": seed} | row)
        write_parquet(results_dir(config) / "geometry" / f"matching-s{seed}.parquet", pd.DataFrame(rows))


def matched_config(root: Path, seeds: int, arms: tuple[str, ...] = ()) -> Config:
    return small_config(root, seeds=dict.fromkeys((*bias.MATCHED_ARMS, *arms), seeds))


def test_kl_at_a_pass_rate_is_that_of_the_step_at_which_a_smooth_curve_reaches_it() -> None:
    """KL may bend; the start is an evaluation. Out of reach, the start or the end is a bound."""
    step = np.arange(0, 61, 3)
    metrics = pd.DataFrame({"step": step, "pass_rate": 0.2 + 0.01 * step})
    updates = pd.DataFrame({"step": range(1, 61), "kl_from_start": np.arange(1, 61) ** 2 / 1000})
    for shuffled in (metrics, metrics[::-1]):
        assert bias.kl_at_pass_rate(shuffled, updates, 0.45) == (pytest.approx(0.625, rel=0.01), False, False)
    assert bias.kl_at_pass_rate(metrics, updates, 0.19) == (0.0, True, False)
    assert bias.kl_at_pass_rate(metrics, updates, 0.9) == (pytest.approx(3.6), False, True)
    few = metrics[metrics["step"] <= 3]
    assert 0 < bias.kl_at_pass_rate(few, updates, 0.22).value < 0.009
    assert np.isnan(bias.kl_at_pass_rate(metrics, updates.assign(kl_from_start=np.nan), 0.45).value)
    assert np.isnan(bias.kl_at_pass_rate(metrics.assign(pass_rate=np.nan), updates, 0.45).value)


def isotropic(x: np.ndarray | float) -> np.ndarray | float:
    return 1 - 2 / np.pi * np.arctan(x)


CONCAVE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "straight": lambda share: share,
    "saturating": lambda share: -np.expm1(-1.7 * share),
    "saturating early": lambda share: -np.expm1(-3 * share),
    "hyperbolic": lambda share: share / (share + 0.6),
    "logarithmic": lambda share: np.log1p(5 * share),
    "power": lambda share: share**0.7,
}
STEP, FINE = np.arange(0, 101, 5), np.linspace(0, 1, 10_001)
PATH = pd.DataFrame({"step": np.arange(1, 101), "kl_from_start": np.arange(1, 101) ** 1.3})
MODELS = pd.DataFrame({"step": STEP, "as_if": 4.9 * (STEP / 100) ** 0.8})


@pytest.mark.parametrize("level", [0.07, 0.09, 0.12, 0.15, 0.2])
@pytest.mark.parametrize("curve", CONCAVE)
def test_readings_at_a_pass_rate_are_right_on_concave_curves(curve: str, level: float) -> None:
    """Within a fifth of KL's margin and a third of sparsity's; means of evaluations lie below what is concave."""
    gain = 0.25 * CONCAVE[curve](STEP / 100) / CONCAVE[curve](np.ones(1))
    reached = np.interp(level, 0.25 * CONCAVE[curve](FINE) / CONCAVE[curve](np.ones(1)), 100 * FINE)
    metrics = MODELS.assign(pass_rate=0.26 + gain, sparsity=isotropic(MODELS["as_if"]))
    kl = bias.kl_at_pass_rate(metrics, PATH, 0.26 + level)
    assert kl == (pytest.approx(reached**1.3, rel=0.02), False, False)
    sparsity = bias.sparsity_at_pass_rate(metrics, 0.26 + level)
    assert sparsity == (pytest.approx(isotropic(4.9 * (reached / 100) ** 0.8), abs=0.0035), False, False)


@pytest.mark.parametrize("curve", ["straight", "saturating", "logarithmic"])
def test_noise_of_evaluations_hardly_moves_readings_at_a_pass_rate(curve: str) -> None:
    """Of 1,024 samples; readings from single evaluations scatter more."""
    rng, level = np.random.default_rng(0), 0.09
    rates = 0.26 + 0.25 * CONCAVE[curve](STEP / 100) / CONCAVE[curve](np.ones(1))
    reached = np.interp(level, 0.25 * CONCAVE[curve](FINE) / CONCAVE[curve](np.ones(1)), 100 * FINE)
    smooth, single, sparsity = [], [], []
    for _ in range(300):
        metrics = MODELS.assign(pass_rate=rng.binomial(1024, rates) / 1024, sparsity=isotropic(MODELS["as_if"]))
        smooth.append(bias.kl_at_pass_rate(metrics, PATH, 0.26 + level).value / reached**1.3)
        first = bias.read_at(metrics, "pass_rate", 0.26 + level, "step").value
        single.append((first / reached) ** 1.3)
        sparsity.append(bias.sparsity_at_pass_rate(metrics, 0.26 + level).value)
    assert np.mean(smooth) == pytest.approx(1, abs=0.02)
    assert np.std(single) > 1.5 * np.std(smooth)
    assert np.mean(sparsity) == pytest.approx(isotropic(4.9 * (reached / 100) ** 0.8), abs=0.005)


def runs_along(curve: Callable[[np.ndarray], np.ndarray], runs: int, level: float = 0.38) -> list[tuple]:
    """Of 21 evaluations of 1,024 samples, which scatter by 0.01 besides."""
    rng, rates = np.random.default_rng(3), 0.26 + 0.25 * curve(STEP / 100)
    found = rng.binomial(1024, rates, (runs, len(STEP))) / 1024 + rng.normal(0, 0.01, (runs, len(STEP)))
    return [(pd.DataFrame({"step": STEP, "pass_rate": each}), level) for each in found]


@pytest.mark.parametrize("curve", CONCAVE)
def test_curves_that_readings_are_made_for_are_not_misread(curve: str) -> None:
    """However they scatter."""
    reached = CONCAVE[curve]
    found = [bias.misread(runs_along(lambda share: reached(share) / reached(np.ones(1)), runs)) for runs in (1, 5, 20)]
    assert not any(found)


@pytest.mark.parametrize(
    "curve",
    [
        lambda share: -np.expm1(-20 * share),  # saturates at once
        lambda share: 1 / (1 + np.exp(-15 * (share - 0.5))),  # rises late
        lambda share: share - 0.5 * np.exp(-(((share - 0.2) / 0.1) ** 2)),  # dips
    ],
)
def test_curves_of_other_forms_are_misread(curve: Callable[[np.ndarray], np.ndarray]) -> None:
    """By runs enough; of too few evaluations nothing is known."""
    assert bias.misread(runs_along(curve, 5))
    assert bias.misread((metrics.head(6), level) for metrics, level in runs_along(curve, 5))
    assert bias.misread([])
    assert bias.misread((metrics, np.nan) for metrics, _ in runs_along(curve, 5))


def test_curves_that_saturate_early_are_misread_by_all_runs_alike() -> None:
    """At a rate of 13, where KL is a tenth too high, the F test of twelve runs does not find them."""
    assert not bias.misread(runs_along(lambda share: -np.expm1(-3 * share), 12, 0.44))
    assert bias.misread(runs_along(lambda share: -np.expm1(-13 * share), 12, 0.44))


def test_what_is_not_known_is_no_bound() -> None:
    curve = pd.DataFrame({"step": [0, 10, 20], "x": [0.2, 0.3, 0.4], "y": [1.0, 2.0, 3.0]})
    unknown = curve.assign(x=[0.2, np.nan, np.nan])
    for each, level in ((curve, np.nan), (unknown, 0.3)):
        value, early, late = bias.read_at(each, "x", level, "y")
        assert np.isnan(value) and not early and not late


def test_sparsity_is_read_between_models_that_were_trained() -> None:
    """Exactly at any size if updates are isotropic; a line in the logarithm of the size is 0.005 off."""
    sizes = np.array([0.0, 1.4, 2.35, 3.3, 4.2])
    metrics = pd.DataFrame({"step": range(5), "x": sizes, "sparsity": isotropic(sizes)})
    for x in (1.5, 1.8, 2.1, 3.0):
        assert bias.sparsity_at_size(metrics, x) == (pytest.approx(isotropic(x)), False, False)
    assert bias.sparsity_at_size(metrics, 1.0) == (pytest.approx(isotropic(1.4)), True, False)
    assert bias.sparsity_at_size(metrics, 5.0) == (pytest.approx(isotropic(4.2)), False, True)


def test_pass_rates_out_of_reach_are_bounds() -> None:
    """Also of a run with few evaluations; before its first model there is none to read."""
    metrics = pd.DataFrame({"step": range(4), "pass_rate": [0.3, 0.4, 0.5, 0.6], "sparsity": [1.0, 0.7, 0.6, 0.5]})
    assert bias.sparsity_at_pass_rate(metrics, 0.35) == (pytest.approx(0.7), True, False)
    assert bias.sparsity_at_pass_rate(metrics, 0.5) == (pytest.approx(0.6, abs=1e-3), False, False)
    assert bias.sparsity_at_pass_rate(metrics, 0.65) == (pytest.approx(0.5), False, True)


@pytest.mark.parametrize(
    ("seeds", "changes", "expected"),
    [
        (5, {}, YES),
        (5, {"size": 0.06}, NO),  # eps^2 / 2 = 0.039
        (5, {"power": 1.0}, NO),
        (5, {"sft_kl": 5e-3}, NO),
        (5, {"sft_kl": 1e-2}, NO),  # as far as RL
        (5, {"sft_kl": 1.05e-2}, NO),  # further, within the margin
        (5, {"sft_kl": 1.1e-2}, OPEN),  # by the margin
        (4, {}, OPEN),  # a slope within a margin needs five seeds
        (5, {"sft_end": 0.38}, YES),  # SFT, further from the start, is not there yet: a bound
        (5, {"sft_kl": 5e-3, "sft_end": 0.38}, OPEN),  # nearer, and it may still go further
        (5, {"sft_start": 0.41}, NO),  # there from the beginning
        (5, {"sft_start": 0.41, "sft_kl": 0.2}, NO),  # however far it went then
        (1, {}, OPEN),
    ],
)
def test_small_steps(tmp_path: Path, seeds: int, changes: dict[str, float], expected: str) -> None:
    config = matched_config(tmp_path, seeds, RATES)
    write_leash(config, **changes)
    found = judge(LEASH, config)
    assert found.verdict == expected, found.reason
    assert "bound 0.0392" in found.reason


# O7

KEEPS = claim("keeps_spectrum_at_equal_norm", bias.MATCHED_ARMS)
LOUD = {name: (1.0, 3.0) for name in evaluators.AT_EQUAL_NORM}
FAINT = {name: (1.0, 1.06) for name in evaluators.AT_EQUAL_NORM}


@pytest.mark.parametrize(
    ("seeds", "changes", "expected"),
    [
        (5, {"as_run": LOUD, "norm": LOUD}, YES),
        (5, {"as_run": LOUD}, NO),  # a difference of size alone
        (5, {"as_run": LOUD, "norm": FAINT}, NO),  # there, and less than a tenth
        (5, {"as_run": LOUD, "norm": LOUD | {"nss": (1.0, 1.1)}}, OPEN),
        (3, {"as_run": LOUD}, OPEN),
        (5, {"as_run": LOUD, "norm": LOUD | {"efficiency": (1.0, 0.5)}}, NO),
        (5, {"norm": LOUD, "as_run": {"nss": (2.0, 1.0)}}, NO),
        (1, {"as_run": LOUD, "norm": LOUD}, OPEN),
    ],
)
def test_keeps_spectrum(
    tmp_path: Path, seeds: int, changes: dict[str, dict[str, tuple[float, float]]], expected: str
) -> None:
    config = matched_config(tmp_path, seeds)
    write_matching(config, changes)
    found = judge(KEEPS, config)
    assert found.verdict == expected, found.reason
