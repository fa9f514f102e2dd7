"""The engine's decoder against ``transformers``' models: outputs, gradients, packing, decoding with the cache."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from rlscape.errors import CheckpointError
from rlscape.models.build import as_decoder, build_model, load_decoder, load_model, save_model, save_trained
from rlscape.models.decoder import MixtureWeights
from rlscape.models.functions import rms_norm, rotate, rotations, swiglu, to_bf16_values
from rlscape.rl.cache import SlotCache
from rlscape.rl.optimizer import AdamW
from rlscape.rl.packing import Packing
from rlscape.rl.policy import completion_log_probs
from rlscape.settings.base_model import ModelSettings
from rlscape.tasks.vocabulary import TOKENS

pytestmark = pytest.mark.training

ARCHITECTURES = ("qwen2", "qwen3", "qwen3_moe", "llama", "mistral")
PROMPTS = [[5, 7, 9, 2, 11], [4, 3, 8, 6, 10, 12, 2, 9, 5], [13, 3, 3]]
PROMPT_OF = torch.tensor([2, 0, 1, 1, 0, 2, 1])
LENGTHS = (1, 3, 4, 8, 9, 12, 15)


def stock_model(architecture, seed=0):
    """A ``transformers`` model far from its initialisation, norm weights included."""
    settings = ModelSettings(
        architecture=architecture,
        hidden_size=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=8,
        intermediate_size=48,
        experts=5 if architecture == "qwen3_moe" else None,
        experts_per_token=2 if architecture == "qwen3_moe" else None,
    )
    model = build_model(settings, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def completions():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(2, len(TOKENS), (n,), generator=generator) for n in LENGTHS]


def stock_log_probs(model, prompt, completion):
    ids = torch.tensor(prompt + completion.tolist())[None]
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, completion[:, None])[:, 0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("block", [2, 32])
def test_packed_log_probs_and_gradients_equal_those_of_transformers(architecture, block, monkeypatch):
    monkeypatch.setattr("rlscape.rl.packing.BLOCK", block)
    stock = stock_model(architecture)
    ours = as_decoder(stock)
    if architecture != "qwen3_moe":  # transformers' experts have no product in fp64
        stock.double()
    batch = Packing(PROMPTS, completions(), PROMPT_OF)
    every = torch.ones(len(batch.targets), dtype=torch.bool)
    log_probs = completion_log_probs(ours, batch, every, "fp32", 1.0)
    expected = torch.cat(
        [
            stock_log_probs(stock, PROMPTS[prompt], completion)
            for prompt, completion in zip(PROMPT_OF.tolist(), completions(), strict=True)
        ]
    )
    torch.testing.assert_close(log_probs.double(), expected.double(), atol=1e-5, rtol=0)
    weights = torch.randn(len(log_probs), generator=torch.Generator().manual_seed(2))
    (weights * log_probs).sum().backward()
    (weights * expected).sum().backward()
    for (name, mine), (other, theirs) in zip(ours.named_parameters(), stock.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(
            mine.grad.double(), theirs.grad.double(), atol=5e-5, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_a_packed_prompt_is_computed_once_and_last_tokens_not_at_all():
    batch = Packing(PROMPTS, completions(), PROMPT_OF)
    assert len(batch.ids) == sum(map(len, PROMPTS)) + sum(LENGTHS) - len(LENGTHS)
    assert len(batch.targets) == sum(LENGTHS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_decoding_with_the_cache_equals_a_full_forward_pass(architecture):
    """Rows of different lengths, copied prompts, and a row that moves in between."""
    stock = stock_model(architecture)
    weights = as_decoder(stock).weights()
    config = weights.config
    cache = SlotCache(config.num_hidden_layers, 6, config.num_key_value_heads, 32, config.head_dim)
    contexts = torch.tensor([[5, 7, 9, 2], [4, 3, 0, 0]])
    sequences = [[5, 7, 9, 2], [4, 3], [5, 7, 9, 2], [4, 3]]
    with torch.no_grad():
        weights.hidden_states(contexts.flatten(), torch.arange(4).repeat(2), cache.prefill(2, 0))
        cache.move(torch.tensor([0, 1]), torch.tensor([2, 3]), 4)
        for step in range(5):
            ids = torch.tensor([2 + (3 * step + row) % 20 for row in range(len(sequences))])
            positions = torch.tensor([len(sequence) for sequence in sequences])
            hidden = weights.hidden_states(ids, positions, cache.decode(positions))
            for row, sequence in enumerate(sequences):
                sequence.append(int(ids[row]))
                expected = stock.model(input_ids=torch.tensor([sequence])).last_hidden_state[0, -1]
                torch.testing.assert_close(hidden[row], expected, atol=2e-5, rtol=1e-4)
            if step == 2:  # the second sequence leaves, the last takes its row
                cache.move(torch.tensor([3]), torch.tensor([1]), len(sequences[3]))
                sequences[1] = sequences.pop()


def check_gradients(ours, plain, *arguments):
    """Values and gradients of two functions of the same arguments agree."""
    mine = [argument.clone().requires_grad_() for argument in arguments]
    theirs = [argument.clone().requires_grad_() for argument in arguments]
    result, expected = ours(*mine), plain(*theirs)
    torch.testing.assert_close(result, expected)
    weights = torch.randn(result.shape)
    (weights * result).sum().backward()
    (weights * expected).sum().backward()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)


def test_written_out_gradients_equal_those_of_autograd():
    torch.manual_seed(0)

    def plain_norm(x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weight

    check_gradients(lambda x, w: rms_norm(x, w, 1e-6), plain_norm, torch.randn(7, 16), torch.randn(16))
    check_gradients(lambda x, w: rms_norm(x, w, 1e-6), plain_norm, torch.randn(7, 3, 8), torch.randn(3, 8))
    check_gradients(swiglu, lambda x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1], torch.randn(7, 32))
    cosine, sine = rotations(7, 8, 10000.0)

    def plain_rotation(x):
        return x * cosine + torch.cat((-x[..., 4:], x[..., :4]), -1) * sine[..., 4:].repeat(1, 1, 2)

    check_gradients(lambda x: rotate(x, cosine, sine), plain_rotation, torch.randn(7, 3, 8))


def test_an_expert_that_no_token_is_sent_to_has_a_gradient_of_zero():
    """With one token at most two of the experts are used; the optimiser expects a gradient for every parameter."""
    weights = MixtureWeights(*(torch.randn(shape) for shape in ((5, 8), (5, 12, 8), (5, 8, 6))), experts_per_token=2)
    for weight in (weights.router, weights.gate_up, weights.down):
        weight.requires_grad_()
    weights(torch.randn(1, 8), lambda x: x).sum().backward()
    for weight in (weights.gate_up, weights.down):
        assert (weight.grad.flatten(1).abs().sum(1) > 0).sum() == 2


def test_bf16_precision_rounds_what_a_mixture_of_transformers_in_bf16_stores():
    """Up to the gated product, which is rounded once here; sums in another order round differently now and then."""
    stock = stock_model("qwen3_moe")
    mixture = as_decoder(stock).model.layers[0].mlp
    theirs = stock.model.layers[0].mlp.bfloat16()
    theirs.experts._apply_gate = lambda gate_up: swiglu(gate_up.float()).bfloat16()
    x = torch.randn(200, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        rounded = mixture.weights(to_bf16_values)(x.float(), to_bf16_values)
        exact = mixture.weights(lambda value: value)(x.float(), lambda value: value)
        expected = theirs(x[None])[0].float()
    assert (rounded == expected).float().mean() > 0.95
    assert (to_bf16_values(exact) == expected).float().mean() < 0.5, "rounding the result alone is not the same"


def test_active_parameters():
    dense, mixture = (as_decoder(stock_model(architecture)) for architecture in ("qwen3", "qwen3_moe"))
    attention, perceptron, norms = 32 * (4 + 2 + 2 + 4) * 8, 3 * 32 * 48, 2 * 32 + 2 * 8
    shared = 2 * 64 * 32 + 32
    assert dense.active_parameters == shared + 2 * (attention + perceptron + norms)
    assert mixture.active_parameters == shared + 2 * (attention + 2 * perceptron + 5 * 32 + norms)
    assert sum(map(torch.numel, mixture.parameters())) == mixture.active_parameters + 2 * 3 * perceptron


@pytest.mark.parametrize("architecture", ["qwen3", "qwen3_moe"])
def test_a_trained_model_is_saved_as_a_checkpoint_of_transformers(architecture, tmp_path):
    stock = stock_model(architecture)
    save_model(stock, tmp_path / "base")
    for record in ("base.json", "evaluation.json"):
        (tmp_path / "base" / record).write_text("{}")
    decoder = load_decoder(tmp_path / "base")
    with torch.no_grad():
        decoder.lm_head.weight.add_(1.0)
    save_trained(decoder, tmp_path / "base", tmp_path / "trained")
    base, trained = ({file.name for file in (tmp_path / name).iterdir()} for name in ("base", "trained"))
    assert base - trained == {"base.json", "evaluation.json"}
    loaded = load_model(tmp_path / "trained")
    torch.testing.assert_close(loaded.lm_head.weight, stock.lm_head.weight + 1.0)
    assert torch.equal(loaded.model.embed_tokens.weight, stock.model.embed_tokens.weight)


@pytest.mark.parametrize(
    ("architecture", "old", "new", "message"),
    [
        (
            "qwen3",
            '"qwen3"',
            '"gpt2"',
            r"model_type: .*\(found 'gpt2'\); the engine knows llama, mistral, qwen2, qwen3, qwen3_moe",
        ),
        ("llama", '"mlp_bias": false', '"mlp_bias": true', "mlp_bias: .*True"),
        ("qwen3", '"rope_type": "default"', '"rope_type": "yarn"', "rope_type: .*'default', 'linear' or.*'yarn'"),
        ("qwen3", '"rope_type": "default"', '"rope_type": "llama3"', "needs factor, high_freq_factor, low_freq_factor"),
        ("mistral", '"sliding_window": 4096', '"sliding_window": 128', "sliding_window: a window shorter"),
        ("qwen3", '"head_dim": 8', '"head_dim": 9', "head_dim: .* multiple of 2"),
        (
            "qwen3",
            '"num_key_value_heads": 2',
            '"num_key_value_heads": 3',
            "num_key_value_heads: .*not a multiple of it",
        ),
        ("qwen3_moe", '"norm_topk_prob": true', '"norm_topk_prob": false', "norm_topk_prob: .*False"),
        ("qwen3_moe", '"decoder_sparse_step": 1', '"decoder_sparse_step": 2', "decoder_sparse_step: .*2"),
        ("qwen3_moe", '"mlp_only_layers": []', '"mlp_only_layers": [0]', r"mlp_only_layers: .*\[0\]"),
        ("qwen3_moe", '"num_local_experts": 5,', "", "num_local_experts: Field required"),
    ],
)
def test_a_model_that_the_engine_cannot_run_is_refused_by_file_and_key(tmp_path, architecture, old, new, message):
    save_model(stock_model(architecture), tmp_path)
    config = tmp_path / "config.json"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(CheckpointError, match=f"config.json: .*{message}"):
        load_decoder(tmp_path)


def test_the_fused_optimizer_equals_that_of_torch_bit_for_bit():
    torch.manual_seed(0)
    mine = [torch.nn.Parameter(torch.randn(5, 4)), torch.nn.Parameter(torch.randn(7))]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in mine]
    ours = AdamW(mine, betas=(0.9, 0.99), epsilon=1e-15, weight_decay=0.01)
    reference = torch.optim.AdamW(theirs, betas=(0.9, 0.99), eps=1e-15, weight_decay=0.01, fused=True)
    for learning_rate in (1e-3, 2e-3, 3e-3):
        for parameter, other in zip(mine, theirs, strict=True):
            parameter.grad = torch.randn_like(parameter)
            other.grad = parameter.grad.clone()
        ours.step(learning_rate)
        reference.param_groups[0]["lr"] = learning_rate
        reference.step()
    assert all(torch.equal(parameter, other) for parameter, other in zip(mine, theirs, strict=True))


def test_the_engine_needs_neither_transformers_nor_pandas_nor_the_compiler():
    """What makes a job slow to start, up to and including an update."""
    code = (
        "import sys, torch, rlscape.rl.trainer\n"
        "from rlscape.rl.optimizer import AdamW\n"
        "parameter = torch.ones(3, requires_grad=True)\n"
        "parameter.grad = torch.ones(3)\n"
        "AdamW([parameter], (0.9, 0.99), 1e-8, 0.0).step(0.1)\n"
        "print({'transformers', 'pandas', 'scipy', 'trl', 'torch._dynamo'} & sys.modules.keys())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "set()\n"
