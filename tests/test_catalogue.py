"""The catalogue: arms, what they change of their recipe, and how a scale resolves them to runs."""

import pytest

from rlscape import catalogue
from rlscape.catalogue import ARMS, FIGURES, load_scale, resolve_run, with_catalogue
from rlscape.catalogue.recipes import RECIPES
from rlscape.errors import ConfigError
from rlscape.paths import parse_run_name
from rlscape.settings.reading import parse_config
from tests.test_config import REPOSITORY, edited_smoke


def test_figures_have_their_own_targets_and_known_arms() -> None:
    targets = [figure.target for figure in FIGURES]
    assert len(set(targets)) == len(targets)
    assert {"scalerl_fig5", "off_principals_fig4", "off_principals_table1"} <= set(targets)
    assert {arm for figure in FIGURES for arm in figure.arms} <= set(ARMS)


def test_an_arm_is_its_recipe_and_the_change() -> None:
    config = load_scale(REPOSITORY / "config" / "smoke.yaml")
    baseline, cispo = (resolve_run(config, f"{arm}-s0").recipe for arm in ("baseline", "cispo"))
    assert baseline is not None and baseline.loss == "dapo"
    assert cispo == baseline.changed(loss="cispo")


def test_change_of_an_unknown_recipe_field_names_the_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ARMS["cispo"].changed(changes={"los": "cispo"})
    monkeypatch.setitem(catalogue.ARMS, "cispo", broken)
    with pytest.raises(ConfigError, match="catalogue: arm cispo"):
        resolve_run(load_scale(REPOSITORY / "config" / "smoke.yaml"), "cispo-s0")


@pytest.mark.parametrize("run", ["scalerl", "scalerl-sx", "nothing-s0", "scalerl-s-1"])
def test_name_that_is_no_run(run: str) -> None:
    with pytest.raises(ConfigError, match="not a run"):
        resolve_run(load_scale(REPOSITORY / "config" / "smoke.yaml"), run)
    if run != "nothing-s0":  # a name like that of a run, but of no arm
        with pytest.raises(ValueError, match="not a run"):
            parse_run_name(run)


def test_run_names_round_trip() -> None:
    assert parse_run_name("fp32_head-s12") == ("fp32_head", 12)


def test_unequal_batches_get_the_same_number_of_completions() -> None:
    config = load_scale(REPOSITORY / "config" / "config.yaml")
    arms = ("scalerl", "qwen_dapo", "small_batch", "generations_8", "generations_24", "generations_32")
    runs = [resolve_run(config, f"{arm}-s0") for arm in arms]
    batches = [run.recipe.prompts_per_batch * run.recipe.generations_per_prompt for run in runs if run.recipe]
    completions = [run.rl.steps * batch for run, batch in zip(runs, batches, strict=True)]
    assert max(completions) - min(completions) <= max(batches) / 2
    assert runs[0].rl.steps != runs[1].rl.steps


def test_an_arm_multiplies_settings_of_its_scale() -> None:
    config = load_scale(REPOSITORY / "config" / "config.yaml")
    plain, half, long = (resolve_run(config, f"{arm}-s0").rl for arm in ("scalerl", "scalerl_half_lr", "long_budget"))
    assert half == plain.changed(learning_rate=plain.learning_rate / 2)
    assert long == plain.changed(thinking_tokens=round(plain.thinking_tokens * 32 / 12))


def test_factor_of_a_setting_that_is_no_number_names_the_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.ARMS, "cispo", ARMS["cispo"].changed(scaled={"step": 2.0}))
    with pytest.raises(ConfigError, match=r"arm cispo: scaled\.step"):
        resolve_run(load_scale(REPOSITORY / "config" / "smoke.yaml"), "cispo-s0")


def test_only_runs_with_code_problems_depend_on_the_code_settings() -> None:
    config = load_scale(REPOSITORY / "config" / "smoke.yaml")
    both = {task: config.tasks[task] for task in ("math", "code")}
    assert resolve_run(config, "math_and_code-s0").tasks == both
    assert resolve_run(config, "math_only-s0").tasks == {"math": config.tasks["math"]}
    assert resolve_run(config, "agent_search-s0").tasks == {"search": config.tasks["search"]}
    assert resolve_run(config, "math_only-s0").base_name == resolve_run(config, "math_and_code-s0").base_name


