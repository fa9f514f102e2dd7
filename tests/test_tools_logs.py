"""Training logs as people have them: formats, columns by name or by choice, and seeds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.tools.curves.logs import read_logs
from tests.log_tables import REWARDS, STEPS, assert_expected, refused, rows_of, table, write, written


def export(path: Path, runs: tuple[str, ...] = ("run a", "run - b")) -> Path:
    """A Weights & Biases export of two metrics; each row has the values of one run only."""
    frame = pd.DataFrame({"Step": np.tile(STEPS, len(runs))})
    for index, run in enumerate(runs):
        for metric, values in (("eval/reward", REWARDS + index), ("train/loss", REWARDS * 2)):
            column = pd.Series(np.nan, index=frame.index)
            column.iloc[index * len(STEPS) : (index + 1) * len(STEPS)] = values
            for suffix in ("", "__MIN", "__MAX"):
                frame[f"{run} - {metric}{suffix}"] = column
    frame.to_csv(path, index=False)
    return path


# Formats


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_csv(tmp_path: Path, delimiter: str) -> None:
    table(text='with "quotes",\nand a line').to_csv(tmp_path / "log.csv", index=False, sep=delimiter)
    assert_expected(read_logs([tmp_path / "log.csv"]))


def test_csv_with_spaces_and_a_byte_order_mark(tmp_path: Path) -> None:
    lines = [f"{step} , {reward}" for step, reward in zip(STEPS, REWARDS, strict=True)]
    assert_expected(read_logs([written(tmp_path / "log.csv", "\ufeff" + "\n".join(["step, reward", *lines]))]))


def test_json_lines_with_nested_objects(tmp_path: Path) -> None:
    lines = [
        json.dumps({"step": int(step), "eval": {"reward": reward}}) for step, reward in zip(STEPS, REWARDS, strict=True)
    ]
    log = read_logs([written(tmp_path / "log.jsonl", "\n".join(['{"config": {"lr": 1e-6}}', *lines]))])
    assert_expected(log)
    assert log.y_column == "eval.reward"


def test_a_list_of_rows(tmp_path: Path) -> None:
    assert_expected(read_logs([written(tmp_path / "log.json", json.dumps(rows_of(table())))]))


def test_parquet(tmp_path: Path) -> None:
    table(note="text").to_parquet(tmp_path / "log.parquet")
    assert_expected(read_logs([tmp_path / "log.parquet"]))


def test_the_suffix_may_be_missing(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "log")
    assert_expected(read_logs([tmp_path / "log"]))


def test_trainer_state_takes_the_evaluations(tmp_path: Path) -> None:
    history: list[dict[str, object]] = []
    for step, reward in zip(STEPS, REWARDS, strict=True):
        history.append({"step": int(step), "loss": 1.0, "reward": 0.9, "num_input_tokens_seen": int(step) * 100})
        history.append({"step": int(step), "eval_reward": reward, "eval_loss": 2.0})
    history.append({"step": 50, "train_runtime": 3.0, "total_flos": 1e15})
    log = read_logs([written(tmp_path / "trainer_state.json", json.dumps({"log_history": history}))])
    assert_expected(log, "trainer_state")
    assert (log.x_column, log.y_column) == ("step", "eval_reward"), "the tokens are in the rows of training only"
    training = read_logs([tmp_path / "trainer_state.json"], y="reward")
    assert training.x_column == "num_input_tokens_seen"


def test_export_of_weights_and_biases(tmp_path: Path) -> None:
    path = export(tmp_path / "export.csv")
    log = read_logs([path])
    assert [run.name for run in log.series] == ["run a", "run - b"]
    assert (log.x_column, log.y_column) == ("Step", "eval/reward")
    assert np.allclose(log.series[1].y, REWARDS + 1)
    assert np.allclose(read_logs([path], y="train/loss").series[0].y, REWARDS * 2)
    assert_expected(read_logs([path], y="run a - eval/reward"), "run a")


def test_export_with_several_metrics_and_none_known(tmp_path: Path) -> None:
    path = export(tmp_path / "export.csv")
    path.write_text(path.read_text().replace("eval/reward", "eval/loss"))
    message = refused(path)
    assert "--x COLUMN --y COLUMN" in message and "eval/loss" in message and "__MIN" not in message


def test_a_table_of_the_pipeline(tmp_path: Path) -> None:
    frame = table(run="cispo-s0", arm="cispo", seed=0, compute=STEPS * 7.5, flops=STEPS * 1e9, pass_rate=REWARDS / 2)
    frame = frame.assign(pass_rate_se=0.01, samples=1024, downstream_pass_rate=0.9, downstream_samples=512)
    frame.to_parquet(tmp_path / "metrics.parquet")
    log = read_logs([tmp_path / "metrics.parquet"])
    assert (log.x_column, log.y_column) == ("compute", "pass_rate")
    (run,) = log.series
    assert np.allclose(run.x, STEPS * 7.5) and np.allclose(run.y, REWARDS / 2)
    assert run.samples is not None and (run.samples == 1024).all()


# Columns


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"train/global_step": STEPS, "train/reward": REWARDS, "reward": REWARDS}, ("train/global_step", "reward")),
        ({"_step": STEPS, "eval/accuracy": REWARDS, "accuracy": REWARDS}, ("_step", "eval/accuracy")),
        ({"Step": STEPS, "num_tokens": STEPS, "eval_math_accuracy": REWARDS}, ("num_tokens", "eval_math_accuracy")),
        (
            {"step": STEPS, "rewards/format/mean": REWARDS, "rewards/format/std": REWARDS},
            ("step", "rewards/format/mean"),
        ),
        ({"step": STEPS, "data.critic/score/mean": REWARDS, "tokens": np.nan}, ("step", "data.critic/score/mean")),
    ],
)
def test_known_names(tmp_path: Path, columns: dict[str, object], expected: tuple[str, str]) -> None:
    pd.DataFrame(columns).to_csv(tmp_path / "log.csv", index=False)
    log = read_logs([tmp_path / "log.csv"])
    assert (log.x_column, log.y_column) == expected
    assert all(repr(column) in log.notes[0] for column in expected)


def test_named_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"hours": STEPS, "solved": REWARDS, "step": 1, "reward": 0})
    frame.to_csv(tmp_path / "log.csv", index=False)
    assert_expected(read_logs([tmp_path / "log.csv"], x="hours", y="solved"))


@pytest.mark.parametrize(
    "columns",
    [
        {"step": STEPS, "loss": REWARDS},
        {"hours": STEPS, "reward": REWARDS},
        {"step": STEPS, "rewards/format": REWARDS, "rewards/correct": REWARDS},
    ],
)
def test_no_single_candidate_lists_the_columns(tmp_path: Path, columns: dict[str, object]) -> None:
    pd.DataFrame(columns).to_csv(tmp_path / "log.csv", index=False)
    message = refused(tmp_path / "log.csv")
    assert "--x COLUMN --y COLUMN" in message and all(column in message for column in columns)


@pytest.mark.parametrize(
    ("option", "flag"), [("x", "--x"), ("y", "--y"), ("samples", "--samples"), ("seeds", "--seeds")]
)
def test_a_column_that_is_not_there(tmp_path: Path, option: str, flag: str) -> None:
    table().to_csv(tmp_path / "log.csv", index=False)
    message = refused(tmp_path / "log.csv", **{option: "absent"})
    assert "log.csv" in message and "'absent'" in message and flag in message and "step, reward" in message


def test_a_column_twice(tmp_path: Path) -> None:
    message = refused(written(tmp_path / "log.csv", "step,reward,reward\n1,2,3\n"))
    assert "'reward'" in message and "rename" in message


# Seeds


def test_a_file_per_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        table().to_csv(tmp_path / f"{name}.csv", index=False)
    assert [run.name for run in read_logs([tmp_path / "a.csv", tmp_path / "b.csv"]).series] == ["a", "b"]


def test_equal_stems_are_named_by_their_directories(tmp_path: Path) -> None:
    paths = [tmp_path / name / "out" / "log.csv" for name in ("first", "second")]
    for path in paths:
        path.parent.mkdir(parents=True)
        table().to_csv(path, index=False)
    assert [run.name for run in read_logs(paths).series] == ["first/out", "second/out"]


def test_files_are_named_by_their_seed(tmp_path: Path) -> None:
    for seed in (3, 4):
        table(seed=seed).to_csv(tmp_path / f"run{seed}.csv", index=False)
    assert [run.name for run in read_logs([tmp_path / "run3.csv", tmp_path / "run4.csv"]).series] == [
        "seed 3",
        "seed 4",
    ]
    assert_expected(read_logs([tmp_path / "run3.csv"]), "run3")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("column", ["seed", "variant"])
def test_seeds_in_a_column(tmp_path: Path, suffix: str, column: str) -> None:
    frame = pd.concat([table(**{column: 0}), table(**{column: 1}).assign(reward=REWARDS + 1)])
    frame = frame.sort_values("step", kind="stable")
    path = tmp_path / f"log.{suffix}"
    write(frame, path)
    log = read_logs([path], seeds=None if column == "seed" else column)
    assert [run.name for run in log.series] == [f"{column} 0", f"{column} 1"]
    assert np.allclose(log.series[1].y, REWARDS + 1)
    assert not log.notes[1:]


def test_several_runs_without_a_column_are_refused(tmp_path: Path) -> None:
    pd.concat([table(variant="a"), table(variant="b")]).to_csv(tmp_path / "log.csv", index=False)
    assert "--seeds COLUMN" in refused(tmp_path / "log.csv")


def test_seeds_with_the_same_names_in_two_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pd.concat([table(seed=0), table(seed=1)]).to_csv(tmp_path / f"{name}.csv", index=False)
    names = [run.name for run in read_logs([tmp_path / "a.csv", tmp_path / "b.csv"]).series]
    assert names == ["a/seed 0", "a/seed 1", "b/seed 0", "b/seed 1"]


def test_a_file_given_twice(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "log.csv", index=False)
    assert "given twice" in refused(tmp_path / "log.csv", tmp_path / "." / "log.csv")


# Samples


def test_samples(tmp_path: Path) -> None:
    table(n=STEPS + 5, samples=64).to_csv(tmp_path / "log.csv", index=False)
    for given, expected in ((None, 64), ("n", STEPS + 5), (128, 128), ("128", 128)):
        (run,) = read_logs([tmp_path / "log.csv"], samples=given).series  # type: ignore[arg-type]
        assert run.samples is not None and np.array_equal(run.samples, np.broadcast_to(expected, 5))


def test_samples_that_are_a_running_total(tmp_path: Path) -> None:
    table(samples=STEPS * 64 + 64).to_csv(tmp_path / "log.csv", index=False)
    log = read_logs([tmp_path / "log.csv"])
    assert log.series[0].samples is None and "running total" in log.notes[-1]


def test_samples_below_one(tmp_path: Path) -> None:
    table(n=0).to_csv(tmp_path / "log.csv", index=False)
    assert "'n'" in refused(tmp_path / "log.csv", samples="n")
    assert "--samples N" in refused(tmp_path / "log.csv", samples=0)
