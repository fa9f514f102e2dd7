"""The tables and controls of P1 show the fits of the runs, in the order and with the gaps that they promise."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.catalogue import ARMS, FIGURES
from rlscape.catalogue.grids import LEARNING_RATE_CORE, LEARNING_RATE_EXTRA
from rlscape.figures.registry import find_target
from rlscape.figures.scalerl import control_head_precision, table_fig7
from rlscape.figures.scalerl.paper_values import FIG7, FIG11, R_0, TABLE_1, TRUNCATION
from rlscape.results import curves
from rlscape.scaling.sigmoid import compute_to_reach
from rlscape.scaling.stability import collapsed
from rlscape.scaling.uncertainty import t_interval
from rlscape.settings.scale import Config
from tests.synthetic import Run, small_config, write_scalerl_results

RUNS = {
    "scalerl": Run(A=0.70, B=2.0, C_mid=10.0),
    "loo_ppo8": Run(A=0.70, B=2.0, C_mid=20.0),
    "loo_dapo": Run(A=0.55, B=2.0, C_mid=10.0),
    "loo_uniform": Run(A=0.70, B=1.2, C_mid=10.0),
    "large_batch": Run(A=0.75, window_spread=0.01, power_law_spread=0.3),
    "math_and_code": Run(A=0.68, code_A=0.58),
    "deepseek_grpo": Run(collapse_at=50.0, truncates_at=75.0),
    "small_batch": Run(truncation=0.09),
    "scalerl_half_lr": Run(A=0.60),
    "head_m1": Run(A=0.50, mismatch=0.2),
}
SEEDS = {"others": 1, "scalerl": 3, "loo_uniform": 3, "large_batch": 3}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = small_config(tmp_path_factory.mktemp("tree"), SEEDS)
    write_scalerl_results(config, RUNS)
    return config


def assembled(config: Config, target: str) -> pd.DataFrame:
    return find_target(target).assemble(config)


def arms_of_target(target: str) -> set[str]:
    return set(next(figure.arms for figure in FIGURES if figure.target == target))


def test_published_tables_cover_the_arms_of_their_figures() -> None:
    assert {arm for arm, _ in TABLE_1} == arms_of_target("scalerl_table1")
    assert {arm for arm, _ in FIG11} == arms_of_target("scalerl_fig11")
    assert set(FIG7) == arms_of_target("scalerl_fig7") == set(table_fig7.REVERTS_TO)
    assert set(TRUNCATION) <= arms_of_target("scalerl_table_truncation")


@pytest.mark.parametrize("arm", FIG7)
def test_published_compute_to_the_common_level_follows_from_the_published_fit(arm: str) -> None:
    free = FIG7[arm].free
    assert compute_to_reach(0.55, free.A, free.B, free.C_mid, R_0) == pytest.approx(FIG7[arm].C_55, abs=60)


def test_table_1_holds_the_fits_with_intervals_where_there_are_seeds(config: Config) -> None:
    frame = assembled(config, "scalerl_table1").set_index(["arm", "task"])
    interval = t_interval(run.fit.A for run in curves.fits(config, ["large_batch"]))
    batch = frame.loc[("large_batch", "math")]
    assert tuple(batch[["A", "A_low", "A_high", "seeds"]]) == pytest.approx(
        (interval.estimate, interval.low, interval.high, 3)
    )
    assert batch["paper_C_mid"] == 10909
    assert frame.loc[("math_and_code", "code"), "A"] == pytest.approx(0.58, abs=0.005)
    assert frame.loc[("math_and_code", "math"), "A"] == pytest.approx(0.68, abs=0.005)
    assert np.isnan(frame.loc[("math_and_code", "code"), "A_low"])


def test_figure_7_table_relates_compute_to_scalerl_and_marks_what_is_not_reached(config: Config) -> None:
    target = find_target("scalerl_table_fig7")
    frame = target.assemble(config)
    rows = frame.set_index("arm")
    assert rows.loc["scalerl", "ratio"] == 1
    assert rows.loc["loo_ppo8", "ratio"] == pytest.approx(2, abs=0.05)  # the same curve at twice the compute
    assert not rows.loc["loo_ppo8", "censored"]
    assert np.isnan(rows.loc["loo_ppo8", "ratio_low"])  # one seed
    assert rows.loc["loo_dapo", "censored"]  # its ceiling lies below the level
    cells = [text.get_text() for text in target.draw(frame).axes[0].texts]
    assert sum(cell.startswith("≥") for cell in cells) == frame["censored"].sum() == 1


def test_figure_7_table_says_whether_the_order_of_steepness_survives(config: Config) -> None:
    frame = assembled(config, "scalerl_table_fig7")
    ceilings = frame.iloc[0][["A_of_B_lower", "A_of_B_mean", "A_of_B_higher"]].astype(float)
    assert np.diff(ceilings) == pytest.approx([0.02, 0.02])
    assert frame["A_of_B_mean"].iloc[0] == pytest.approx(frame["A"].mean())
    ranks = frame[["B_mean", "B_lower"]].rank().corr().iloc[0, 1]
    assert frame["order_B_lower"].iloc[0] == pytest.approx(ranks)
    assert frame["order_paper_B"].iloc[0] < 0.6  # the paper's free B orders its arms otherwise than its B at 0.605


def test_figure_7_leaves_out_points_without_a_transform(config: Config) -> None:
    target = find_target("scalerl_fig7")
    frame = target.assemble(config)
    points = frame[frame["kind"] == "point"]
    slopes = frame[frame["kind"] == "B"].set_index("arm")
    metrics = curves.metrics(config, FIG7)
    rates = metrics.loc[metrics["compute"] > 0, "pass_rate"]
    undefined = ((rates >= slopes["A"].iloc[0]) | (rates <= R_0)).sum()
    assert 0 < undefined == points["value"].isna().sum()
    assert f"{undefined} of {len(points)} points undefined" in target.draw(frame).texts[-1].get_text()
    assert slopes.loc["loo_uniform", "value"] < slopes.loc["scalerl", "value"]
    place = slopes["value"].rank(ascending=False)["scalerl"]
    assert f"number {place:.0f} of 9 by slope (paper: number 1 of 9)" in target.draw(frame).texts[-1].get_text()


def test_figure_7_says_so_where_nothing_could_be_fitted(tmp_path: Path) -> None:
    config = small_config(tmp_path, dict.fromkeys(FIG7, 1))
    write_scalerl_results(config, dict.fromkeys(FIG7, Run(fails=True, granted=False)))
    figure = find_target("scalerl_fig7").draw(assembled(config, "scalerl_fig7"))
    assert "no fit at the shared ceiling" in [text.get_text() for text in figure.axes[0].texts]


def test_robustness_compares_forms_by_window_and_on_the_held_out_half(config: Config) -> None:
    frame = assembled(config, "scalerl_table_robustness")
    windows = frame[frame["kind"] == "window"]
    ranges = windows.groupby("form")["A"].agg(lambda ceilings: ceilings.max() - ceilings.min())
    assert ranges["sigmoid"] == pytest.approx(0.01)
    assert ranges["power_law"] == pytest.approx(0.3)
    whole = windows[(windows["form"] == "sigmoid") & (windows["high"] == 1)].iloc[0]
    assert (whole["shift_low"], whole["shift_high"]) == (0, 0)
    published = windows.set_index(["form", "paper_window"])["paper_A"]
    assert published["power_law", "1.5–50k"] == 1.0
    assert published["sigmoid", "0–100k"] == 0.655
    held_out = frame[frame["kind"] == "held_out"].set_index(["arm", "form"])
    scores = curves.forecast_scores(config, ["large_batch"])
    errors = [score["mae"]["least_squares"] for score in scores.values()]
    assert held_out.loc[("large_batch", "least_squares"), "mae"] == pytest.approx(np.mean(errors))


def test_truncation_shows_collapsed_arms_first(config: Config) -> None:
    frame = assembled(config, "scalerl_table_truncation")
    assert frame["collapsed"].is_monotonic_decreasing
    assert frame.loc[frame["collapsed"] == 0, "max_truncation"].is_monotonic_decreasing
    assert set(frame["arm"]) == arms_of_target("scalerl_table_truncation")
    rows = frame.set_index("arm")
    assert tuple(rows.loc[["deepseek_grpo", "small_batch"], "max_truncation"]) == (0.2, 0.09)
    grpo = rows.loc["deepseek_grpo"]
    assert grpo["collapsed"] == grpo["seeds"] == 1
    assert grpo["steps_below_5_percent"] == pytest.approx(0.75, abs=0.03)


def test_collapse_is_a_lasting_fall_from_the_running_best() -> None:
    assert collapsed([0.4, 0.7, 0.5, 0.5, 0.5], margin=0.1)
    assert not collapsed([0.4, 0.7, 0.5, 0.5, 0.7], margin=0.1)
    assert not collapsed([0.4, 0.7, 0.65, 0.65, 0.65], margin=0.1)
    assert not collapsed([0.7, 0.5, 0.5, 0.5], margin=0.0)


def test_learning_rates_of_other_families_are_shown_where_they_run(config: Config, tmp_path: Path) -> None:
    frame = assembled(config, "scalerl_control_learning_rate")
    assert list(frame["arm"].unique()) == list(LEARNING_RATE_CORE)
    scalerl = frame[frame["arm"] == "scalerl"].set_index("factor")
    assert list(scalerl.index) == [0.5, 1, 2]
    assert scalerl.loc[0.5, "A"] == pytest.approx(0.60, abs=0.005)
    assert scalerl.loc[1, "A"] == pytest.approx(0.70, abs=0.005)
    assert scalerl["A_low"].notna().tolist() == [False, True, False]
    everything = small_config(tmp_path, seeds=1)
    write_scalerl_results(everything)
    shown = assembled(everything, "scalerl_control_learning_rate")["arm"].unique()
    assert list(shown) == [*LEARNING_RATE_CORE, *LEARNING_RATE_EXTRA]


def test_head_precision_is_shown_of_one_loss_where_the_scale_has_no_other(tmp_path: Path) -> None:
    arms = ("baseline", "fp32_trainer", "fp32_generator", "fp32_head", "head_m2", "head_m1")
    config = small_config(tmp_path, dict.fromkeys(arms, 2))
    write_scalerl_results(config)
    frame = assembled(config, "scalerl_control_head_precision")
    assert tuple(frame["arm"]) == arms
    shown = {ax.get_title("left")[0]: ax for ax in control_head_precision.draw(frame).axes}
    assert [text.get_text() for text in shown["a"].get_legend().get_texts()] == ["DAPO"]
    assert [text.get_text() for text in shown["d"].texts] == ["7", "2", "1"]


def test_head_precision_crosses_sides_with_loss_and_orders_doses(config: Config) -> None:
    frame = assembled(config, "scalerl_control_head_precision").set_index("arm")
    assert len(frame.dropna(subset="sides")) == 8
    assert frame.loc[["baseline", "head_m5", "head_m3", "head_m2", "head_m1"], "bits"].tolist() == [7, 5, 3, 2, 1]
    assert frame.loc["head_m1", "mismatch"] == pytest.approx(0.2)
    assert frame.loc["head_m1", "A"] == pytest.approx(0.50, abs=0.005)
    for arm in frame.index:  # what the catalogue says of the arm
        changes = ARMS[arm].changes
        sides = {name for name in ("trainer", "generator") if changes.get(f"{name}_head") == "fp32"}
        expected = "both" if len(sides) == 2 else next(iter(sides), "neither")
        assert pd.isna(frame.loc[arm, "sides"]) or frame.loc[arm, "sides"] == expected
