"""Adapters in the engine against ``peft`` and the SVD: starts, forward passes, gradients, dropout, merged models."""

import copy

import pytest
import torch
from torch import nn

from rlscape.errors import CheckpointError, ConfigError
from rlscape.models.build import load_decoder, load_model, save_model, save_trained
from rlscape.models.decoder import Linear
from rlscape.rl.optimizer import AdamW
from rlscape.rl.packing import Packing
from rlscape.rl.policy import completion_log_probs, head_logits
from rlscape.settings.training import AdapterSettings
from rlscape.training.adapters import Adapted, AdaptedWithDropout, attach, merge
from tests.test_decoder import PROMPT_OF, PROMPTS, completions, stock_model

pytestmark = pytest.mark.training

KINDS = ("lora", "pissa", "milora", "subspace")
RANK = 4


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("base")
    save_model(stock_model("qwen3"), directory)
    return directory


def adapter(kind, **changes):
    return AdapterSettings(kind=kind, rank=RANK).changed(**changes)


def adapted_modules(decoder):
    return {name: module for name, module in decoder.named_modules() if isinstance(module, Adapted)}


@torch.no_grad()
def disturb(decoder):
    """As after training: both factors have moved."""
    generator = torch.Generator().manual_seed(5)
    for module in adapted_modules(decoder).values():
        for factor in (module.A, module.B):
            factor.add_(0.1 * torch.randn(factor.shape, generator=generator))


def log_probs(decoder):
    batch = Packing(PROMPTS, completions(), PROMPT_OF)
    every = torch.ones(len(batch.targets), dtype=torch.bool)
    return completion_log_probs(decoder, batch, every, "fp32", 1.0)


def logits(decoder, ids):
    """Of one sequence, but for its last token."""
    batch = Packing([ids[:1]], [torch.tensor(ids[1:])], torch.tensor([0]))
    hidden = decoder.weights().hidden_states(batch.ids, batch.positions, batch.attend)
    return head_logits(hidden, decoder.lm_head.weight, "fp32", 1.0)


IDS = [5, 7, 9, 2, 11, 4, 3, 8, 6, 10]


