"""Pilots choose what their rules say, and say when nothing shows what it must."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import ARMS, CHOICES, choices_of, load_scale, runs_of
from rlscape.catalogue.pilots import TASKS_IN_WORDS, Choice
from rlscape.claims import load_register
from rlscape.claims.controls import control_of, describe_choice, read_pilots
from rlscape.claims.power import Power
from rlscape.errors import ConfigError, ResultError
from rlscape.figures import pilots
from rlscape.files import read_json, write_json, write_parquet
from rlscape.gallery.claims import recorded_pilots
from rlscape.gallery.recording import record, record_pilots
from rlscape.paths import figures_dir, results_dir
from rlscape.pipeline.choose_pilots import choose_pilots
from rlscape.pipeline.plot_figure import plot_figure
from rlscape.results.pilots import choices, choose
from rlscape.settings.scale import Config
from tests.claim_verdicts import CLAIMS
from tests.synthetic import ROOT, Run, small_config, write_scalerl_results
from tests.test_adapter_figures import Restricted, write_runs

pytestmark = pytest.mark.usefixtures("precise_evaluations")

LOW, HIGH = Run(A=0.60), Run(A=0.78)
FALLS = Run(collapse_at=60)


def runs_with(values: Mapping[str, list[float]]) -> pd.DataFrame:
    rows = [(arm, 100 + seed, value) for arm, of_arm in values.items() for seed, value in enumerate(of_arm)]
    return pd.DataFrame(rows, columns=["arm", "seed", "value"])


def rule(**changes) -> Choice:
    settings = {"name": "rule", "candidates": ("a", "b", "c"), "against": ("b",), "quantity": "collapsed"}
    return Choice.model_validate(settings | {"window": (0, 0.5), "prefer": "first"} | changes)


SHOWN = runs_with({"a": [1, 1], "b": [0, 1], "c": [0, 0]})
ENDS = runs_with({"a": [0.9, 0.9], "b": [0.5, 0.6], "c": [0.58, 0.62]})


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({}, ["b"]),
        ({"window": (0, 0)}, ["c"]),
        ({"prefer": "highest_end"}, ["c"]),
        ({"prefer": "highest_end", "window": (0, 1)}, ["a"]),
        ({"prefer": "all"}, ["b", "c"]),
        ({"window": (2, 3)}, []),
    ],
)
def test_a_rule_takes_what_it_prefers_of_what_shows_the_quantity(changes: dict, chosen: list[str]) -> None:
    frame = choose(rule(**changes), SHOWN, ENDS)
    assert frame.loc[frame["chosen"], "arm"].tolist() == chosen
    assert frame["value"].tolist() == [1, 0.5, 0]
    assert frame["outermost"].tolist() == [True, False, True]


def test_effects_are_paired_by_seed() -> None:
    frame = choose(rule(), SHOWN, ENDS).set_index("arm")
    assert frame.loc["b", ["effect", "effect_low", "effect_high"]].tolist() == [0, 0, 0]
    differences = np.array([0.58 - 0.5, 0.62 - 0.6])
    half = 12.706 * differences.std(ddof=1) / np.sqrt(2)
    assert frame.loc["c", "effect"] == pytest.approx(differences.mean())
    assert frame.loc["c", "effect_high"] == pytest.approx(differences.mean() + half, rel=1e-3)
    each = choose(rule(against=("b", "c", "a")), SHOWN, ENDS).set_index("arm")
    assert each["against"].to_dict() == {"a": "b", "b": "c", "c": "a"}
    assert each["value_against"].to_dict() == {"a": 0.5, "b": 0, "c": 1}


def test_a_rule_has_one_partner_or_one_for_each_candidate() -> None:
    with pytest.raises(ValueError, match="against: needs one arm, or one for each of a, b, c"):
        rule(against=("a", "b"))


def chosen_by(config: Config, runs: Mapping[str, Run]) -> pd.DataFrame:
    write_scalerl_results(config, runs)
    frame = choices(config)
    return frame[frame["chosen"]].set_index("choice")


def config_of(root: Path, *names: str) -> Config:
    """Three seeds of the arms of some choices."""
    arms = {arm for name in names for arm in (*CHOICES[name].candidates, *CHOICES[name].against)} & ARMS.keys()
    config = small_config(root, dict.fromkeys([*sorted(arms), "scalerl"], 3))
    config = config.changed(scalerl=config.scalerl.changed(sft=config.off_principals.sft))
    assert {choice.name for choice in choices_of(config)} == set(names)
    return config


def test_a_family_gets_the_rate_with_the_highest_end_among_those_without_a_collapse(tmp_path: Path) -> None:
    config = config_of(tmp_path, "rate_gspo")
    runs = {"gspo": LOW, "gspo_double_lr": Run(A=0.70), "gspo_x4_lr": HIGH, "gspo_x8_lr": Run(A=0.95, collapse_at=60)}
    chosen = chosen_by(config, runs).loc["rate_gspo"]
    assert chosen["arm"] == "gspo_x4_lr" and not chosen["outermost"]
    assert chosen["effect_low"] > 0.1 and chosen["against"] == "gspo"


def test_the_least_stress_that_collapses_is_chosen_and_another_recipe_stands_beside_it(tmp_path: Path) -> None:
    config = config_of(tmp_path, "collapse_grpo", "collapse_scalerl")
    chosen = chosen_by(config, {"grpo_stress_x8": FALLS})
    assert chosen["arm"].to_dict() == {"collapse_grpo": "grpo_stress_x8"}
    assert (chosen["value"].item(), chosen["value_against"].item()) == (1, 0)


def test_adapters_collapse_by_their_training_pass_rate(tmp_path: Path) -> None:
    config = config_of(tmp_path, "collapse_pissa", "collapse_lora")
    write_scalerl_results(config)

    def run_of(arm: str, seed: int) -> Restricted:
        return Restricted(falls_at=20 if arm in ("pissa_r8_x500", "pissa_r8_x1000", "lora_r8_x1000") else None)

    write_runs(config, [arm for arm in config.seeds if arm != "scalerl"], run_of)
    frame = choices(config)
    chosen = frame[frame["chosen"]].set_index("choice")["arm"]
    assert chosen.to_dict() == {"collapse_pissa": "pissa_r8_x500", "collapse_lora": "lora_r8_x1000"}


def test_the_shortest_budget_that_binds_but_not_too_much_is_chosen(tmp_path: Path) -> None:
    config = config_of(tmp_path, "length_budget", "length_penalty")
    runs = {"budget_half": Run(truncation=0.4), "budget_60": Run(truncation=0.2), "budget_60_penalty": LOW}
    chosen = chosen_by(config, runs)
    assert chosen["arm"].to_dict() == {"length_budget": "budget_60", "length_penalty": "budget_60"}
    assert chosen.loc["length_penalty", "effect_low"] > 0.05
    assert abs(chosen.loc["length_budget", "effect"]) < 0.03


def test_all_caps_that_bind_are_chosen(tmp_path: Path) -> None:
    config = config_of(tmp_path, "caps_cispo")
    write_scalerl_results(config)
    shares = {"cispo_cap_0_5": 0.9, "cispo_cap_1": 0.5, "cispo_cap_1_1": 0.06, "cispo_cap_2": 0.02, "cispo": 2e-5}
    for arm, share in shares.items():
        for run in runs_of(config, [arm]):
            file = results_dir(config) / "runs" / run / "updates.parquet"
            write_parquet(file, pd.read_parquet(file).assign(clip_fraction=share))
    frame = choices(config)
    assert frame.loc[frame["chosen"], "arm"].tolist() == ["cispo_cap_1_1", "cispo_cap_2"]


@pytest.mark.parametrize(
    ("run", "passes"),
    [
        (Run(A=0.85), False),
        (Run(A=0.85, granted=False), True),
        (Run(A=0.41), True),
        (Run(fails=True, granted=False), True),
    ],
)
def test_a_forecast_of_random_rewards_is_refused_or_flat(run: Run, passes: bool, tmp_path: Path) -> None:
    config = config_of(tmp_path, "forecast_of_random_rewards")
    assert len(chosen_by(config, {"random_rewards": run})) == passes


def test_a_choice_may_compare_what_earlier_ones_chose(tmp_path: Path) -> None:
    names = ("rate_dense_sft", "rate_moe_sft", "moe_ceiling")
    chosen = chosen_by(
        config_of(tmp_path / "both", *names), {"moe_sft_double_lr": HIGH, "dense_sft_x4_lr": Run(A=0.74)}
    )
    ceiling = chosen.loc["moe_ceiling"]
    assert (ceiling["arm"], ceiling["against"]) == ("moe_sft_double_lr", "dense_sft_x4_lr")
    assert ceiling["effect"] == pytest.approx(0.04, abs=0.02)
    unstable = dict.fromkeys([arm for arm in ARMS if arm.startswith("moe_sft")], FALLS)
    assert set(chosen_by(config_of(tmp_path / "one", *names), unstable).index) == {"rate_dense_sft"}


def test_the_table_and_what_is_said(tmp_path: Path) -> None:
    config = config_of(tmp_path, "collapse_grpo", "collapse_scalerl")
    write_scalerl_results(config, {"grpo_stress_x8": FALLS})
    choose_pilots(config, tmp_path / "pilots.csv")
    table = pd.read_csv(tmp_path / "pilots.csv")
    of_grpo, of_scalerl = (table[table["choice"] == f"collapse_{name}"] for name in ("grpo", "scalerl"))
    assert describe_choice(of_grpo).startswith("grpo_stress_x8 (collapsed 1 v 0), end 0.4")
    assert "less scalerl_stress_x8 -0." in describe_choice(of_grpo)
    assert "at an end of the range" in describe_choice(of_grpo)
    assert describe_choice(of_scalerl) == "none (collapsed: scalerl_stress_x4 0, scalerl_stress_x8 0)"
    with pytest.raises(ConfigError, match=r"smoke: seeds\.pilots: needs a number of seeds"):
        choose_pilots(small_config(tmp_path), tmp_path / "nothing.csv")


NAMES = ("collapse_grpo", "collapse_scalerl", "rate_gspo")


@pytest.mark.parametrize("names", [("rate_gspo",), ("collapse_grpo", "collapse_scalerl"), NAMES])
def test_the_picture_has_a_panel_for_rates_and_one_for_controls_where_there_are_some(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    config = config_of(tmp_path, *names)
    write_scalerl_results(config, {"grpo_stress_x8": FALLS, "gspo_x4_lr": HIGH})
    choose_pilots(config, results_dir(config) / "pilots.csv")
    panels = {name.partition("_")[0] for name in names}
    assert len(pilots.draw(pilots.assemble(config)).axes) == len(panels)


def test_a_claim_shows_its_controls_or_how_often_a_planted_effect_is_found(tmp_path: Path) -> None:
    config = config_of(tmp_path, "collapse_grpo", "collapse_scalerl")
    write_scalerl_results(config, {"grpo_stress_x8": FALLS})
    choose_pilots(config, tmp_path / "pilots.csv")
    pilots = read_pilots(tmp_path / "pilots.csv")
    claim, power = load_register(CLAIMS).claim("S6"), Power(0.9, 0.8, 0.02)
    assert claim.controls == ("collapse_grpo", "collapse_scalerl")
    shown = control_of(claim, pilots, power)
    assert shown.startswith("collapse_grpo: grpo_stress_x8 (collapsed 1 v 0)") and "collapse_scalerl: none" in shown
    assert control_of(claim, None, power) == ""
    uncontrolled = claim.changed(controls=())
    assert control_of(uncontrolled, pilots, power) == "planted: found in 90% of simulations"
    assert control_of(uncontrolled, pilots, None) == ""


def test_every_control_is_a_choice_and_every_choice_a_control_of_some_claim() -> None:
    named = {name for claim in load_register(CLAIMS).claims for name in claim.controls}
    assert named == CHOICES.keys() - {
        "rate_dense_sft",
        "rate_moe_sft",
        "rate_small_batch",
        "rate_words_sft",
        "rate_words_sgd",
        "second_task",
        "tasks_in_words",
    }


def test_pilots_that_are_named_need_no_figure() -> None:
    config = load_scale(ROOT / "config" / "pretrained_pilots.yaml")
    assert config.targets == () and {f"words_{task}" for task in TASKS_IN_WORDS} < config.seeds.keys()
    assert [choice.name for choice in choices_of(config)] == ["tasks_in_words", "rate_words_sft"]
    further = load_scale(ROOT / "config" / "pretrained_further_pilots.yaml")
    assert [choice.name for choice in choices_of(further)] == ["second_task", "rate_words_sgd"]


@pytest.mark.parametrize(
    ("content", "message"), [("", "not a readable table"), ("choice,arm\na,b\n", "no column against, seeds")]
)
def test_a_damaged_table_of_pilots_is_named(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "pilots.csv"
    file.write_text(content)
    with pytest.raises(ResultError, match=f"{file}: {message}.*make pilots"):
        read_pilots(file)


def test_pilots_are_recorded_with_their_picture_and_origin(tmp_path: Path) -> None:
    config = config_of(tmp_path, *NAMES)
    config = config.changed(scale="pilots", targets=("scalerl_control_learning_rate",))
    write_scalerl_results(config, {"grpo_stress_x8": FALLS, "gspo_x4_lr": HIGH})
    choose_pilots(config, results_dir(config) / "pilots.csv")
    plot_figure("pilots", config, figures_dir(config) / "pilots")
    for run in runs_of(config, config.seeds):
        file = results_dir(config) / "runs" / run / "run.json"
        values = {"provenance": {"commit": "c0ffee"}, "claims_sha256": "abc", "wall_seconds": 36.0}
        write_json(file, (read_json(file) if file.exists() else {}) | values)
    gallery = tmp_path / "gallery"
    with pytest.raises(ResultError, match=r"control_learning_rate\.svg: no such result"):
        record_pilots(config, gallery)
    assert not gallery.exists()
    config = config.changed(targets=())
    record_pilots(config, gallery)
    assert read_json(gallery / "pilots" / "run.json")["core_hours"] == pytest.approx(
        len(runs_of(config, config.seeds)) / 100
    )
    recorded = recorded_pilots(gallery)
    assert recorded is not None and set(recorded["choice"]) == {"collapse_grpo", "collapse_scalerl", "rate_gspo"}
    picture = (figures_dir(config) / "pilots.png").read_bytes()
    assert (gallery / "pilots" / "pilots.png").read_bytes() == picture
    with pytest.raises(ConfigError, match="pilots decide no claim; make pilots records"):
        record(config, "scalerl", load_register(CLAIMS), gallery)
