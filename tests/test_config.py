"""Settings files and the catalogue: what is valid parses, what is not gives one clear error."""

from pathlib import Path

import pytest
import yaml

from rlscape.catalogue import FIGURES, figures_of, load_scale, measured_arms, resolve_run, runs_of, with_catalogue
from rlscape.catalogue.grids import FOOTPRINT
from rlscape.errors import ConfigError
from rlscape.settings.reading import load_config, parse_config
from rlscape.settings.run import RunSettings
from rlscape.settings.scale import Config

REPOSITORY = Path(__file__).parents[1]
SCALES = sorted(set(REPOSITORY.glob("config/*.yaml")) - {REPOSITORY / "config" / "claims.yaml"})
NOT_OURS = {".git", ".venv", ".uv", ".snakemake", "results"}
YAML_FILES = sorted(
    file
    for pattern in ("*.yaml", "*.yml", "*.cff")
    for file in REPOSITORY.rglob(pattern)
    if not NOT_OURS & set(file.relative_to(REPOSITORY).parts)
)


def relative(file: Path) -> str:
    return str(file.relative_to(REPOSITORY))


def edited_smoke(path: str, value: object) -> dict:
    """The smoke scale with one dotted key set."""
    values = yaml.safe_load((REPOSITORY / "config" / "smoke.yaml").read_text())
    *parents, last = path.split(".")
    here = values
    for parent in parents:
        here = here[parent]
    here[last] = value
    return values


@pytest.mark.parametrize("file", YAML_FILES, ids=relative)
def test_every_yaml_file_parses(file: Path) -> None:
    assert yaml.safe_load(file.read_text())


@pytest.mark.parametrize("file", SCALES, ids=relative)
def test_llama_and_mistral_differ_in_more_than_the_name(file: Path) -> None:
    """Mistral without a sliding window is Llama: bases of one shape and seed would be one model."""
    bases = load_config(file).bases
    if "llama" in bases:
        llama, mistral = bases["llama"], bases["mistral"]
        assert llama.model.intermediate_size != mistral.model.intermediate_size
        assert llama.pretraining.seed != mistral.pretraining.seed


@pytest.mark.parametrize("file", SCALES, ids=relative)
def test_every_scale_is_complete_and_fits_the_catalogue(file: Path) -> None:
    config = load_scale(file)
    assert file.stem in (config.scale, "config") and (file.stem != "config" or config.scale == "default")
    for run in runs_of(config, config.seeds):
        settings = resolve_run(config, run)
        assert settings.run == run
        assert RunSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("tasks.math.pol_size", "did you mean 'pool_size'?"),
        ("tasks.planning.modulus", "allowed here: operations, downstream_operations"),
        ("bases.dense.model.hiden_size", "did you mean 'hidden_size'?"),
        ("off_principals.sft.step", "did you mean 'steps'?"),
        ("scalerl.rl.zzz", "allowed here: steps, learning_rate"),
        ("figuers", "did you mean 'figures'?"),
    ],
)
def test_unknown_key_names_file_and_key(key: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(edited_smoke(key, 1), "my.yaml")
    assert str(error.value).startswith(f"my.yaml: {key}: unknown key; {suggestion}")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("scalerl.base", "dens", "no base 'dens' under bases"),
        ("bases.dense.model.heads", 3, "heads (3) must be a multiple of kv_heads (2)"),
        ("seeds.sft", -1, "sft: needs a number of seeds, got -1"),
        ("tasks.math.modulus", 12, "tasks.math.modulus: Input should be less than or equal to 10 (got 12)"),
        ("tasks.search", {}, "my.yaml: tasks.search.operations: missing; add it"),
        ("bases.dense.pretraining.mix", {}, "my.yaml: bases.dense.pretraining.mix: Value error, needs at least one"),
        ("scalerl.rl", {}, "my.yaml: scalerl.rl.steps: missing; add it"),
    ],
)
def test_invalid_value_says_what_is_wrong(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(edited_smoke(key, value), "my.yaml")
    assert message in str(error.value)


def test_a_task_that_does_not_exist_is_named() -> None:
    search = edited_smoke("scale", "smoke")["tasks"]["search"]
    with pytest.raises(ConfigError, match=r"my\.yaml: tasks\.chess: no such task; .* planning, .* \(got 'chess'"):
        parse_config(edited_smoke("tasks.chess", search), "my.yaml")
    with pytest.raises(ConfigError, match=r"mix\.chess: tasks\.chess is missing; add it, or take one of math, code, "):
        parse_config(edited_smoke("bases.joint.pretraining.mix", {"chess": 1}), "my.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- 1\n- 2\n", "expected a mapping of settings, got list"),
        (None, "no such file"),
    ],
)
def test_unreadable_file_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert str(error.value).startswith(f"{file}: {message}")


