"""Training logs with dirty data, and files that are no logs."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlscape.tools.curves.logs import read_logs
from tests.log_tables import REWARDS, STEPS, assert_expected, refused, rows_of, table, write, written

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
