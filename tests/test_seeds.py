"""Which arms a scale runs, and on which seeds."""

from pathlib import Path

import pytest

from rlscape.catalogue import (
    ARMS,
    CHOICES,
    choices_of,
    first_run,
    load_scale,
    pilots,
    resolve_run,
    runs_of,
    seeds_of,
    with_catalogue,
)
from rlscape.settings.reading import load_config, parse_config
from tests.test_config import REPOSITORY, SCALES, edited_smoke, relative, scale_of

PILOT_SCALES = ("pilots", "pretrained_pilots", "pretrained_further_pilots")


def test_seeds_start_where_the_scale_says() -> None:
    seeds = {"sft": 3, "rlvr": 2, "sft_then_rl": 2}
    config = load_scale(REPOSITORY / "config" / "smoke.yaml").changed(first_seed=7, seeds=seeds)
    assert runs_of(config, ["rlvr", "sft"]) == ["rlvr-s7", "rlvr-s8", "sft-s7", "sft-s8", "sft-s9"]
    assert first_run(config, "sft") == "sft-s7"
    assert list(seeds_of(config, "rlvr", "sft")) == [7, 8]
    starts = {resolve_run(config, run).start for run in runs_of(config, ["sft_then_rl"])}
    assert starts <= set(runs_of(config, ["sft"]))


def test_others_and_extras_are_spelled_out() -> None:
    bases = load_config(REPOSITORY / "config" / "smoke.yaml").bases.keys() | {None}
    usual = {arm: spec for arm, spec in ARMS.items() if arm not in pilots.ARMS and spec.base in bases}
    config = scale_of({"others": 2, "extras": 1, "scalerl": 5})
    assert config.seeds == {arm: 1 if spec.extra else 2 for arm, spec in usual.items()} | {"scalerl": 5}
    without = scale_of({"others": 1})
    assert set(without.seeds) == {arm for arm, spec in usual.items() if not spec.extra}


def test_pilots_are_what_choices_name_and_run_where_they_are_asked_for() -> None:
    smoke = load_config(REPOSITORY / "config" / "smoke.yaml").scalerl
    values = edited_smoke("scalerl.sft", {"steps": 2, "learning_rate": 1e-3, "sequences_per_step": 4})
    values |= {"seeds": {"pilots": 2, "gspo": 3}, "targets": ["scalerl_fig3"]}
    config = with_catalogue(parse_config(values, "my.yaml"), "my.yaml")
    in_words = {arm for arm in pilots.ARMS if arm.startswith("words_")}  # of bases that the scale has not
    assert set(config.seeds) >= pilots.ARMS.keys() - in_words and config.seeds["gspo"] == 3
    assert {count for arm, count in config.seeds.items() if arm != "gspo"} == {2}
    elsewhere = ("tasks_in_words", "second_task", "rate_words_sft", "rate_words_sgd")
    assert [choice.name for choice in choices_of(config)] == [name for name in CHOICES if name not in elsewhere]
    assert not CHOICES.keys() & ARMS.keys()
    named = scale_of({"others": 1, "grpo_stress_x4": 2})
    assert named.seeds.keys() & pilots.ARMS.keys() == {"grpo_stress_x4"} and not choices_of(named)
    assert smoke.sft is None, "what pilots alone need is in their own file"


def test_every_scale_but_the_pilots_runs_no_pilot() -> None:
    for file in SCALES:
        config = load_scale(file)
        assert (
            (config.scale in PILOT_SCALES) == bool(choices_of(config)) == bool(config.seeds.keys() & pilots.ARMS.keys())
        )


def test_pilots_have_the_settings_of_the_default_scale() -> None:
    """But for what only the default measures."""
    default, tried = (load_config(REPOSITORY / "config" / f"{name}.yaml") for name in ("config", "pilots"))
    assert tried.tasks.items() <= default.tasks.items() and tried.bases.items() <= default.bases.items()
    for study, other in ((tried.scalerl, default.scalerl), (tried.off_principals, default.off_principals)):
        assert (study.base, study.rl) == (other.base, other.rl)
        assert study.evaluation == other.evaluation.changed(downstream_prompts=0, downstream_samples_per_prompt=1)


@pytest.mark.parametrize("file", SCALES, ids=relative)
def test_no_seed_that_chose_a_testbed_decides_a_claim(file: Path) -> None:
    config = load_scale(file)
    seeds = {seed for arm in config.seeds for seed in seeds_of(config, arm)}
    assert min(seeds) >= 100 if config.scale in PILOT_SCALES else max(seeds) < 100