def test_settings_are_frozen() -> None:
    config = load_config(SCALES[0])
    with pytest.raises(ValueError, match="frozen"):
        config.scale = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seeds.scalrl", 1, "my.yaml: seeds.scalrl: no such arm"),
        ("seeds.sft", 0, "my.yaml: seeds.sft: needs as many seeds as sft_then_rl, which starts from its runs"),
        ("targets", ["scalerl_fig55"], "my.yaml: targets: no figure 'scalerl_fig55'; there are scalerl_fig1, "),
        ("off_principals.sft", None, "my.yaml: off_principals.sft: missing; the arm sft needs it"),
    ],
)
def test_scale_that_does_not_fit_the_catalogue(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        with_catalogue(parse_config(edited_smoke(key, value), "my.yaml"), "my.yaml")
    assert str(error.value).startswith(message)


def test_a_base_that_an_arm_starts_from_must_be_in_the_scale() -> None:
    values = edited_smoke("scale", "smoke")
    del values["bases"]["moe"]
    with pytest.raises(ConfigError, match=r"my\.yaml: bases\.moe: missing; the arm moe starts from it"):
        with_catalogue(parse_config(values, "my.yaml"), "my.yaml")


def test_a_task_of_a_mix_must_have_settings() -> None:
    values = edited_smoke("scale", "smoke")
    del values["tasks"]["code"]
    with pytest.raises(ConfigError, match=r"bases\.joint\.pretraining\.mix\.code: tasks\.code is missing; add it"):
        parse_config(values, "my.yaml")


def test_a_task_that_an_arm_trains_on_must_have_settings() -> None:
    values = edited_smoke("bases.agents.pretraining.mix", {"calculator": 1})
    del values["tasks"]["search"]
    config = parse_config(values, "my.yaml")
    with pytest.raises(ConfigError, match=r"my\.yaml: tasks\.search: missing; the arm agent_search trains on it"):
        with_catalogue(config, "my.yaml")
    without = with_catalogue(config.changed(targets=("scalerl_fig5",)), "my.yaml")
    assert "agent_search" not in without.seeds


def scale_of(seeds: dict[str, int], targets: list[str] | None = None) -> Config:
    """The smoke scale with other seeds and targets, spelled out."""
    values = edited_smoke("seeds", seeds) | ({} if targets is None else {"targets": targets})
    return with_catalogue(parse_config(values, "my.yaml"), "my.yaml")


def test_a_scale_with_targets_runs_only_what_these_show() -> None:
    figure_5 = dict.fromkeys(("baseline", "gspo", "cispo", "fp32_head"), 1)
    config = scale_of({"others": 1}, ["scalerl_fig5"])
    assert config.seeds == figure_5
    assert [figure.target for figure in figures_of(config)] == ["scalerl_fig5"]
    assert scale_of({"others": 1, "moe": 3, "gspo": 2}, ["scalerl_fig5"]).seeds == figure_5 | {"gspo": 2}
    assert scale_of(figure_5, ["scalerl_fig5"]).seeds == figure_5


def test_targets_bring_the_arms_that_their_measurements_compare_and_those_optional_arms_that_have_seeds() -> None:
    footprint = scale_of({"others": 2}, ["off_principals_fig2"])
    assert set(footprint.seeds) == {"rlvr", "sft", *FOOTPRINT}
    gauge = {"rlvr": 1, "rlvr_intervened": 1}
    without, with_extra = (
        scale_of({"others": 1, "extras": extras}, ["off_principals_control_gauge"]).seeds for extras in (0, 1)
    )
    assert gauge.items() <= without.items() and "rlvr_intervened_sgd" not in without
    assert with_extra == without | {"rlvr_permuted": 1, "rlvr_intervened_sgd": 1}
    with_extra_arms = ("rlvr_permuted", "rlvr_sgd", "rlvr_intervened_sgd")
    # The changed base under SGD is compared with the base under SGD: neither is measured without the other.
    assert measured_arms(scale_of(without), "pairs_intervened") == ("rlvr", "rlvr_intervened")
    assert measured_arms(scale_of(with_extra), "pairs_intervened") == (*("rlvr", "rlvr_intervened"), *with_extra_arms)


def test_a_target_whose_arm_has_no_seeds_is_named() -> None:
    seeds = {"baseline": 1, "gspo": 1, "cispo": 1}
    with pytest.raises(ConfigError, match=r"my\.yaml: seeds\.fp32_head: needs at least one seed; add it, or seeds"):
        scale_of(seeds, ["scalerl_fig5"])
    with pytest.raises(ConfigError, match=r"my\.yaml: seeds\.fp32_head: needs at least one seed"):
        scale_of({"others": 1, "fp32_head": 0}, ["scalerl_fig5"])


def test_a_scale_that_names_its_arms_makes_the_figures_whose_arms_all_run() -> None:
    seeds = {"baseline": 1, "gspo": 2, "cispo": 1, "fp32_head": 1, "scalerl": 1, "sft": 1, "sft_then_rl": 1}
    assert scale_of(seeds).seeds == seeds
    made = {figure.target for figure in figures_of(scale_of(seeds))}
    alone = (figure for figure in FIGURES if set(figure.measurements) <= {"spectra"})
    assert made == {figure.target for figure in alone if set(figure.arms) <= set(seeds)}
    assert {"scalerl_fig5", "off_principals_fig4"} < made and "scalerl_fig6" not in made
    # What a measurement compares counts too.
    footprint = dict.fromkeys(FOOTPRINT, 1)
    assert "off_principals_fig2" not in {figure.target for figure in figures_of(scale_of(footprint))}
    whole = scale_of(footprint | {"rlvr": 1, "sft": 1})
    assert "off_principals_fig2" in {figure.target for figure in figures_of(whole)}


def test_a_scale_without_targets_makes_every_figure() -> None:
    assert figures_of(load_scale(REPOSITORY / "config" / "smoke.yaml")) == list(FIGURES)


def test_an_arm_without_seeds_is_named() -> None:
    values = edited_smoke("seeds", {"scalerl": 1, "qwen_dapo": 1, "magistral": 1, "minimax": 1})
    values["targets"] = ["scalerl_fig2"]
    with pytest.raises(ConfigError, match=r"seeds\.deepseek_grpo: needs at least one seed; add it, or seeds\.others"):
        with_catalogue(parse_config(values, "my.yaml"), "my.yaml")


@pytest.mark.parametrize("limits", [[5, 2], [0, 3], [3]])
def test_a_range_goes_from_few_to_many(limits: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"my\.yaml: tasks\.math\.operations"):
        parse_config(edited_smoke("tasks.math.operations", limits), "my.yaml")


@pytest.mark.parametrize(
    ("key", "figure"),
    [
        ("off_principals.drift_prompts", "off_principals_fig9"),
        ("scalerl.evaluation.downstream_prompts", "scalerl_fig1"),
    ],
)
def test_what_a_figure_shows_is_measured(key: str, figure: str) -> None:
    config = parse_config(edited_smoke(key, 0), "my.yaml")
    with pytest.raises(ConfigError, match=f"my.yaml: {key}: is 0, but {figure} shows what it measures"):
        with_catalogue(config, "my.yaml")
