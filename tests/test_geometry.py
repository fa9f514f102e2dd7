"""Weight geometry against hand-made cases and theorems, and the command on real files."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from rlscape.files import write_json
from rlscape.geometry import masks, spectra
from rlscape.geometry.discarded import cosine_to_discarded
from rlscape.geometry.measure import load_mask, measure_matrix, measure_update
from rlscape.geometry.operators import measure_operators
from rlscape.geometry.sparsity import (
    HALF_ULP,
    UpdateTotals,
    bitwise_update_mask,
    isotropic_density,
    scale_to_density,
    sparsity_bf16,
    update_mask,
)
from rlscape.pipeline.measure_geometry import measure_geometry
from rlscape.results.weights import NULLS_AT_HALF
from rlscape.settings.measurement import GeometrySettings
from tests.entries import run_entry

SETTINGS = GeometrySettings(rank_fraction=0.25, null_draws=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def snapped(*shape: int, seed: int = 0) -> torch.Tensor:
    """fp32 weights on the bf16 lattice."""
    return (0.05 * gaussian(*shape, seed=seed)).bfloat16().float()


# --- sparsity


@pytest.mark.parametrize("seed", range(5))
def test_tolerance_test_is_bitwise_inequality_of_bf16_casts(seed):
    scale = 10.0 ** (8 * torch.rand(20_000, generator=generator(seed)) - 6)
    base = torch.randn(20_000, generator=generator(seed + 100)) * scale
    relative = 10.0 ** (4 * torch.rand(20_000, generator=generator(seed + 200)) - 5)
    tuned = base * (1 + relative * torch.randn(20_000, generator=generator(seed + 300)))
    changed = update_mask(base, tuned)
    assert torch.equal(changed, bitwise_update_mask(base, tuned))
    assert sparsity_bf16(base, tuned) == pytest.approx(1 - changed.double().mean().item())
    assert 0.1 < sparsity_bf16(base, tuned) < 0.9  # both outcomes occur


def test_neighbouring_bf16_values_differ_everywhere():
    """Every pair of neighbouring finite bf16 values counts as changed, binade tops included."""
    bits = torch.arange(0, 0x7F80 - 1, dtype=torch.int16)
    lower, upper = bits.view(torch.bfloat16).float(), (bits + 1).view(torch.bfloat16).float()
    assert update_mask(lower, upper).all()


def test_signed_zeros_differ_in_bits_only():
    assert not update_mask(torch.tensor([0.0]), torch.tensor([-0.0])).any()
    assert bitwise_update_mask(torch.tensor([0.0]), torch.tensor([-0.0])).all()


def test_half_ulp_gate_on_a_snapped_base():
    base = snapped(4096)
    ulp = 2.0 ** (base.abs().log2().floor() - 7)
    outward = ulp * base.sign()
    assert not update_mask(base, base + 0.49 * outward).any()
    assert update_mask(base, base + 0.51 * outward).all()
    power = torch.tensor([0.25])
    assert not update_mask(power, power - 0.24 * 2.0**-9).any()  # a quarter of an ULP downwards
    assert update_mask(power, power - 0.26 * 2.0**-9).all()


@pytest.mark.parametrize("density", [0.0, 0.01, 0.71, 1.0])
def test_an_update_can_be_scaled_to_a_density(density):
    base, noise = snapped(64, 48).double(), gaussian(64, 48, seed=1).double()
    changed = update_mask(base, base + scale_to_density(base, noise, density) * noise)
    assert changed.sum().item() == round(density * base.numel())


def test_an_update_of_few_entries_reaches_no_higher_density():
    base = snapped(64, 48).double()
    few = torch.zeros_like(base)
    few[:8] = 1
    assert update_mask(base, base + scale_to_density(base, few, 0.1) * few).sum() == round(0.1 * base.numel())
    with pytest.raises(ValueError, match="fewer entries than 0.2 of 3072"):
        scale_to_density(base, few, 0.2)


@pytest.mark.parametrize("x", [0.13, 0.5, 1.0, 1.6, 4.0])
def test_density_of_an_isotropic_update_is_the_arctangent_of_x(x):
    base = snapped(512, 512)
    noise = gaussian(512, 512, seed=1)
    tuned = base + (x * HALF_ULP * base.double().norm() / noise.norm() * noise).float()
    summary = UpdateTotals.of(base, tuned).summary()
    assert summary["x"] == pytest.approx(x, rel=1e-3)
    assert summary["density"] == pytest.approx(isotropic_density(x), abs=0.01)
    assert summary["exact_zero_share"] < 0.01  # what bf16 hides, fp32 shows


def test_totals_of_parts_add_up():
    base, tuned = snapped(40, 30), snapped(40, 30, seed=1)
    parts = UpdateTotals.of(base[:10], tuned[:10]) + UpdateTotals.of(base[10:], tuned[10:])
    whole = UpdateTotals.of(base, tuned).summary()
    assert parts.summary() == pytest.approx(whole)


# --- masks


def test_masks_of_a_hand_made_matrix():
    base = torch.tensor([[8.0, 0.0, 0.0], [0.0, 4.0, -1.0]], dtype=torch.float64)
    principal = masks.principal_mask(masks.svd(base), rank=1, density=1 / 6)
    low = masks.low_mask(base, density=4 / 6)
    assert principal.tolist() == [[True, False, False], [False, False, False]]
    assert low.tolist() == [[False, True, True], [True, False, True]]
    assert masks.safe_mask(principal, low).tolist() == [[False, True, True], [True, True, True]]


def test_overlap_of_a_random_update_is_the_density_of_the_mask():
    base = gaussian(256, 256)
    principal = masks.principal_mask(masks.svd(base), rank=64, density=0.3)
    update = torch.rand(256, 256, generator=generator(1)) < 0.4
    assert masks.overlap(principal, update) == pytest.approx(0.3, abs=0.01)
    assert masks.energy_enrichment(principal, gaussian(256, 256, seed=2)) == pytest.approx(1, abs=0.03)


def test_similarity_of_masks():
    first = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0], dtype=torch.bool)
    second = torch.tensor([1, 0, 1, 0, 0, 0, 0, 0], dtype=torch.bool)
    assert masks.jaccard(first, second) == pytest.approx(1 / 3)
    assert masks.chance_jaccard(first, second) == pytest.approx((1 / 16) / (1 / 2 - 1 / 16))
    assert masks.phi(first, second) == pytest.approx((1 / 8 - 1 / 16) / (3 / 16))
    assert masks.phi(first, first) == pytest.approx(1)


# --- spectra


@pytest.mark.parametrize("degrees", [1e-6, 1e-3, 1.0, 45.0, 89.999])
def test_principal_angles_of_a_rotation(degrees):
    """A rotation of one basis vector out of a plane, behind a random change of basis."""
    angle = math.radians(degrees)
    frame = torch.linalg.qr(gaussian(12, 12)).Q
    before = frame[:, :3]
    after = torch.stack(
        [frame[:, 0], math.cos(angle) * frame[:, 1] + math.sin(angle) * frame[:, 5], frame[:, 2]], dim=1
    )
    mixed = after @ torch.linalg.qr(gaussian(3, 3, seed=1)).Q
    angles = spectra.principal_angles(before, mixed).rad2deg()
    assert angles[:2].abs().max() < 1e-12
    assert angles[2].item() == pytest.approx(degrees, rel=1e-6)


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (16, 16)])
@pytest.mark.parametrize("size", [0.01, 0.3, 2.0])
def test_weyl_mirsky_and_safe_wedin_hold(shape, size):
    informative = 0
    for seed in range(20):
        base = gaussian(*shape, seed=seed)
        if seed % 2:  # a clear gap at k = 4, where Wedin says something
            base = base + 20 * torch.linalg.qr(base).Q[:, :4] @ torch.linalg.qr(base.T).Q[:, :4].T
        row = measure_matrix(base, base + size * gaussian(*shape, seed=seed + 100), SETTINGS, generator(seed))
        assert row["k"] == 4
        assert row["weyl_slack"] > -1e-10
        assert row["mirsky_slack"] > -1e-10
        assert math.isnan(row["wedin_bound"]) or row["wedin_slack"] > -1e-10
        assert row["nss"] <= row["relative_norm"] + 1e-12
        assert 0 <= row["efficiency"] <= 1
        informative += row["wedin_bound"] < 1
    assert informative >= 10 or size > 1


def test_printed_wedin_can_fail_where_the_safe_form_holds():
    """Gap 1, an update of spectral norm 0.48: the angle is arcsin(0.96) / 2, its sine 0.6 > 0.48."""
    base = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    update = 0.48 * torch.tensor([[-0.96, 0.28], [0.28, 0.96]], dtype=torch.float64)
    row = measure_matrix(base, base + update, SETTINGS.changed(rank_fraction=0.5), generator())
    assert row["max_angle"] == pytest.approx(math.degrees(math.asin(0.6)))
    assert row["wedin_printed_ratio"] == pytest.approx(1.25)
    assert row["wedin_slack"] == pytest.approx(0.48 / 0.64 - 0.6)


# --- a matrix and a checkpoint


def test_an_unchanged_matrix_has_no_geometry():
    base = snapped(16, 12)
    row = measure_matrix(base, base, SETTINGS, generator())
    assert (row["sparsity"], row["x"], row["nss"]) == (1, 0, 0)
    assert all(math.isnan(row[column]) for column in ("overlap_principal", "efficiency", "energy_left"))


SHAPES = {
    "model.embed_tokens.weight": (20, 16),
    "model.layers.0.self_attn.q_proj.weight": (32, 16),
    "model.layers.0.input_layernorm.weight": (16,),
    "model.layers.10.mlp.down_proj.weight": (16, 24),
    "lm_head.weight": (20, 16),
}


@pytest.fixture
def pair(tmp_path):
    """A base and a tuned model directory."""
    tensors = {name: snapped(*shape, seed=i) for i, (name, shape) in enumerate(SHAPES.items())}
    for directory, step in (("base", 0.0), ("tuned", 2e-4)):
        (tmp_path / directory).mkdir()
        stepped = {name: w + step * gaussian(*w.shape, seed=9).float() for name, w in tensors.items()}
        save_file(stepped, tmp_path / directory / "model.safetensors")
    return tmp_path / "base", tmp_path / "tuned"


@pytest.fixture
def run(monkeypatch):
    """The command, as a rule calls it."""

    def measure(base, tuned, output, **settings):
        values = json.dumps({"rank_fraction": 0.25, "null_draws": 2} | settings)
        run_entry(measure_geometry, monkeypatch, base=base, model=tuned, settings=values, seed=3, output=output)

    return measure


def test_an_update_that_gives_back_what_rounding_took_is_found(pair, tmp_path):
    """Planted: all of it, none of it, and no update."""
    base, tuned = pair
    weights = load_file(base / "model.safetensors")
    tensors = {name: values * 2**-9 for name, values in load_file(tuned / "model.safetensors").items()}
    other = {name: gaussian(*values.shape, seed=77).float() for name, values in tensors.items()}
    for directory, update in {"lost": tensors, "restored": tensors, "unrelated": other}.items():
        (tmp_path / directory).mkdir()
        start = {} if directory == "lost" else weights
        moved = {name: start.get(name, 0) + 1e-3 * values for name, values in update.items()}
        save_file(moved, tmp_path / directory / "model.safetensors")
    assert cosine_to_discarded(base, tmp_path / "restored", tmp_path / "lost") == pytest.approx(1, abs=1e-3)
    assert cosine_to_discarded(base, tmp_path / "unrelated", tmp_path / "lost") == pytest.approx(0, abs=0.1)
    assert np.isnan(cosine_to_discarded(base, base, tmp_path / "lost"))


def test_command_writes_every_table(run, pair, tmp_path):
    run(*pair, tmp_path / "out")
    matrices = pd.read_parquet(tmp_path / "out/matrices.parquet").set_index("tensor")
    assert matrices.kind.to_dict() == {
        "model.layers.0.self_attn.q_proj.weight": "q",
        "model.layers.10.mlp.down_proj.weight": "down",
    }
    assert matrices.layer.dropna().tolist() == [0, 10]
    assert not matrices.drop(columns="layer").isna().any().any()
    for overlap in ("overlap_principal", "overlap_low", "overlap_principal_not_low"):
        for null in ("isotropic", "spectrum", "binned"):
            low, mean, high = (matrices[f"{overlap}_{null}{end}"] for end in ("_low", "", "_high"))
            assert (low <= mean).all() and (mean <= high).all()
    assert matrices.density_half.tolist() == pytest.approx([0.5] * len(matrices))
    for mask in ("principal", "low"):
        assert (matrices[f"overlap_half_{mask}_chance"] == matrices[f"overlap_{mask}_chance"]).all()
        for null in NULLS_AT_HALF:
            low, mean, high = (matrices[f"overlap_half_{mask}_{null}{end}"] for end in ("_low", "", "_high"))
            assert (low <= mean).all() and (mean <= high).all()

    spectrum = pd.read_parquet(tmp_path / "out/spectra.parquet").set_index("tensor")
    rows = spectrum.loc["model.layers.10.mlp.down_proj.weight"]
    assert rows["index"].tolist() == list(range(1, 17))
    assert rows.angle_left.notna().sum() == matrices.k["model.layers.10.mlp.down_proj.weight"] == 4
    largest = rows[["angle_left", "angle_right"]].max().max()
    assert largest == pytest.approx(matrices.max_angle["model.layers.10.mlp.down_proj.weight"])

    for tensor, row in matrices.iterrows():
        changed = load_mask(tmp_path / "out/masks.npz", tensor)
        assert changed.shape == (row.m, row.n)
        assert changed.mean() == pytest.approx(row.density)
        assert load_mask(tmp_path / "out/masks.npz", tensor, "principal").mean() == row.overlap_principal_chance

    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["all"]["parameters"] == sum(math.prod(shape) for shape in SHAPES.values())
    linear = matrices.dropna(subset="layer")
    assert summary["linear"]["sparsity"] == pytest.approx(np.average(linear.sparsity, weights=linear.m * linear.n))


def test_measuring_twice_gives_the_same_bits(run, pair, tmp_path):
    run(*pair, tmp_path / "first")
    run(*pair, tmp_path / "second")
    for name in ("matrices.parquet", "spectra.parquet", "masks.npz", "summary.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    other = measure_update(*pair, SETTINGS, generator(4)).matrices
    first = pd.read_parquet(tmp_path / "first/matrices.parquet")
    assert (other.overlap_principal == first.overlap_principal).all()
    assert (other.overlap_principal_isotropic != first.overlap_principal_isotropic).any()


def test_every_third_block_is_measured_and_every_one_counted(tmp_path):
    shapes = {f"model.layers.{layer}.self_attn.q_proj.weight": (8, 6) for layer in range(7)}
    for directory, step in (("base", 0.0), ("tuned", 1e-3)):
        (tmp_path / directory).mkdir()
        moved = {name: snapped(*shape, seed=1) + step for name, shape in shapes.items()}
        save_file(moved, tmp_path / directory / "model.safetensors")
    pair = tmp_path / "base", tmp_path / "tuned"
    some, every = (measure_update(*pair, SETTINGS.changed(block_stride=stride), generator()) for stride in (3, 1))
    assert some.matrices["layer"].tolist() == [0, 3, 6] and some.summary == every.summary
    assert every.matrices["layer"].tolist() == list(range(7))
    assert len(measure_operators(*pair, SETTINGS.changed(block_stride=3)).mantissa["layer"].unique()) == 3


def test_shards_are_read_as_one_model(pair, tmp_path):
    base, tuned = pair
    whole = measure_update(base, tuned, SETTINGS, generator()).matrices
    tensors = {name: snapped(*shape, seed=i) for i, (name, shape) in enumerate(SHAPES.items())}
    (base / "model.safetensors").unlink()
    names = list(tensors)
    for shard, part in enumerate((names[:2], names[2:])):
        save_file({name: tensors[name] for name in part}, base / f"model-{shard}.safetensors")
    places = {name: f"model-{shard}.safetensors" for shard, part in enumerate((names[:2], names[2:])) for name in part}
    write_json(base / "model.safetensors.index.json", {"weight_map": places})
    pd.testing.assert_frame_equal(measure_update(base, tuned, SETTINGS, generator()).matrices, whole)


def test_a_base_off_the_lattice_is_reported(pair, caplog):
    base, tuned = pair
    measure_update(base, tuned, SETTINGS, generator())
    assert not caplog.records
    measure_update(tuned, base, SETTINGS, generator())
    assert "snap the base to bf16" in caplog.text


def _without(path, tensor):
    save_file({n: snapped(*s) for n, s in SHAPES.items() if n != tensor}, path / "model.safetensors")


def _with(path, tensor, values):
    save_file({n: snapped(*s) for n, s in SHAPES.items()} | {tensor: values}, path / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda tuned: (tuned / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda tuned: tuned.rename(tuned.with_name("moved")), "no such directory"),
        (lambda tuned: _truncate(tuned / "model.safetensors"), "model.safetensors: truncated"),
        (lambda tuned: _without(tuned, "lm_head.weight"), "(lm_head.weight)"),
        (
            lambda tuned: _with(tuned, "lm_head.weight", snapped(5, 16)),
            "lm_head.weight is [5, 16], but [20, 16]",
        ),
        (lambda tuned: _with(tuned, "lm_head.weight", snapped(20, 16) / 0), "lm_head.weight is not finite"),
    ],
)
def test_bad_checkpoints_give_one_clear_error_and_touch_nothing(run, pair, tmp_path, damage, expected, capsys):
    run(*pair, tmp_path / "out")
    earlier = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    damage(pair[1])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(*pair, tmp_path / "out")
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert expected in error
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == earlier


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def test_unknown_settings_are_named(run, pair, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(*pair, tmp_path / "out", mask_densty=0.3)
    assert "mask_densty: unknown key; did you mean 'mask_density'?" in capsys.readouterr().err
