"""Snapshots and profiles over time: planted effects are found, and nulls stay quiet."""

import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from rlscape.errors import CheckpointError
from rlscape.geometry.measure import BaseMatrix, TunedMatrix, measure_matrix
from rlscape.geometry.profiles import describe, matrix_profiles
from rlscape.geometry.profiles import measure_over_time as measure_history
from rlscape.geometry.snapshots import read_snapshot, snapshot_steps, stream_history
from rlscape.pipeline.measure_over_time import measure_over_time
from tests.entries import run_entry
from tests.tuned_models import (
    OTHERS,
    SETTINGS,
    SHAPE,
    O,
    Q,
    assert_change_kept,
    gaussian,
    model,
    save,
    save_snapshots,
    snapped,
    tuned,
)

LAST = "step-000010.safetensors"


def write_history(directory, updates, steps=(2, 10)):
    """A base and snapshots of it; ``updates``: function (step, tensor name, shape) -> update."""
    base = model()
    save(base, directory / "base" / "model.safetensors")
    states = {
        step: {name: weights.double() + updates(step, name, weights.shape) for name, weights in base.items()}
        for step in steps
    }
    return directory / "base", save_snapshots(base, states, directory / "snapshots")


def walk(step, name, shape, size=1e-4):
    """Independent steps without any preference."""
    draws = [gaussian(*shape, seed=100 * len(name) + i) for i in range(step)]
    return size * torch.stack(draws).sum(0)


# --- snapshots


def test_history_has_every_tensor_at_every_step(tmp_path):
    base, snapshots = write_history(tmp_path, walk, steps=(10, 2))
    (snapshots / ".snakemake_timestamp").touch()
    assert snapshot_steps(snapshots) == [2, 10]
    histories = list(stream_history(base, snapshots))
    assert [history.tensor for history in histories] == sorted((Q, O, *OTHERS))
    for name, weights, after in histories:
        assert list(after) == [2, 10]
        assert torch.equal(read_snapshot(base, snapshots, 10)[name], after[10])
        for step, values in after.items():
            assert_change_kept(values, weights, weights + walk(step, name, weights.shape))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda file: shutil.rmtree(file.parent), "snapshots: no such directory; runs of arms with snapshots write it"),
        (lambda file: [each.unlink() for each in file.parent.iterdir()], "no snapshots in it; .*train the run again"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), f"{LAST}: truncated or damaged .*train the run again"),
        (
            lambda file: file.rename(file.with_name("step-10.safetensors")),
            "step-10.safetensors: not called step-<step>",
        ),
        (lambda file: save({}, file.with_name("model.safetensors")), "model.safetensors: not called step-<step>"),
        (lambda file: save({Q: snapped(*SHAPE)}, file), f"{LAST}: no lm_head.weight; measure a run against the base"),
        (
            lambda file: save({n: (snapped(3, 3) if n == Q else w) for n, w in model().items()}, file),
            rf"{LAST}: model.*q_proj.weight is \[3, 3\], but \[64, 48\]",
        ),
        (
            lambda file: save({n: w / (0 if n == Q else 1) for n, w in model().items()}, file),
            f"{LAST}: model.*q_proj.weight is not finite; the run that wrote it diverged",
        ),
    ],
)
def test_bad_snapshots_give_one_clear_error(tmp_path, damage, expected):
    base, snapshots = write_history(tmp_path, walk)
    damage(snapshots / LAST)
    with pytest.raises(CheckpointError, match=expected):
        list(stream_history(base, snapshots))


def test_a_step_that_is_not_there_is_named(tmp_path):
    base, snapshots = write_history(tmp_path, walk)
    with pytest.raises(CheckpointError, match="step-000003.safetensors: no such file"):
        read_snapshot(base, snapshots, 3)


# --- profiles


