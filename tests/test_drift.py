"""What is measured while a policy drifts from its start."""

import copy
import math

import pandas as pd
import pytest
import torch

from rlscape.catalogue import load_scale, resolve_run
from rlscape.models.build import as_decoder, build_model, snap_to_bf16_
from rlscape.training.drift import Drift, divergence, linear_matrices, probes_of, token_log_probs
from tests.synthetic import ROOT
from tests.test_trainer import guessing_model, settings_of, train

pytestmark = pytest.mark.training

SETTINGS = resolve_run(load_scale(ROOT / "config" / "smoke.yaml"), "rlvr-s0")


@pytest.fixture(scope="module")
def model():
    decoder = as_decoder(build_model(SETTINGS.base.model, 0))
    snap_to_bf16_(decoder)
    return decoder


def test_log_probabilities_are_those_of_transformers() -> None:
    stock = build_model(SETTINGS.base.model, 0)
    probes = sorted(probes_of(SETTINGS), key=lambda probe: len(probe[1]))
    expected = []
    for prompt, completion in probes:
        logits = stock(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
        expected.append(logits[len(prompt) - 1 : -1].log_softmax(-1))
    torch.testing.assert_close(token_log_probs(as_decoder(stock), probes), torch.cat(expected), rtol=0, atol=1e-5)


def test_divergence_by_hand() -> None:
    first, second = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    assert divergence(first, second) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75), abs=1e-6)
    assert divergence(second, first) != pytest.approx(divergence(first, second), abs=1e-3)
    assert divergence(first, first) == 0


def test_distances_to_the_start_and_to_the_last_measurement(model) -> None:
    drift = Drift(model, probes_of(SETTINGS))
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += 1e-3
    first, again = drift.measure(moved), drift.measure(moved)
    assert first["kl_from_start"] > 0 and first["kl_step"] == first["kl_to_start"] > 0
    assert again["kl_step"] == 0 and again["kl_from_start"] == first["kl_from_start"]


def test_size_of_the_update_counts_the_matrices_inside_the_blocks(model) -> None:
    drift = Drift(model, probes_of(SETTINGS))
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved.lm_head.weight += 1
        assert drift.size(moved) == {"x": 0.0, "sparsity": 1.0, "relative_norm": 0.0}
        for values in linear_matrices(moved).values():
            values *= 1.5
    assert drift.size(moved)["relative_norm"] == pytest.approx(0.5)
    assert drift.size(moved)["sparsity"] == 0


class Kept(dict):
    """Step -> weights."""

    def keep(self, model, step):
        self[step] = copy.deepcopy(model.state_dict())


def test_a_run_records_its_drift_and_keeps_the_weights_of_its_evaluations() -> None:
    settings, kept = settings_of("rlvr"), Kept()
    trainer = train(settings, guessing_model(settings), keeper=kept)
    updates, metrics = pd.DataFrame(trainer.updates), pd.DataFrame(trainer.metrics)
    assert (updates[["kl_from_start", "kl_to_start"]] > 0).all(axis=None)
    assert ((updates["kl_step"] > 0) == (updates["gradient_norm"] > 0)).all() and updates["kl_step"].gt(0).any()
    assert metrics["x"].iloc[0] == 0 and (metrics["x"].iloc[1:] > 0).all()
    assert list(kept) == metrics["step"].tolist()[1:]
    last = kept[settings.rl.steps]
    assert all(torch.equal(values, last[name]) for name, values in trainer.model.state_dict().items())
    assert not torch.equal(last["lm_head.weight"], kept[metrics["step"].iloc[1]]["lm_head.weight"])
