"""A stock model with the engine's forward pass: same outputs and gradients, same parameters, and no padding."""

import copy

import pytest
import torch

from rlscape.models.build import as_decoder, build_model
from rlscape.rl.packing import Packing
from rlscape.settings.base_model import ModelSettings
from rlscape.training.packed import compute_packed

pytestmark = pytest.mark.training

SETTINGS = ModelSettings(hidden_size=16, layers=2, heads=4, kv_heads=2, head_dim=8, intermediate_size=24)
MIXTURE = {"architecture": "qwen3_moe", "experts": 4, "experts_per_token": 2}
LENGTHS = torch.tensor([5, 2, 11, 8, 11, 3])
IDS = torch.randint(1, SETTINGS.vocab_size, (len(LENGTHS), 11), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(11) < LENGTHS[:, None]).long()


def beginning_alike(tokens):
    """The same sequences, but that the first so many tokens of all are those of the first."""
    ids = IDS.clone()
    ids[:, :tokens] = ids[0, :tokens].clone()
    return ids


@pytest.fixture(params=[*({"architecture": name} for name in ("qwen3", "llama", "mistral")), MIXTURE], ids=str)
def models(request):
    """The same model twice, the second one packed."""
    stock = build_model(SETTINGS.changed(**request.param), seed=0)
    packed = copy.deepcopy(stock)
    compute_packed(packed)
    return stock, packed


def log_probs(model, ids=IDS, mask=MASK):
    """Of each token after the first."""
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    return logits.gather(-1, ids[:, 1:, None])[..., 0][mask[:, 1:].bool()]


@pytest.mark.parametrize("alike", [0, 1, 4], ids="{} tokens alike".format)
def test_log_probabilities_and_gradients_are_those_of_the_stock_model(models, alike):
    lengths = LENGTHS.clamp_min(alike + 1)
    mask = (torch.arange(11) < lengths[:, None]).long()
    results = []
    for model in models:
        values = log_probs(model, beginning_alike(alike), mask)
        values.cos().sum().backward()  # every token's gradient is another
        results.append((values, {name: parameter.grad for name, parameter in model.named_parameters()}))
    (expected, stock), (found, packed) = results
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert stock.keys() == packed.keys()
    for name, gradient in stock.items():
        torch.testing.assert_close(
            packed[name],
            gradient,
            rtol=1e-4,
            atol=1e-5,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_padding_is_not_computed(models):
    _, packed = models
    other = torch.where(MASK.bool(), IDS, 0)
    assert torch.equal(log_probs(packed), log_probs(packed, other))
    wider = torch.nn.functional.pad(IDS, (0, 7)), torch.nn.functional.pad(MASK, (0, 7))
    assert torch.equal(log_probs(packed), log_probs(packed, *wider))


def test_what_all_sequences_begin_with_is_computed_once(models, monkeypatch):
    _, packed = models
    rows = []
    monkeypatch.setattr("rlscape.training.packed.Packing", lambda *parts: rows.append(Packing(*parts)) or rows[-1])
    for alike in (0, 4):
        lengths = LENGTHS.clamp_min(5)
        log_probs(packed, beginning_alike(alike), (torch.arange(11) < lengths[:, None]).long())
    apart, together = (len(batch.ids) for batch in rows)
    assert apart - together == 4 * (len(LENGTHS) - 1)


def test_without_a_mask_nothing_is_padding(models):
    stock, packed = models
    expected, found = (model(IDS).logits[:, :-1] for model in (stock, packed))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_parameters_keep_their_names_and_are_shared():
    model = build_model(SETTINGS, seed=0)
    shared = dict(as_decoder(model, shared=True).named_parameters())
    own = dict(model.named_parameters())
    assert own.keys() == shared.keys()
    assert all(own[name] is shared[name] for name in own)


def test_what_a_packed_model_cannot_compute_with_is_refused():
    model = build_model(SETTINGS, seed=0)
    compute_packed(model)
    with pytest.raises(NotImplementedError, match="nothing else: position_ids$"):
        model(IDS, position_ids=torch.arange(11)[None])
    with pytest.raises(NotImplementedError, match="nothing else: use_cache$"):
        model(IDS, use_cache=True)
