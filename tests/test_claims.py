"""The register of claims, and the table that its evaluation yields."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from rlscape.catalogue import ARMS, FIGURES, figure_of, first_run
from rlscape.claims import EVALUATORS, evaluate_register, lacking_at, load_register
from rlscape.claims.register import Register
from rlscape.errors import ConfigError, ResultError
from rlscape.figures.scalerl.binding import LEAST_MISMATCH
from rlscape.paths import results_dir
from rlscape.pipeline.evaluate_claims import evaluate_claims
from rlscape.scaling import arm_comparison
from rlscape.scaling.stability import COLLAPSE_EVALUATIONS
from rlscape.settings.scale import Config
from tests.claim_verdicts import BLOCKED, CLAIMS, OPEN
from tests.entries import run_entry
from tests.synthetic import small_config, write_scalerl_results

pytestmark = pytest.mark.usefixtures("precise_evaluations")


# The register


def test_register_agrees_with_the_code() -> None:
    register = load_register(CLAIMS)
    conventions = register.conventions
    assert conventions.margin_share == arm_comparison.MARGIN_SHARE
    assert conventions.level_share == arm_comparison.LEVEL_SHARE
    assert conventions.seeds_for_neutral == arm_comparison.SEEDS_FOR_NEUTRAL
    assert conventions.collapse_evaluations == COLLAPSE_EVALUATIONS
    mismatches = {claim.thresholds["min_mismatch"] for claim in register.claims if "min_mismatch" in claim.thresholds}
    assert mismatches == {LEAST_MISMATCH}
    assert {claim.evaluator for claim in register.claims} == set(EVALUATORS)
    assert len({claim.id for claim in register.claims}) == len(register.claims)
    carried = {figure for claim in register.claims for figure in claim.figures}
    # The learning rates are a control of several claims; the camera-ready panels show what others are judged by.
    # A claim that names a figure of extra arms could not be tested where a scale leaves them out.
    carried_by_none = {
        *("scalerl_control_learning_rate", "scalerl_camera_ready"),
        *("off_principals_control_shared", "off_principals_control_optimizer"),
    }
    assert carried | carried_by_none == {figure.target for figure in FIGURES if figure.arms}
    assert not {target for target in carried for arm in figure_of(target).arms if ARMS[arm].extra}
    ids = [f"S{number}" for number in range(1, 29)] + [f"O{number}" for number in range(1, 16)]
    assert [claim.id for claim in register.claims] == ids


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("evidence:", "evidense:", r"evidense: unknown key; did you mean 'evidence'\?"),
        ("evaluator: forecast_holds", "evaluator: forecast_held", r"S1\.evaluator: no 'forecast_held'; there are "),
        ("arms: [scalerl, minimax]", "arms: [scalerl, maximin]", r"S5\.arms: no 'maximin'; there are "),
        (
            "figures: [scalerl_fig8]",
            "figures: [scalerl_fig88]",
            r"S28\.figures: no 'scalerl_fig88'; there are ",
        ),
        ("claims:", "claims: [", "not valid YAML"),
    ],
)
def test_bad_register_names_file_and_key(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "claims.yaml"
    text = CLAIMS.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=f"(?s)^{path}: .*{message}"):
        load_register(path)


def test_missing_threshold_names_the_claim(tmp_path: Path) -> None:
    config = small_config(tmp_path, seeds={"scalerl": 2, "long_budget": 2})
    write_scalerl_results(config)
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIMS.read_text().replace("{min_share: 0.8, min_seeds: 5}", "{min_share: 0.8}"))
    with pytest.raises(ConfigError, match=r"S20\.thresholds\.min_seeds: missing"):
        evaluate_register(load_register(path), config)


# The table


@pytest.fixture
def complete(tmp_path: Path) -> tuple[Register, Config]:
    config = small_config(tmp_path, seeds=1)
    write_scalerl_results(config)
    register = load_register(CLAIMS)
    return register.changed(claims=[claim for claim in register.claims if claim.paper == "scalerl"]), config


def test_one_seed_decides_nothing(complete: tuple[Register, Config]) -> None:
    table = evaluate_register(*complete)
    assert list(table["id"]) == [claim.id for claim in complete[0].claims]
    assert set(table["verdict"]) <= {OPEN, BLOCKED}
    assert table.loc[table["verdict"] == OPEN, "reason"].str.contains("one seed").all()


def test_a_claim_needs_its_arms_what_is_measured_and_a_figure(tmp_path: Path) -> None:
    register, config = load_register(CLAIMS), small_config(tmp_path, seeds=1)
    claim = register.claim("O7")

    def lacking(*targets: str) -> list[str]:
        return lacking_at(config.changed(targets=targets), claim, register.conventions)

    measured = ["off_principals_fig1", "off_principals_control_matching"]
    assert lacking(*measured) == []
    assert lacking(measured[0]) == measured[1:]
    assert set(lacking("off_principals_fig5")) == set(claim.figures)
    smaller = config.changed(seeds={arm: 1 for arm in config.seeds if arm != "sft"}, targets=tuple(measured))
    assert lacking_at(smaller, claim, register.conventions) == ["sft"]
    # Divergences and longer problems are measured for some figures, too.
    for name, shown, measured_for in (
        ("O11", "off_principals_table4", "off_principals_fig9"),
        ("S21", "scalerl_table1", "scalerl_fig10"),
    ):
        found = lacking_at(config.changed(targets=(shown,)), register.claim(name), register.conventions)
        assert measured_for in found


def test_missing_result_is_one_clear_error(complete: tuple[Register, Config]) -> None:
    register, config = complete
    missing = results_dir(config) / "fits" / f"{first_run(config, 'minimax')}.json"
    missing.unlink()
    with pytest.raises(ResultError, match=f"^{missing}: no such result"):
        evaluate_register(register, config)


def test_command_line_keeps_the_earlier_table_on_error(
    complete: tuple[Register, Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    register, config = complete
    claims, output = tmp_path / "claims.yaml", tmp_path / "claims.csv"
    claims.write_text(yaml.safe_dump(register.model_dump(mode="json")))
    options = {"claims": claims, "settings": config.model_dump_json(), "output": output}
    run_entry(evaluate_claims, monkeypatch, **options)
    before = output.read_bytes()
    assert len(pd.read_csv(output)) == 28
    (results_dir(config) / "runs" / first_run(config, "scalerl") / "metrics.parquet").unlink()
    with pytest.raises(SystemExit) as raised:
        run_entry(evaluate_claims, monkeypatch, **options)
    assert raised.value.code == 1
    assert f"{first_run(config, 'scalerl')}/metrics.parquet: no such result" in capsys.readouterr().err
    assert output.read_bytes() == before
