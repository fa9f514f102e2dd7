"""Snapshots and profiles over time: planted effects are found, and nulls stay quiet."""

import math

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
from tests.tuned_models import OTHERS, SETTINGS, SHAPE, O, Q, gaussian, model, save, snapped, tuned


def write_history(directory, updates, steps=(2, 10)):
    """A base and snapshots of it; ``updates``: function (step, tensor name, shape) -> update."""
    base = model()
    save(base, directory / "base" / "model.safetensors")
    snapshots = {
        f"{step}/{name}": (weights.double() + updates(step, name, weights.shape)).float()
        for step in steps
        for name, weights in base.items()
    }
    return directory / "base", save(snapshots, directory / "snapshots.safetensors")


def walk(step, name, shape, size=1e-4):
    """Independent steps without any preference."""
    draws = [gaussian(*shape, seed=100 * len(name) + i) for i in range(step)]
    return size * torch.stack(draws).sum(0)


# --- snapshots


def test_history_has_every_tensor_at_every_step(tmp_path):
    base, file = write_history(tmp_path, walk)
    assert snapshot_steps(file) == [2, 10]
    histories = list(stream_history(base, file))
    assert [history.tensor for history in histories] == sorted((Q, O, *OTHERS))
    for history in histories:
        assert list(history.after) == [2, 10]
        assert torch.equal(read_snapshot(file, 10)[history.tensor], history.after[10])
        assert not torch.equal(history.after[2], history.after[10])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda file: file.unlink(), "no such file"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "truncated or damaged"),
        (lambda file: save({Q: snapped(*SHAPE)}, file), "no tensors called <step>/<tensor>"),
        (lambda file: save({f"1/{Q}": snapped(*SHAPE)}, file), "no 1/lm_head.weight; measure a run against the base"),
        (
            lambda file: save({f"1/{n}": (snapped(3, 3) if n == Q else w) for n, w in model().items()}, file),
            r"1/model.*q_proj.weight is \[3, 3\], but \[64, 48\]",
        ),
        (
            lambda file: save({f"1/{n}": w / (0 if n == Q else 1) for n, w in model().items()}, file),
            "q_proj.weight is not finite",
        ),
    ],
)
def test_bad_snapshots_give_one_clear_error(tmp_path, damage, expected):
    base, file = write_history(tmp_path, walk)
    damage(file)
    with pytest.raises(CheckpointError, match=expected):
        list(stream_history(base, file))


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
    base, file = write_history(tmp_path, walk)
    measured = measure_history(base, file, SETTINGS)
    for (step, tensor), row in measured.over_time.set_index(["step", "tensor"]).iterrows():
        of_step = measured.profiles[(measured.profiles["step"] == step) & (measured.profiles["tensor"] == tensor)]
        for _, axis in of_step.groupby("axis"):
            assert axis["share"].mean() == pytest.approx(row["density"])
            assert axis["share_by_magnitude"].mean() == pytest.approx(row["density"])
        full = measure_matrix(model()[tensor], read_snapshot(file, step)[tensor], SETTINGS, torch.Generator())
        described = describe(
            TunedMatrix(BaseMatrix(model()[tensor].double(), SETTINGS), read_snapshot(file, step)[tensor].double())
        )
        assert described == {name: full[name] for name in described}
        assert described == {name: row[name] for name in described}


def test_command_writes_both_tables(tmp_path, monkeypatch):
    base, file = write_history(tmp_path, walk)
    run_entry(
        measure_over_time,
        monkeypatch,
        base=base,
        snapshots=file,
        settings=SETTINGS.model_dump_json(),
        output=tmp_path / "out",
    )
    over_time = pd.read_parquet(tmp_path / "out/over_time.parquet")
    assert over_time[["step", "tensor"]].values.tolist() == [[2, Q], [2, O], [10, Q], [10, O]]
    assert not over_time.isna().any().any()
    profiles = pd.read_parquet(tmp_path / "out/profiles.parquet")
    assert len(profiles) == 2 * 2 * sum(SHAPE)