def test_arms_are_evaluated_downstream_where_a_figure_says_so() -> None:
    config = load_scale(REPOSITORY / "config" / "config.yaml")
    shown, hidden = (resolve_run(config, run).evaluation for run in ("moe-s0", "ppo8-s0"))
    assert shown == config.scalerl.evaluation and shown.downstream_prompts > 0
    assert hidden == shown.changed(downstream_prompts=0)


def test_sft_is_evaluated_as_often_as_the_scale_says() -> None:
    config = load_scale(REPOSITORY / "config" / "config.yaml")
    counts = [resolve_run(config, run).evaluation.evaluations for run in ("sft_rl_rate-s0", "rlvr-s0")]
    study = config.off_principals
    assert counts == [study.sft_evaluations, study.evaluation.evaluations] and counts[0] != counts[1]


def test_divergences_are_measured_where_a_figure_shows_them() -> None:
    config = load_scale(REPOSITORY / "config" / "config.yaml")
    shown, hidden = (resolve_run(config, run).drift_prompts for run in ("rlvr_lr_half-s0", "footprint_dapo-s0"))
    assert shown == config.off_principals.drift_prompts > hidden == 0


def test_arms_of_other_precision_and_optimiser_settings() -> None:
    config = load_scale(REPOSITORY / "config" / "evidence.yaml")
    plain, betas, full = (resolve_run(config, f"{arm}-s0") for arm in ("rlvr", "rlvr_adam_beta", "rlvr_fp32"))
    assert betas.rl == plain.rl.changed(adam_betas=(0.9, 0.95))
    assert full.rl == plain.rl.changed(generator_precision="fp32")
    assert full.base == plain.base.changed(precision="fp32")


def test_engine_settings_hold_for_every_method(monkeypatch) -> None:
    config = load_scale(REPOSITORY / "config" / "smoke.yaml")
    monkeypatch.setitem(catalogue.ARMS, "sft", ARMS["sft"].changed(settings={"adam_epsilon": 1e-6}))
    assert resolve_run(config, "sft-s0").rl == config.off_principals.rl.changed(adam_epsilon=1e-6)


def test_evidence_has_the_testbed_of_the_default_scale() -> None:
    default, evidence = (load_scale(REPOSITORY / "config" / f"{name}.yaml") for name in ("config", "evidence"))
    for part in ("tasks", "off_principals", "fit", "geometry"):
        assert getattr(default, part) == getattr(evidence, part), part
    deep = default.bases["deep"]
    own = {"deep_fp32": deep.changed(precision="fp32"), "deep_quantised": deep.changed(quantisation="q4_1")}
    assert evidence.bases == default.bases | own
    assert evidence.scalerl.rl == default.scalerl.rl.changed(steps=evidence.scalerl.rl.steps)
    assert min(evidence.seeds.values()) >= 5
    elsewhere = {name for name, arm in ARMS.items() if arm.base == "dithered"}  # of a checkpoint
    assert ARMS.keys() - {*catalogue.pilots.ARMS, *elsewhere} == evidence.seeds.keys()


def test_controls_of_the_pretrained_scale_have_its_testbed_and_other_seeds() -> None:
    names = ("pretrained", "pretrained_controls")
    main, controls = (load_scale(REPOSITORY / "config" / f"{name}.yaml") for name in names)
    for part in ("tasks", "scalerl", "off_principals", "geometry"):
        assert getattr(main, part) == getattr(controls, part), part
    assert main.bases.items() <= controls.bases.items()
    assert main.first_seed + max(main.seeds.values()) <= controls.first_seed


def test_heads_of_the_pretrained_scale_have_its_testbed_and_samples() -> None:
    names = ("pretrained", "pretrained_heads", "pretrained_second_task")
    main, heads, second = (load_scale(REPOSITORY / "config" / f"{name}.yaml") for name in names)
    assert heads.tasks == main.tasks and heads.bases == main.bases
    assert heads.geometry.changed(landscape=main.geometry.landscape) == main.geometry
    assert heads.scalerl.changed(evaluation=main.scalerl.evaluation) == main.scalerl
    rlvr, baseline = (resolve_run(scale, run) for scale, run in ((main, "rlvr-s10"), (heads, "baseline-s40")))
    assert rlvr.rl == baseline.rl.changed(steps=24) and rlvr.recipe is not None and baseline.recipe is not None
    assert 24 * rlvr.recipe.prompts_per_batch == baseline.rl.steps * baseline.recipe.prompts_per_batch
    assert second.first_seed + max(second.seeds.values()) <= heads.first_seed


