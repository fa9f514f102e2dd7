"""Matched models: differences of size alone go away, differences of direction stay."""

import math

import pandas as pd
import pytest

from rlscape.catalogue import resolve_run
from rlscape.files import write_json, write_parquet
from rlscape.geometry import matching
from rlscape.models.config import DecoderConfig
from rlscape.models.decoder import Decoder
from rlscape.pipeline.measure_matching import Point, match, measure_matching
from rlscape.settings.reading import load_config
from tests.entries import run_entry
from tests.synthetic import ROOT
from tests.tuned_models import OTHERS, SETTINGS, O, Q, gaussian, model, save, save_snapshots, snapped


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
    rl = Point("rlvr", 10, lambda: states[1], pass_rate=0.5)
    sft = Point("sft", 10, lambda: states[8], pass_rate=0.9)
    slow = Point("sft_rl_rate", 10, lambda: states[2], pass_rate=0.6)
    early = Point("sft", 1, lambda: louder(base, update, 1.1), pass_rate=0.3)
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
    # Large enough that its KL is not the rounding of fp32 logits.
    update = {name: 3e-3 * gaussian(*shape, seed=50 + i) for i, (name, shape) in enumerate(shapes.items())}
    save(base, tmp_path / "base/model.safetensors")
    write_json(tmp_path / "base/config.json", config)
    metrics = pd.DataFrame({"step": [0, 2, 4], "pass_rate": [0.3, 0.4, 0.5]})
    for run, size in {"rlvr-s2": 1, "sft-s2": 8, "sft_rl_rate-s2": 2}.items():
        save(louder(base, update, size), tmp_path / run / "model/model.safetensors")
        states = {step: louder(base, update, size * step / 4) for step in (2, 4)}
        save_snapshots(base, states, tmp_path / run / "snapshots")
        write_parquet(tmp_path / run / "metrics.parquet", metrics)
    run_entry(
        measure_matching,
        monkeypatch,
        base=tmp_path / "base",
        rl=tmp_path / "rlvr-s2",
        sft=tmp_path / "sft-s2",
        sft_at_rl_rate=tmp_path / "sft_rl_rate-s2",
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
        "rate": "sft_rl_rate",
        "norm": "sft",
        "norm_snapshot": "sft_rl_rate",
        "kl": "sft",
        "accuracy": "sft_rl_rate",
    }
    assert sft.loc[["norm", "kl"], "scale"].to_numpy() == pytest.approx(1 / 8, rel=0.01)
    assert sft.loc["kl", "kl"] == pytest.approx(rl.loc["kl", "kl"], rel=0.01)
    assert sft.loc["as_run", "kl"] > 10 * rl.loc["as_run", "kl"] > 0
    assert sft.loc["norm_snapshot", "step"] == 2
    assert sft.loc["norm", "nss"] == pytest.approx(rl.loc["norm", "nss"], rel=0.02)
