"""The plane through two models: coordinates, projection, and the command on small models."""

import json

import pandas as pd
import pytest
import torch

from rlscape.catalogue import resolve_run
from rlscape.errors import CheckpointError
from rlscape.geometry.landscape import Plane, measure_grid, project_path
from rlscape.models.build import build_model, load_decoder, save_model
from rlscape.pipeline.measure_landscape import measure_landscape
from rlscape.settings.measurement import LandscapeSettings
from rlscape.training.drift import probes_of, token_log_probs
from tests.entries import run_entry
from tests.synthetic import small_config
from tests.tuned_models import save_snapshots


def weights(*values: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(values[:2]), "v": torch.tensor([values[2:]])}


BASE, FIRST, SECOND = weights(1, 1, 0, 0), weights(3, 1, 0, 0), weights(2, 2, 0, 0)


def test_models_of_the_plane_have_their_coordinates():
    plane = Plane(BASE, FIRST, SECOND)
    assert plane.cosine == pytest.approx(2**-0.5) and plane.norms == pytest.approx((2, 2**0.5))
    for name, corner in {(1, 0): FIRST, (0, 1): SECOND, (0, 0): BASE}.items():
        for tensor, values in plane.at(*name).items():
            torch.testing.assert_close(values, corner[tensor])
    a, b, norm, in_plane = plane.project(plane.at(0.3, -0.7))
    assert (a, b) == pytest.approx((0.3, -0.7)) and in_plane == pytest.approx(1)
    assert norm == pytest.approx((0.1**2 + 0.7**2) ** 0.5, abs=1e-6)


def test_a_model_outside_is_projected_orthogonally():
    a, b, norm, in_plane = Plane(BASE, FIRST, SECOND).project(weights(2, 2, 3, 4))
    assert (a, b) == pytest.approx((0, 1)) and norm == pytest.approx(27**0.5) and in_plane == pytest.approx(2 / 27)


@pytest.mark.parametrize("other", [BASE, weights(-3, 1, 0, 0)])
def test_updates_that_span_no_plane_are_refused(other):
    with pytest.raises(CheckpointError, match="span no plane"):
        Plane(BASE, FIRST, other)


def test_grid_and_path():
    plane = Plane(BASE, FIRST, SECOND)
    path = project_path(plane, [(5, plane.at(0.5, 2)), (10, FIRST)])
    assert path["step"].tolist() == [0, 5, 10] and path["a"].tolist() == pytest.approx([0, 0.5, 1])
    settings = LandscapeSettings(points=3, low=-1, high=1.5)
    grid = measure_grid(plane, lambda model: {"first": float(model["w"][0])}, settings, path)
    assert len(grid) == 9 and grid["a"].max() == 1.5
    assert grid["b"].max() == pytest.approx(2.1)  # beyond the path's turn
    assert grid["first"].tolist() == pytest.approx((1 + 2 * grid["a"] + grid["b"]).tolist())


def test_command_measures_the_corners(tmp_path, monkeypatch):
    settings = resolve_run(small_config(tmp_path), "rlvr-s0")
    models = {}
    for name, seed in {"base": 0, "sft": 1, "rl": 2}.items():
        model = build_model(settings.base.model, seed)
        models[name] = model.state_dict()
        save_model(model, tmp_path / name)
    for run in ("sft", "rl"):
        half = {name: (values + models[run][name]) / 2 for name, values in models["base"].items()}
        save_snapshots(models["base"], {3: half, 6: models[run]}, tmp_path / run / "snapshots")
    run_entry(
        measure_landscape,
        monkeypatch,
        base=tmp_path / "base",
        sft=tmp_path / "sft",
        rl=tmp_path / "rl",
        settings=settings.model_dump_json(),
        geometry=json.dumps(
            {"rank_fraction": 0.25, "null_draws": 1, "landscape": {"points": 3, "low": 0, "high": 2, "traces": 4}}
        ),
        output=tmp_path / "landscape.parquet",
    )
    frame = pd.read_parquet(tmp_path / "landscape.parquet")
    path = frame[frame.kind == "path"].set_index(["run", "step"])
    assert path.loc[("sft", 3), ["a", "b"]].tolist() == pytest.approx([0.5, 0], abs=1e-6)
    assert path.loc[("rl", 6), ["a", "b"]].tolist() == pytest.approx([0, 1], abs=1e-6)
    grid = frame[frame.kind == "grid"].set_index(["a", "b"])
    for corner, name in {(0.0, 0.0): "base", (1.0, 0.0): "sft", (0.0, 1.0): "rl"}.items():
        nll, reward = likelihood(tmp_path / name, probes_of(settings.changed(drift_prompts=4)))
        assert grid.loc[corner, "nll"] == pytest.approx(nll, rel=1e-4)
        assert grid.loc[corner, "reward"] == pytest.approx(reward, rel=1e-3)


def likelihood(model, probes) -> tuple[float, float]:
    """NLL per token and mean probability of a trace, one trace at a time."""
    decoder = load_decoder(model)
    traces = [token_log_probs(decoder, [probe]).gather(-1, torch.tensor(probe[1])[:, None]) for probe in probes]
    return -float(torch.cat(traces).mean()), float(torch.stack([trace.sum().exp() for trace in traces]).mean())