def correlation(profiles, kind, axis, first, last):
    """Rank correlation of two columns of the profiles, first and last step, over the rows or columns of a matrix."""
    rows = profiles[(profiles["kind"] == kind) & (profiles["axis"] == axis)]
    by_step = {step: rows[rows["step"] == step].set_index("index") for step in rows["step"].unique()}
    x = by_step[min(by_step)].eval(first)
    return x.corr(by_step[max(by_step)].eval(last), method="spearman")


def test_a_planted_stripe_is_found_early_and_stays(tmp_path):
    stripes = 1 + 4 * (torch.arange(SHAPE[0]) % 8 == 0).double()

    def striped(step, name, shape):
        return walk(step, name, shape, 5e-5) * (stripes[:, None] if name == Q else 1)

    profiles = measure_history(*write_history(tmp_path, striped), SETTINGS).profiles
    rows = profiles[(profiles["kind"] == "q") & (profiles["axis"] == "row")]
    planted = rows["index"] % 8 == 0
    for _, step in rows.groupby("step"):
        assert step.loc[planted, "share"].mean() > step.loc[~planted, "share"].mean() + 0.3
        assert step.loc[planted, "share"].mean() > step["share_by_magnitude"].max()
    excess = ("share - share_by_magnitude", "new - new_by_magnitude")
    assert correlation(profiles, "q", "row", *excess) > 0.4
    assert abs(correlation(profiles, "q", "column", *excess)) < 0.3
    assert abs(correlation(profiles, "o", "column", *excess)) < 0.3


def test_nesting_alone_makes_profiles_alike_but_not_the_new_changes(tmp_path):
    """Over many matrices: the first and last profiles of a walk without preference agree, the new changes do not."""
    base = snapped(*SHAPE)
    plain, new = [], []
    for seed in range(12):
        first = walk(2, Q + seed * "x", SHAPE)
        matrices = {2: tuned(base, first), 10: tuned(base, walk(10, Q + seed * "x", SHAPE))}
        start, end = (matrix_profiles(matrices[2], matrix).query("axis == 'row'") for matrix in matrices.values())
        plain.append(start["share"].corr(end["share"], method="spearman"))
        left = (start["share"] - start["share_by_magnitude"]).corr(
            end["new"] - end["new_by_magnitude"], method="spearman"
        )
        new.append(left)
    assert np.mean(plain) > 0.2
    assert abs(np.mean(new)) < 3 * np.std(new, ddof=1) / math.sqrt(len(new))


def test_profiles_average_to_the_density_and_steps_agree_with_the_full_measurement(tmp_path):
    base, snapshots = write_history(tmp_path, walk)
    measured = measure_history(base, snapshots, SETTINGS)
    for (step, tensor), row in measured.over_time.set_index(["step", "tensor"]).iterrows():
        of_step = measured.profiles[(measured.profiles["step"] == step) & (measured.profiles["tensor"] == tensor)]
        for _, axis in of_step.groupby("axis"):
            assert axis["share"].mean() == pytest.approx(row["density"])
            assert axis["share_by_magnitude"].mean() == pytest.approx(row["density"])
        after = read_snapshot(base, snapshots, step)[tensor]
        full = measure_matrix(model()[tensor], after, SETTINGS, torch.Generator())
        described = describe(TunedMatrix(BaseMatrix(model()[tensor].double(), SETTINGS), after.double()))
        assert described == {name: full[name] for name in described}
        assert described == {name: row[name] for name in described}


def test_command_writes_both_tables(tmp_path, monkeypatch):
    base, snapshots = write_history(tmp_path, walk)
    run_entry(
        measure_over_time,
        monkeypatch,
        base=base,
        snapshots=snapshots,
        settings=SETTINGS.model_dump_json(),
        output=tmp_path / "out",
    )
    over_time = pd.read_parquet(tmp_path / "out/over_time.parquet")
    assert over_time[["step", "tensor"]].values.tolist() == [[2, Q], [2, O], [10, Q], [10, O]]
    assert not over_time.isna().any().any()
    profiles = pd.read_parquet(tmp_path / "out/profiles.parquet")
    assert len(profiles) == 2 * 2 * sum(SHAPE)