def test_the_second_task_of_the_pretrained_scale_is_that_of_its_pilots() -> None:
    names = ("pretrained", "pretrained_controls", "pretrained_second_task", "pretrained_further_pilots")
    main, controls, second, tried = (load_scale(REPOSITORY / "config" / f"{name}.yaml") for name in names)
    pilot, recorded = resolve_run(tried, "words_long_sums_twice-s102"), resolve_run(second, "rlvr-s30")
    for part in ("base", "rl", "optimizer", "adapter", "mask", "storage"):
        assert getattr(pilot, part) == getattr(recorded, part), part
    assert list(pilot.tasks.values()) == [recorded.tasks["math"].changed(source="sums")]
    assert pilot.recipe is not None and recorded.recipe is not None
    assert pilot.recipe.changed(tasks=("math",)) == recorded.recipe
    assert recorded.rl == resolve_run(main, "rlvr-s10").rl.changed(steps=48)
    sft = (resolve_run(scale, run).sft for scale, run in ((second, "sft-s30"), (main, "sft-s10")))
    ours, theirs = sft
    assert ours is not None and theirs is not None and ours == theirs.changed(steps=48)
    assert second.geometry.changed(landscape=main.geometry.landscape) == main.geometry
    assert controls.first_seed + max(controls.seeds.values()) <= second.first_seed


def test_an_arm_that_no_figure_needs_runs_where_its_base_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARMS, "mine", ARMS["scalerl"].changed(base="elsewhere"))
    values = edited_smoke("scale", "smoke")
    assert "mine" not in with_catalogue(parse_config(values, "my.yaml"), "my.yaml").seeds
    values["seeds"]["mine"] = 1
    with pytest.raises(ConfigError, match="my.yaml: bases.elsewhere: missing; the arm mine starts from it"):
        with_catalogue(parse_config(values, "my.yaml"), "my.yaml")
    values["bases"]["elsewhere"] = values["bases"]["dense"]
    del values["seeds"]["mine"]
    assert with_catalogue(parse_config(values, "my.yaml"), "my.yaml").seeds["mine"] == 1


@pytest.mark.parametrize(
    ("tasks", "accepted"), [(("math", "code"), True), (("code", "math"), False), ((), False), (("code", "code"), False)]
)
def test_the_tasks_of_a_recipe_have_columns_of_their_own(tasks: tuple[str, ...], accepted: bool) -> None:
    if accepted:
        assert RECIPES["scalerl"].changed(tasks=tasks).tasks == tasks
    else:
        with pytest.raises(ValueError, match="at least one task, each once, and math first"):
            RECIPES["scalerl"].changed(tasks=tasks)


@pytest.mark.parametrize(
    ("arm", "changes", "message"),
    [
        ("sft", {"mask": "low"}, "mask: for reinforcement learning only"),
        ("sft_rl_rate", {"changes": {"learning_rate": 2.0}}, "at_rl_rate: for sft, which then has no other"),
        ("sft", {"optimizer": "adamw_on_noise"}, "optimizer: sft has adamw, sgd"),
        ("sft", {"recipe": "scalerl", "storage": "bf16"}, "recipe, storage: for reinforcement learning only"),
        ("rlvr", {"recipe": None}, "recipe: missing"),
        ("lora_r4_mid", {"mask": "low"}, "mask, adapter: an arm has one of them"),
        ("rlvr_intervened", {"start": "sft"}, "intervention, start: an arm has one of them"),
        ("rlvr", {"part": (5, 5)}, "no \\(i, n\\) with 0 <= i < n"),
    ],
)
def test_an_arm_that_asks_for_what_its_method_ignores_is_refused(arm: str, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ARMS[arm].changed(**changes)