def peft_model(base, settings, decoder):
    """The same adapters as ``peft`` computes with them, our factors copied over the ones it starts with."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.rank,
        lora_dropout=settings.dropout,
        init_lora_weights="pissa" if settings.kind == "pissa" else True,
        target_modules="all-linear",
    )
    model = get_peft_model(load_model(base), config)
    with torch.no_grad():
        for name, module in adapted_modules(decoder).items():
            theirs = model.get_submodule(f"base_model.model.{name}")
            theirs.lora_A["default"].weight.copy_(module.A)
            theirs.lora_B["default"].weight.copy_(module.B)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_adapters_leave_every_weight_as_it_was(base, kind):
    plain = load_decoder(base)
    decoder = attach(base, adapter(kind), seed=0)
    assert len(adapted_modules(decoder)) == 7 * 2
    torch.testing.assert_close(log_probs(decoder), log_probs(plain), atol=0, rtol=0)
    merged = merge(decoder).state_dict()
    assert merged.keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(merged[name], value), name


@pytest.mark.parametrize("kind", ["lora", "pissa"])
def test_the_engine_computes_with_adapters_as_peft_does(base, kind):
    settings = adapter(kind)
    decoder = attach(base, settings, seed=0)
    untrained = logits(decoder, IDS)
    for trained in (False, True):
        if trained:
            disturb(decoder)
        ours = logits(decoder, IDS)
        with torch.no_grad():
            theirs = peft_model(base, settings, decoder).eval()(input_ids=torch.tensor([IDS[:-1]])).logits[0]
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    assert (ours - untrained).abs().max() > 0.1, "the change of the factors must be seen"


def test_pissa_starts_from_the_largest_singular_components_and_milora_from_the_smallest(base):
    pissa, milora = (adapted_modules(attach(base, adapter(kind), seed=0)) for kind in ("pissa", "milora"))
    stock = load_model(base)
    for name, module in pissa.items():
        weight = stock.get_submodule(name).weight.detach()
        U, S, V = torch.linalg.svd(weight, full_matrices=False)
        for found, part in ((module, slice(None, RANK)), (milora[name], slice(len(S) - RANK, None))):
            component = (U[:, part] * S[part]) @ V[part]
            torch.testing.assert_close(found.B @ found.A, component, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(found.B.norm(dim=0), S[part].sqrt(), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(found.A.norm(dim=1), S[part].sqrt(), atol=1e-5, rtol=1e-4)


def test_a_random_subspace_has_the_factor_norms_of_pissa_and_none_of_its_directions(base):
    pissa, subspace = (adapted_modules(attach(base, adapter(kind), seed=0)) for kind in ("pissa", "subspace"))
    cosines = []
    for name, module in subspace.items():
        gram, expected = module.A @ module.A.T, pissa[name].A @ pissa[name].A.T
        torch.testing.assert_close(gram, expected, atol=1e-5, rtol=1e-4)
        cosines.append(nn.functional.cosine_similarity(module.A, pissa[name].A).abs())
    assert torch.cat(cosines).mean() < 0.4


def test_lora_starts_at_zero_from_a_random_projection_of_the_seed(base):
    first, again, other = (adapted_modules(attach(base, adapter("lora"), seed=seed)) for seed in (0, 0, 1))
    for name, module in first.items():
        assert not module.B.any()
        assert torch.equal(module.A, again[name].A)
        assert not torch.equal(module.A, other[name].A)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_only_the_factors_have_a_gradient_and_only_they_move(base, dropout):
    decoder = attach(base, adapter("pissa", dropout=dropout), seed=0)
    before = copy.deepcopy(decoder.state_dict())
    trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    optimizer = AdamW(trained, betas=(0.9, 0.999), epsilon=1e-15, weight_decay=0.0)
    log_probs(decoder).sum().backward()
    with_gradient = {name for name, parameter in decoder.named_parameters() if parameter.grad is not None}
    factors = {f"{name}.{factor}" for name in adapted_modules(decoder) for factor in "AB"}
    assert with_gradient == factors
    optimizer.step(1e-3)
    moved = {name for name, value in decoder.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if not name.endswith("_extra_state")} == factors


def test_gradients_of_the_factors_are_those_of_peft(base):
    settings = adapter("pissa")
    decoder = attach(base, settings, seed=0)
    disturb(decoder)
    model = peft_model(base, settings, decoder)
    weights = torch.randn(len(IDS) - 1, 64, generator=torch.Generator().manual_seed(0))
    (weights * logits(decoder, IDS)).sum().backward()
    (weights * model(input_ids=torch.tensor([IDS[:-1]])).logits[0]).sum().backward()
    for name, module in adapted_modules(decoder).items():
        theirs = model.get_submodule(f"base_model.model.{name}")
        torch.testing.assert_close(module.A.grad, theirs.lora_A["default"].weight.grad, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(module.B.grad, theirs.lora_B["default"].weight.grad, atol=1e-4, rtol=1e-3)


class Mask(nn.Module):
    """A dropout whose outcome is given."""

    def __init__(self, kept):
        super().__init__()
        self.kept = kept

    def forward(self, x):
        return x * self.kept


@pytest.mark.parametrize("kind", ["lora", "pissa"])
def test_dropout_is_that_of_peft(base, kind):
    """With our draws in the place of its own."""
    settings = adapter(kind, dropout=0.3)
    decoder = attach(base, settings, seed=0)
    disturb(decoder)
    model = peft_model(base, settings, decoder).train()
    for name, module in adapted_modules(decoder).items():
        generator = torch.Generator()
        generator.set_state(module.random.get_state())
        kept = torch.empty(len(IDS) - 1, module.A.shape[1]).bernoulli_(0.7, generator=generator) / 0.7
        model.get_submodule(f"base_model.model.{name}").lora_dropout["default"] = Mask(kept)
    ours = logits(decoder, IDS)
    torch.testing.assert_close(ours, model(input_ids=torch.tensor([IDS[:-1]])).logits[0], atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        undropped = logits(decoder, IDS)
        torch.testing.assert_close(undropped, logits(merge(decoder), IDS), atol=1e-5, rtol=1e-4)
    assert (ours - undropped).abs().max() > 1e-2
    assert (ours - logits(decoder, IDS)).abs().max() > 1e-2, "every pass has its own draws"


def test_dropout_keeps_the_mean_of_a_product():
    generator = torch.Generator().manual_seed(0)
    weight, A, B, x = (torch.randn(shape, generator=generator) for shape in ((6, 5), (2, 5), (6, 2), (1, 5)))
    matrix = Linear(5, 6)
    with torch.no_grad():
        matrix.weight.copy_(weight)
        module = AdaptedWithDropout(matrix, (A, B), rate=0.5, seed=0)
        mean = module.product(x.expand(40_000, -1)).mean(0)
    torch.testing.assert_close(mean, weight @ x[0], atol=0.1, rtol=0)


def test_draws_of_dropout_go_on_where_a_state_was_taken(base):
    settings = adapter("lora", dropout=0.3)
    decoder = attach(base, settings, seed=0)
    disturb(decoder)
    log_probs(decoder)
    resumed = attach(base, settings, seed=0)
    resumed.load_state_dict(copy.deepcopy(decoder.state_dict()))
    assert torch.equal(log_probs(resumed), log_probs(decoder))


def test_a_merged_model_is_a_checkpoint_of_transformers(base, tmp_path):
    decoder = attach(base, adapter("pissa"), seed=0)
    disturb(decoder)
    save_trained(merge(decoder), base, tmp_path)
    with torch.no_grad():
        stock = load_model(tmp_path)(input_ids=torch.tensor([IDS[:-1]])).logits[0]
        torch.testing.assert_close(logits(decoder, IDS), stock, atol=2e-5, rtol=1e-4)


def test_a_copy_takes_over_the_weights_of_another_adapted_decoder(base):
    """As the generator does before and after each update."""
    decoder = attach(base, adapter("milora"), seed=0)
    generator = copy.deepcopy(decoder)
    disturb(decoder)
    assert not torch.equal(log_probs(generator), log_probs(decoder))
    generator.load_state_dict(decoder.state_dict())
    assert torch.equal(log_probs(generator), log_probs(decoder))
    rounded = generator.weights("bf16").layers[0].qkv
    assert torch.equal(rounded, rounded.bfloat16().float())


def test_what_has_no_adapters_is_refused(base, tmp_path):
    save_model(stock_model("qwen3_moe"), tmp_path)
    with pytest.raises(CheckpointError, match=f"{tmp_path}: a mixture of experts"):
        attach(tmp_path, adapter("lora"), seed=0)
    with pytest.raises(ConfigError, match="adapter.rank: 17 exceeds 16"):
        attach(base, adapter("pissa", rank=17), seed=0)
