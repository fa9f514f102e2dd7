"""A task's name is the scale's to choose: which module makes it, what is refused, and what stays as it was."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from rlscape.catalogue import resolve_run, with_catalogue
from rlscape.errors import ConfigError
from rlscape.settings.reading import parse_config
from rlscape.settings.run import RunSettings
from rlscape.settings.scale import Config
from rlscape.tasks.base import TracedSettings
from rlscape.tasks.gym import GymSettings
from rlscape.tasks.math import MathSettings
from rlscape.tasks.registry import TASKS, Tasks
from rlscape.tasks.sets import make_task_sets, source_of, task_of
from rlscape.tasks.sums import SumsSettings
from rlscape.training.pretrain import pretrain
from tests.pipeline_copy import Copy
from tests.test_config import edited_smoke
from tests.test_pretrain import BASE

SIZES = {"pool_size": 24, "validation_size": 8, "downstream_size": 4}
LENGTHS = {"operations": [1, 2], "downstream_operations": [3, 3]}
SUMS = LENGTHS | SIZES | {"source": "sums", "digits": [1, 2], "operators": ["+", "-"], "steps": True}
LETTERS = SIZES | {
    "source": "gym",
    "dataset": "letter_counting",
    "options": {"min_words": 2, "max_words": 3},
    "downstream_options": {},
}


def parse(**tasks: Any) -> Config:
    """A figure of the smoke scale, with other tables and a checkpoint as every base."""
    values = edited_smoke("targets", ["scalerl_fig11"])
    values["tasks"] |= tasks
    values["bases"] = dict.fromkeys(values["bases"], {"checkpoint": "my-model"})
    return with_catalogue(parse_config(values, "my.yaml"), "my.yaml")


def test_arms_run_on_what_the_scale_calls_by_their_tasks_names() -> None:
    settings = resolve_run(parse(math=SUMS, code=LETTERS), "math_and_code-s0")
    math, code = settings.tasks.values()
    assert isinstance(math, SumsSettings) and isinstance(code, GymSettings)
    assert RunSettings.model_validate_json(settings.model_dump_json()) == settings
    sets = make_task_sets(settings.tasks)
    assert list(sets) == ["math", "code"] and all(len(made.training) == 24 for made in sets.values())
    assert task_of("math", math) is TASKS["sums"] and TASKS["sums"].in_words and not TASKS["math"].in_words


def test_a_name_of_ones_own() -> None:
    chains = edited_smoke("scale", "")["tasks"]["math"] | {"source": "math"}
    config = parse(math=SUMS, code=LETTERS, letters=LETTERS, chains=chains)
    assert isinstance(config.tasks["letters"], GymSettings) and isinstance(config.tasks["chains"], MathSettings)
    assert source_of("chains", config.tasks["chains"]) == "math"


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (
            {"letters": SIZES},
            "my.yaml: tasks.letters: no such task; there are math, code, calculator, search, planning",
        ),
        ({"letters": SIZES}, "gym; a name of your own needs one of them as its source (got 'letters')"),
        ({"math": SUMS | {"source": "sum"}}, "my.yaml: tasks.math.source: no such task; there are math, code,"),
        ({"math": SUMS | {"source": ["sums"]}}, "my.yaml: tasks.math.source: no such task; there are math, code,"),
        ({"math": SUMS | {"digit": 3}}, "my.yaml: tasks.math.digit: unknown key; did you mean 'digits'?"),
        ({"math": SUMS | {"zzz": 3}}, "tasks.math.zzz: unknown key; allowed here: operations, downstream_operations, "),
        ({"math": SUMS | {"tail_operations": [4, 4]}}, "my.yaml: tasks.math.tail_operations: unknown key"),
        ({"math": {"source": "sums"}}, "my.yaml: tasks.math.digits: missing; add it"),
        ({"code": LETTERS | {"dataset": "letters"}}, "my.yaml: tasks.code.dataset: Value error, reasoning-gym has no"),
        (
            {"code": LETTERS | {"options": {"words": 2}}},
            "my.yaml: tasks.code.options: Value error, letter_counting has",
        ),
        ({"my-letters": LETTERS}, "my.yaml: tasks.my-letters: String should match pattern"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tasks: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(**tasks)
    assert message in str(error.value)


def test_no_base_is_pretrained_on_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(edited_smoke("tasks.math", SUMS), "my.yaml")
    assert (
        "pretraining.mix.math: tasks.math is in words, which only a checkpoint's tokenizer can write; "
        "pretraining takes tasks whose source is math, code, calculator, search, planning" in str(error.value)
    )
    with pytest.raises(ConfigError, match=r"base: pretraining\.mix: math: in words"):
        pretrain(BASE, {"math": SumsSettings.model_validate(SUMS)}, tmp_path)


def test_an_arm_and_its_base_have_tasks_of_one_kind() -> None:
    with pytest.raises(ConfigError) as error:
        parse(math=SUMS)
    assert "my.yaml: tasks.code: is in the tiny models' own vocabulary, but the arm math_and_code" in str(error.value)
    values = edited_smoke("tasks.code", LETTERS)
    values["bases"]["joint"]["pretraining"]["mix"] = {"math": 1}
    with pytest.raises(
        ConfigError, match=r"tasks\.code: is in words, which need a checkpoint, but the arm math_and_code"
    ):
        with_catalogue(parse_config(values, "my.yaml"), "my.yaml")
    values = edited_smoke("bases.deep", {"checkpoint": "my-model"})
    values["tasks"]["math"] = SUMS
    values |= {"targets": ["off_principals_fig18"], "bases": dict.fromkeys(values["bases"], {"checkpoint": "my-model"})}
    with pytest.raises(ConfigError, match=r"seeds\.dpo: dpo trains models from scratch, but deep is a checkpoint"):
        with_catalogue(parse_config(values, "my.yaml"), "my.yaml")


def test_too_few_problems_name_the_task() -> None:
    with pytest.raises(ConfigError, match=r"^tasks\.math: too few problems of 1 operations"):
        make_task_sets({"math": SumsSettings.model_validate(SUMS | {"digits": [1, 1], "pool_size": 400})})


def test_tables_are_written_as_ever() -> None:
    """A run's settings are a parameter of its rule: another order of the same keys would train it again."""
    sizes = '"pool_size":24,"validation_size":8,"downstream_size":4,"seed":0'
    curriculum = '"operations":[1,2],"downstream_operations":[3,3],"pretraining_operations":null,"tail_operations":null'
    math = MathSettings.model_validate(LENGTHS | SIZES)
    assert math.model_dump_json() == f'{{{curriculum},{sizes},"modulus":10}}'
    assert TracedSettings.model_validate(LENGTHS | SIZES).model_dump_json() == f"{{{curriculum},{sizes}}}"
    named, renamed = (
        TypeAdapter(Tasks).dump_json(TypeAdapter(Tasks).validate_python({name: LENGTHS | SIZES | {"source": "math"}}))
        for name in ("math", "chains")
    )
    assert named.decode() == f'{{"math":{math.model_dump_json()}}}'
    assert b'"source":"math"' in renamed


def test_jobs_depend_on_the_module_that_makes_their_problems(tmp_path: Path, repository: Path) -> None:
    copy = Copy.of(repository, tmp_path)
    smoke = copy.root / "config" / "smoke.yaml"
    smoke.write_text(
        smoke.read_text()
        .replace("tasks:\n  math:\n", "tasks:\n  math: &chains\n", 1)
        .replace("\nbases:\n", "\n  chains:\n    <<: *chains\n    source: math\n\nbases:\n", 1)
        .replace("mix: {math: 1}", "mix: {chains: 1}", 1)
    )
    assert copy.would_run("results/smoke/bases/dense/base.json") == {"pretrain_base": 1}
