"""Snapshots, operators, precisions and matched models: planted effects are found, and nulls stay quiet."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from rlscape.catalogue import resolve_run
from rlscape.errors import CheckpointError
from rlscape.files import write_json, write_parquet
from rlscape.geometry import matching, operators
from rlscape.geometry.measure import BaseMatrix, TunedMatrix, measure_matrix
from rlscape.geometry.profiles import describe, matrix_profiles
from rlscape.geometry.profiles import measure_over_time as measure_history
from rlscape.geometry.snapshots import read_snapshot, snapshot_steps, stream_history
from rlscape.geometry.sparsity import HALF_ULP, isotropic_density, sparsity_bf16
from rlscape.models.decoder import Decoder, DecoderConfig
from rlscape.pipeline.measure_matching import Point, match, measure_matching
from rlscape.pipeline.measure_operators import measure_operators
from rlscape.pipeline.measure_over_time import measure_over_time
from rlscape.settings.measurement import GeometrySettings
from rlscape.settings.reading import load_config
from tests.entries import run_entry
from tests.synthetic import ROOT

SETTINGS = GeometrySettings(rank_fraction=0.25, null_draws=2, magnitude_bins=20)
SHAPE = (64, 48)
Q, O = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.o_proj.weight"  # noqa: E741
OTHERS = {"model.norm.weight": (48,), "lm_head.weight": (23, 48)}


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def snapped(*shape: int, seed: int = 0) -> torch.Tensor:
    return (0.05 * gaussian(*shape, seed=seed)).bfloat16().float()


def of_size(x: float, base: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """``noise`` scaled to size x."""
    return x * HALF_ULP * base.double().norm() / noise.norm() * noise


def tuned(base: torch.Tensor, update: torch.Tensor) -> TunedMatrix:
    return TunedMatrix(BaseMatrix(base.double(), SETTINGS), base.double() + update)


def model(seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: snapped(*SHAPE, seed=seed + i) for i, name in enumerate((Q, O))} | {
        name: snapped(*shape, seed=seed + 9) for name, shape in OTHERS.items()
    }


def save(tensors, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: values.contiguous() for name, values in tensors.items()}, file)
    return file


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


# --- operators and precision


def row_of(table, operator):
    """The row of an operator at the usual rank and density."""
    found = table[(table["operator"] == operator) & (table["rank_fraction"] == 0.25)]
    return found[found["alpha"].isna() | (found["alpha"] == 0.5)].iloc[0]


def enrichment(table, operator):
    row = row_of(table, operator)
    return row["energy"] / row["chance"]


def test_an_isotropic_update_shows_chance_and_nulls_only():
    base = snapped(256, 128)
    table = operators.vary_operators(tuned(base, of_size(0.6, base, gaussian(256, 128, seed=1))))
    coordinates = table[table["operator"].isin(("principal", "low"))]
    assert len(coordinates) == len(operators.DENSITIES) * (1 + len(operators.RANK_FRACTIONS))
    for share in ("overlap", "largest", "energy"):
        assert (coordinates[share] - coordinates[f"{share}_binned"]).abs().max() < 0.015
    assert (coordinates["energy"] / coordinates["chance"]).between(0.9, 1.1).all()
    assert coordinates.query("operator == 'low' and alpha == 0.5")["overlap"].item() > 0.7  # rounding, not preference
    subspaces = table[~table["operator"].isin(("principal", "low"))]
    assert (subspaces["energy"] - subspaces["chance"]).abs().max() < 0.02


def test_masks_and_subspaces_can_disagree():
    """In the principal subspaces and off the principal entries; then the other way round."""
    base = snapped(96, 96)
    start = BaseMatrix(base.double(), SETTINGS)
    principal = start.masks["principal"]
    k = start.rank
    inside = start.svd.U[:, :k] @ gaussian(k, k, seed=3) @ start.svd.Vh[:k]
    off_entries = operators.vary_operators(tuned(base, of_size(1.0, base, inside * ~principal)))
    assert enrichment(off_entries, "principal") == pytest.approx(0, abs=1e-9)
    assert enrichment(off_entries, "both") > 3
    noise = gaussian(96, 96, seed=4)
    left, right = start.svd.U[:, :k], start.svd.Vh[:k]
    outside = noise - left @ (left.T @ noise)
    outside = outside - (outside @ right.T) @ right
    on_entries = operators.vary_operators(tuned(base, of_size(1.0, base, outside * (1 + 3 * principal))))
    assert enrichment(on_entries, "principal") > 1.6
    assert row_of(on_entries, "principal")["largest"] > row_of(on_entries, "principal")["largest_binned"] + 0.1
    assert enrichment(on_entries, "both") < 1


def test_seven_mantissa_bits_are_bf16():
    values = gaussian(20_000) * 10.0 ** (4 * gaussian(20_000, seed=1))
    ties = torch.tensor([1 + 2.0**-8, 1 + 3 * 2.0**-8, -(2 - 2.0**-8)], dtype=torch.float64)
    for each in (values.float().double(), ties):
        assert torch.equal(operators.round_mantissa(each, 7), each.bfloat16().double())
    base, update = snapped(64, 64).double(), 1e-4 * gaussian(64, 64, seed=1)
    read = operators.read_with_bits(base, update, 7)
    assert read["sparsity"] == sparsity_bf16(base, base + update)


@pytest.mark.parametrize("bits", operators.MANTISSA_BITS)
def test_sparsity_of_an_isotropic_update_collapses_over_bits(bits):
    base = snapped(400, 400).double()
    read = operators.read_with_bits(base, of_size(0.5, base, gaussian(400, 400, seed=1)), bits)
    assert read["x"] == pytest.approx(0.5 * 2.0 ** (bits - 7), rel=1e-6)
    assert read["sparsity"] == pytest.approx(read["expected_sparsity"], abs=0.004)
    assert read["sparsity"] == pytest.approx(1 - isotropic_density(read["x"]), abs=0.012)


def test_an_update_of_few_entries_is_sparser_than_rounding_explains():
    base = snapped(64, 64).double()
    few = torch.where(torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) < 0.1, 1.0, 0.0).double()
    read = operators.read_with_bits(base, of_size(2.0, base, few * gaussian(64, 64, seed=1)), 7)
    assert read["sparsity"] > 0.89
    assert read["expected_sparsity"] < 0.4


def test_operator_command(tmp_path, monkeypatch):
    base = model()
    save(base, tmp_path / "base/model.safetensors")
    after = {name: (w + 1e-4 * gaussian(*w.shape, seed=5)).float() for name, w in base.items()}
    save(after, tmp_path / "tuned/model.safetensors")
    values = SETTINGS.model_dump_json()
    options = {"base": tmp_path / "base", "model": tmp_path / "tuned", "settings": values, "output": tmp_path / "out"}
    run_entry(measure_operators, monkeypatch, **options)
    table = pd.read_parquet(tmp_path / "out/operators.parquet")
    assert set(table["tensor"]) == {Q, O}
    assert set(table["k"].dropna()) == {1, 3, 6, 12, 24}
    mantissa = pd.read_parquet(tmp_path / "out/mantissa.parquet")
    assert len(mantissa) == 2 * len(operators.MANTISSA_BITS)
    assert (mantissa.groupby("tensor")["sparsity"].diff().dropna() < 0).all()


# --- matching


def louder(base, update, factor):
    return {name: (base[name].double() + factor * update[name]).float() for name in base}


@pytest.fixture
def pair():
    """A base and an update of it."""
    base = model()
    return base, {name: 1e-4 * gaussian(*w.shape, seed=3) for name, w in base.items()}


def test_scaling_to_an_equal_norm_undoes_a_difference_of_size_alone(pair):
    base, update = pair
    quiet, loud = louder(base, update, 1), louder(base, update, 20)
    scale = matching.update_norm(base, quiet) / matching.update_norm(base, loud)
    assert scale == pytest.approx(1 / 20, rel=1e-4)
    baseline = matching.Baseline(base, SETTINGS)
    as_run = {name: baseline.compare(state) for name, state in {"quiet": quiet, "loud": loud}.items()}
    assert as_run["loud"]["nss"] > 10 * as_run["quiet"]["nss"]
    assert as_run["loud"]["sparsity"] < as_run["quiet"]["sparsity"] - 0.2
    matched = baseline.compare(matching.scaled(base, loud, scale))
    for statistic, value in as_run["quiet"].items():
        assert matched[statistic] == pytest.approx(value, rel=0.02, abs=0.003), statistic


def test_a_difference_of_direction_survives_matching(pair):
    base, update = pair
    baseline = matching.Baseline(base, SETTINGS)
    aligned = {name: 0.01 * w.double() for name, w in base.items()}  # stretches every singular value
    turned, stretched = louder(base, update, 1), louder(base, aligned, 1)
    scale = matching.update_norm(base, turned) / matching.update_norm(base, stretched)
    matched = baseline.compare(matching.scaled(base, stretched, scale))
    assert matched["relative_norm"] == pytest.approx(baseline.compare(turned)["relative_norm"], rel=1e-3)
    assert matched["efficiency"] > 3 * baseline.compare(turned)["efficiency"]


def test_the_norm_is_that_of_the_matrices_inside_the_blocks(pair):
    base, update = pair
    outside = {name: values * (name in OTHERS) for name, values in update.items()}
    assert matching.update_norm(base, louder(base, outside, 1)) == 0
    inside = math.sqrt(sum(float(update[name].square().sum()) for name in (Q, O)))
    assert matching.update_norm(base, louder(base, update, 1)) == pytest.approx(inside, rel=1e-4)


def test_bisection_finds_a_scale_on_either_side_of_one():
    assert matching.scale_reaching(lambda a: 4 * a**2, 1.0) == pytest.approx(0.5, rel=2e-3)
    assert matching.scale_reaching(lambda a: a**2, 25.0) == pytest.approx(5.0, rel=2e-3)
    assert matching.scale_reaching(lambda a: a**2, 0.0) == 0
    assert math.isnan(matching.scale_reaching(lambda a: min(a, 0.5), 1.0))


def test_each_matching_takes_the_model_that_it_names(pair):
    base, update = pair
    states = {size: louder(base, update, size) for size in (1, 2, 8)}
    rl = Point("rlvr", 10, states[1], pass_rate=0.5)
    sft = Point("sft", 10, states[8], pass_rate=0.9)
    slow = Point("sft_lr_thirtieth", 10, states[2], pass_rate=0.6)
    early = Point("sft", 1, louder(base, update, 1.1), pass_rate=0.3)
    snapshots = [slow, early, sft]
    found = match(base, rl, sft, slow, snapshots, lambda state: matching.update_norm(base, state) ** 2)
    assert list(found) == ["as_run", "rate", "norm", "norm_snapshot", "kl", "accuracy"]
    assert (found["as_run"], found["rate"], found["norm_snapshot"], found["accuracy"]) == (sft, slow, early, slow)
    for name in ("norm", "kl"):
        assert found[name].scale == pytest.approx(1 / 8, rel=5e-3)
        assert math.isnan(found[name].pass_rate)


def test_matching_command(tmp_path, monkeypatch):
    """Three runs of a tiny decoder whose SFT is RL's update eightfold."""
    settings = resolve_run(load_config(ROOT / "config" / "smoke.yaml"), "rlvr-s2")
    shape = settings.base.model
    config = {
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 10_000.0},
        "max_position_embeddings": 512,
    }
    shapes = {name: weights.shape for name, weights in Decoder(DecoderConfig.parse(config)).state_dict().items()}
    base = {name: snapped(*shape, seed=i) + 1.0 * (len(shape) == 1) for i, (name, shape) in enumerate(shapes.items())}
    update = {name: 3e-4 * gaussian(*shape, seed=50 + i) for i, (name, shape) in enumerate(shapes.items())}
    save(base, tmp_path / "base/model.safetensors")
    write_json(tmp_path / "base/config.json", config)
    metrics = pd.DataFrame({"step": [0, 2, 4], "pass_rate": [0.3, 0.4, 0.5]})
    for run, size in {"rlvr-s2": 1, "sft-s2": 8, "sft_lr_thirtieth-s2": 2}.items():
        save(louder(base, update, size), tmp_path / run / "model/model.safetensors")
        states = {step: louder(base, update, size * step / 4) for step in (2, 4)}
        snapshots = {f"{step}/{name}": values for step, state in states.items() for name, values in state.items()}
        save(snapshots, tmp_path / run / "snapshots.safetensors")
        write_parquet(tmp_path / run / "metrics.parquet", metrics)
    run_entry(
        measure_matching,
        monkeypatch,
        base=tmp_path / "base",
        rl=tmp_path / "rlvr-s2",
        sft=tmp_path / "sft-s2",
        sft_at_rl_rate=tmp_path / "sft_lr_thirtieth-s2",
        geometry=SETTINGS.model_dump_json(),
        settings=settings.changed(drift_prompts=4).model_dump_json(),
        output=tmp_path / "matching-s2.parquet",
    )
    table = pd.read_parquet(tmp_path / "matching-s2.parquet").set_index(["matching", "method"])
    assert len(table) == 12
    assert set(table["seed"]) == {2}
    rl, sft = table.xs("rl", level="method"), table.xs("sft", level="method")
    assert sft["arm"].to_dict() == {
        "as_run": "sft",
        "rate": "sft_lr_thirtieth",
        "norm": "sft",
        "norm_snapshot": "sft_lr_thirtieth",
        "kl": "sft",
        "accuracy": "sft_lr_thirtieth",
    }
    assert sft.loc[["norm", "kl"], "scale"].to_numpy() == pytest.approx(1 / 8, rel=0.01)
    assert sft.loc["kl", "kl"] == pytest.approx(rl.loc["kl", "kl"], rel=0.01)
    assert sft.loc["as_run", "kl"] > 10 * rl.loc["as_run", "kl"] > 0
    assert sft.loc["norm_snapshot", "step"] == 2
    assert sft.loc["norm", "nss"] == pytest.approx(rl.loc["norm", "nss"], rel=0.02)
