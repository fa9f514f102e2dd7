"""Training logs as people have them: formats, columns by name or by choice, seeds, and what is wrong with files."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.errors import MetricsError
from rlscape.tools.curves.logs import Log, read_logs

STEPS = np.arange(0, 50, 10)
REWARDS = np.array([0.1, 0.2, 0.4, 0.5, 0.55])


def written(path: Path, text: str) -> Path:
    """A file with this text; its directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def table(**columns: object) -> pd.DataFrame:
    """``step`` and ``reward``, and further columns."""
    return pd.DataFrame({"step": STEPS, "reward": REWARDS} | columns)


def rows_of(frame: pd.DataFrame) -> list[dict[str, object]]:
    return json.loads(frame.to_json(orient="records"))


def assert_expected(log: Log, name: str = "log") -> None:
    """One run, of :func:`table`."""
    (run,) = log.series
    assert run.name == name
    assert np.array_equal(run.x, STEPS) and np.allclose(run.y, REWARDS)


def refused(*paths: Path, **options: object) -> str:
    """The message with which the files are refused."""
    with pytest.raises(MetricsError) as error:
        read_logs(paths, **options)  # type: ignore[arg-type]
    return str(error.value)


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


def write(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)


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


# Dirty data


def test_missing_values_are_dropped_and_counted(tmp_path: Path) -> None:
    frame = table().astype(object)
    frame = pd.concat([frame, pd.DataFrame({"step": [60, 70, None], "reward": [None, "nan", 0.5]})])
    frame.to_csv(tmp_path / "log.csv", index=False)
    log = read_logs([tmp_path / "log.csv"])
    assert_expected(log)
    assert "2 rows without a value of 'reward' dropped" in log.notes[1]
    assert "1 row without a value of 'step' dropped" in log.notes[2]


def test_infinite_values_are_dropped_and_counted(tmp_path: Path) -> None:
    pd.concat([table(), pd.DataFrame({"step": [60], "reward": [np.inf]})]).to_csv(tmp_path / "log.csv", index=False)
    log = read_logs([tmp_path / "log.csv"])
    assert_expected(log)
    assert "1 row with infinite values dropped" in log.notes[1]


def test_a_resumed_run_rewrites_its_steps(tmp_path: Path) -> None:
    frame = table(samples=[1, 2, 3, 4, 5])
    before = frame.iloc[:4].assign(reward=9.0, samples=7)
    pd.concat([before, frame.iloc[2:]]).to_csv(tmp_path / "log.csv", index=False)
    log = read_logs([tmp_path / "log.csv"])
    (run,) = log.series
    assert np.allclose(run.y, [9.0, 9.0, *REWARDS[2:]])
    assert run.samples is not None and run.samples.tolist() == [7, 7, 3, 4, 5]
    assert "2 rows dropped whose 'step' occurs again" in log.notes[1]


def test_unsorted_rows_are_sorted(tmp_path: Path) -> None:
    table().sample(frac=1, random_state=1).to_csv(tmp_path / "log.csv", index=False)
    log = read_logs([tmp_path / "log.csv"])
    assert_expected(log)
    assert "sorted by 'step'" in log.notes[1]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_cell_that_is_no_number(tmp_path: Path, suffix: str) -> None:
    frame = table().astype({"reward": object})
    frame.loc[2, "reward"] = "40%"
    path = tmp_path / f"log.{suffix}"
    write(frame.astype({"reward": str}) if suffix == "parquet" else frame, path)
    message = refused(path)
    assert all(part in message for part in (path.name, "'reward'", "row 3", "'40%'"))


def test_a_bad_cell_in_another_column_does_not_matter(tmp_path: Path) -> None:
    table(loss=["x", 1, 2, 3, 4]).to_csv(tmp_path / "log.csv", index=False)
    assert_expected(read_logs([tmp_path / "log.csv"]))


def test_negative_x(tmp_path: Path) -> None:
    table().assign(step=STEPS - 10).to_csv(tmp_path / "log.csv", index=False)
    message = refused(tmp_path / "log.csv")
    assert "'step'" in message and "row 1" in message and "negative" in message


def test_no_numbers(tmp_path: Path) -> None:
    assert "no row has numbers" in refused(written(tmp_path / "log.csv", "step,reward\n1,\n2,\n"), x="step")
    assert "no row has numbers" in refused(written(tmp_path / "header.csv", "step,reward\n"))


def test_the_last_row_of_a_run_still_being_written(tmp_path: Path) -> None:
    table(loss=1.0).to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "log.csv").write_text((tmp_path / "log.csv").read_text() + "60,0.")
    log = read_logs([tmp_path / "log.csv"])
    assert_expected(log)
    assert "cut off" in log.notes[1]
    lines = [json.dumps(row) for row in rows_of(table())]
    log = read_logs([written(tmp_path / "log.jsonl", "\n".join([*lines, '{"step": 60, "rew']))])
    assert_expected(log)
    assert "cut off" in log.notes[1]


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("log.csv", "", ("empty",)),
        ("log.json", "  \n", ("empty",)),
        ("log.csv", "Dear all,\nthis is no table\n", ("Dear all", "--y COLUMN")),
        ("log.txt", "epoch 1 reward 0.3\nepoch 2 reward 0.4\n", ("no two columns", "JSON lines")),
        ("log.csv", "0,0.1\n10,0.2\n", ("column names",)),
        ("log.csv", "step,reward\n1,0.2\n2\n3,0.4\n", ("row 2", "1 cells")),
        ("log.jsonl", '{"step": 1, "reward": 0}\n{"step": 2, "rew\n{"step": 3, "reward": 0}\n', ("line 2",)),
        ("trainer_state.json", '{"log_history": [{"step": 1, ', ("not complete JSON",)),
        ("trainer_state.json", '{\n  "log_history": [\n    {"step": 1,\n', ("not complete JSON",)),
        ("config.json", '{"lr": 1e-6}', ("log_history", "lr")),
        ("log.json", "[1, 2]", ("row 1", "object")),
        ("log.parquet", "step,reward\n", ("parquet",)),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, text: str, parts: tuple[str, ...]) -> None:
    message = refused(written(tmp_path / name, text))
    assert name in message and all(part in message for part in parts), message


def test_binary_files(tmp_path: Path) -> None:
    for content in (b"step,reward\0\x01\n", b"step,r\xff\xfe\n1,2\n"):
        (tmp_path / "log.csv").write_bytes(content)
        assert "not a text file" in refused(tmp_path / "log.csv")


def test_a_missing_file_among_others(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "log.csv", index=False)
    message = refused(tmp_path / "log.csv", tmp_path / "absent.csv")
    assert "absent.csv: no such file" in message


def test_a_directory_names_the_log_in_it(tmp_path: Path) -> None:
    assert "directory" in refused(tmp_path)
    written(tmp_path / "trainer_state.json", "{}")
    assert "trainer_state.json" in refused(tmp_path)


def test_a_million_rows(tmp_path: Path) -> None:
    count = 1_000_000
    rows = (f"{step},0.25,{step % 997 / 997:.6f},text\n" for step in range(count))
    written(tmp_path / "log.csv", "step,loss,reward,note\n" + "".join(rows))
    seconds = []
    for _ in range(3):  # other work on the machine slows single attempts
        begin = time.perf_counter()
        (run,) = read_logs([tmp_path / "log.csv"]).series
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 2
    assert len(run.x) == count
