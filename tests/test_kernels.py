"""The compiled kernels against torch: values, gradients, decoding; and what happens where there is no compiler."""

import copy
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from rlscape.errors import CheckpointError
from rlscape.kernels import functions, library
from rlscape.models.build import as_decoder, build_model
from rlscape.models.functions import norm_rotate, rms_norm, rotations, to_bf16_values
from rlscape.rl.decoding import CompiledDecoding, TorchDecoding, make_decoding
from rlscape.rl.packing import Packing
from rlscape.settings.base_model import ModelSettings

pytestmark = pytest.mark.training

SHAPES = [  # heads, kv_heads, head_dim, hidden_size, intermediate_size
    (4, 2, 8, 32, 48),
    (4, 4, 16, 48, 80),
    (6, 1, 20, 96, 112),
    (9, 3, 64, 144, 256),
]


@pytest.fixture
def compiled(monkeypatch):
    """The compiled library, whatever this process uses otherwise."""
    monkeypatch.delenv(library.SWITCH, raising=False)
    library.library.cache_clear()
    yield library.library() or pytest.skip("no C++ compiler here")
    monkeypatch.undo()
    library.library.cache_clear()


@pytest.fixture
def without(monkeypatch):
    """Call it to use torch from now on."""

    def use_torch():
        monkeypatch.setenv(library.SWITCH, "torch")
        library.library.cache_clear()

    yield use_torch
    monkeypatch.undo()
    library.library.cache_clear()


def both(function, without, *arguments):
    """Results and gradients of a function of fp32 tensors, compiled, then those of torch in double precision."""
    outcomes = []
    for dtype in (torch.float32, torch.float64):
        inputs = [argument.detach().to(dtype).requires_grad_() for argument in arguments]
        result = function(*inputs)
        result.backward(torch.linspace(-1, 1, result.numel()).view(result.shape).to(dtype))
        outcomes.append([result.detach(), *(each.grad for each in inputs)])
        without()
    return zip(*outcomes, strict=True)


def assert_agree(pairs):
    for one, other in pairs:
        scale = float(other.abs().max())
        torch.testing.assert_close(one.double(), other, atol=2e-6 * scale + 1e-12, rtol=1e-5)


@pytest.mark.parametrize("size", [8, 16, 20, 97])
def test_rms_norm(compiled, without, size):
    torch.manual_seed(0)
    assert_agree(both(lambda x, w: rms_norm(x, w, 1e-6), without, torch.randn(7, size), torch.randn(size)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("normalised", [True, False])
def test_norm_and_rotation_of_a_part_of_wider_rows(compiled, without, shape, normalised):
    torch.manual_seed(0)
    heads, _, size, _, _ = shape
    cosine, sine = (table[torch.tensor([5, 0, 3])] for table in rotations(9, size, 1e4))

    def function(wide, weight):
        part = wide.unflatten(1, (-1, size))[:, :heads]
        tables = cosine.to(wide.dtype), sine.to(wide.dtype)
        return norm_rotate(part, weight if normalised else None, *tables, 1e-6) + 0 * weight

    assert_agree(both(function, without, torch.randn(3, (heads + 2) * size), torch.randn(heads, size)))


@pytest.mark.parametrize("shape", SHAPES)
def test_gated_perceptron(compiled, without, shape):
    torch.manual_seed(0)
    *_, hidden, size = shape

    def function(x, gate_up, down):
        if functions.has_kernels(x):
            assert functions.fits_lanes(hidden, size)
            return functions.GatedPerceptron.apply(x, gate_up, down)
        gate, up = F.linear(x, gate_up).chunk(2, -1)
        return F.linear(F.silu(gate) * up, down)

    arguments = torch.randn(131, hidden), torch.randn(2 * size, hidden) / 8, torch.randn(hidden, size) / 8
    assert_agree(both(function, without, *arguments))


@pytest.mark.parametrize("shape", SHAPES)
def test_attention_of_packed_completions(compiled, without, shape):
    """Long enough for several blocks of queries, and a completion of one token, which has no row."""
    torch.manual_seed(0)
    heads, kv_heads, size, _, _ = shape
    prompts, lengths = [[1] * 3, [1] * 21], (1, 2, 9, 40, 97)
    batch = Packing(prompts, [torch.ones(n, dtype=torch.long) for n in lengths], torch.tensor([1, 0, 1, 0, 1]))
    rows, ends = len(batch.ids), torch.tensor([3, 21, *(n - 1 for n in lengths)]).cumsum(0).tolist()
    mask = torch.ones(rows, rows, dtype=torch.bool).tril()
    prompts_seen = [slice(0), *(slice(3, 24), slice(0, 3)) * 2, slice(3, 24)]
    for (start, end), prompt in zip(pairwise(ends), prompts_seen, strict=True):
        own = mask[start:end, start:end].clone()
        mask[start:end] = False
        mask[start:end, start:end], mask[start:end, prompt] = own, True

    def function(q, k, v):
        if functions.has_kernels(q):
            return batch.attend(0, q, k, v)
        q, k, v = (part.transpose(0, 1) for part in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True).transpose(0, 1).flatten(1)

    arguments = torch.randn(rows, heads, size), torch.randn(rows, kv_heads, size), torch.randn(rows, kv_heads, size)
    assert_agree(both(function, without, *arguments))


def decoder(shape=SHAPES[0], architecture="qwen3"):
    heads, kv_heads, size, hidden, intermediate = shape
    settings = ModelSettings(
        architecture=architecture,
        hidden_size=hidden,
        layers=2,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=size,
        intermediate_size=intermediate,
    )
    model = as_decoder(build_model(settings, seed=0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_decoding_writes_what_torch_writes(compiled, shape, architecture, precision):
    """Contexts of several lengths, over the end of a page, and rows that are copied."""
    with torch.no_grad():
        model = decoder(shape, architecture)
        weights, exact = model.weights(precision), model.weights("fp32")
        trio = CompiledDecoding(weights, 6, 90), TorchDecoding(weights, 6, 90), TorchDecoding(exact, 6, 90)
        contexts = [[2 + (7 * i) % 20 for i in range(n)] for n in (1, 31, 40)]
        for decoding in trio:
            decoding.prefill(contexts, 1)
            decoding.move(torch.tensor([3]), torch.tensor([0]), 40)
        positions = torch.tensor([40, 1, 31, 40])
        differences, rounding = [], []
        for step in range(35):
            ids = torch.tensor([2 + (step + 3 * row) % 20 for row in range(4)])
            one, other, exact = (decoding.decode(ids, positions + step) for decoding in trio)
            differences.append((one - other).abs())
            rounding.append((other - exact).abs())
        if precision == "fp32":
            assert torch.cat(differences).max() < 1e-5
        else:  # a sum that falls on the other side of half a step moves what follows, as rounding itself does
            assert torch.equal(one, to_bf16_values(one))
            assert torch.cat(differences).mean() < 0.5 * torch.cat(rounding).mean()


def test_what_a_row_computes_does_not_depend_on_its_batch(compiled):
    with torch.no_grad():
        weights = decoder().weights()
        ids, rows = torch.tensor([3, 8, 5, 9, 4, 11, 6, 7, 2]), 9
        together = CompiledDecoding(weights, rows, 40)
        hidden = together.decode(ids, torch.zeros(rows, dtype=torch.long))
        for row in range(rows):
            alone = CompiledDecoding(weights, 1, 40)
            assert torch.equal(alone.decode(ids[row : row + 1], torch.zeros(1, dtype=torch.long))[0], hidden[row])


@pytest.mark.parametrize("alike", [0, 1, 16, 37, 40])
def test_what_all_contexts_begin_with_is_copied_and_changes_nothing(compiled, monkeypatch, alike):
    """One context is nothing but that beginning when all 40 tokens are alike."""
    contexts = [[2 + i % 20 for i in range(alike)] + [3 + row] * (40 - alike + row) for row in range(4)]
    computed = []
    forward = CompiledDecoding._forward
    monkeypatch.setattr(CompiledDecoding, "_forward", lambda *x: computed.append(len(x[1])) or forward(*x))
    with torch.no_grad():
        weights = decoder().weights()
        together, alone = (CompiledDecoding(weights, 5, 60) for _ in range(2))
        together.prefill(contexts, 1)
        for row, context in enumerate(contexts, start=1):
            alone.prefill([context], row)
        assert torch.equal(together.cache, alone.cache)
    pages = alike // compiled.panel() * compiled.panel()
    assert sum(computed[:-4]) == sum(map(len, contexts)) - 3 * pages


def test_a_model_that_has_diverged_says_so(compiled):
    for precision in ("fp32", "bf16"):
        model = decoder()
        with torch.no_grad():
            model.model.layers[0].mlp.down_proj.weight[3, 5] = torch.nan
            decoding = CompiledDecoding(model.weights(precision), 1, 40)
            hidden = decoding.decode(torch.tensor([3]), torch.tensor([0]))
        assert hidden.isnan().all()


def test_nor_does_what_the_perceptron_makes_of_it(compiled):
    torch.manual_seed(0)
    hidden, size = 3 * compiled.lanes(), 5 * compiled.lanes()
    x, gate_up, down = torch.randn(130, hidden), torch.randn(2 * size, hidden), torch.randn(hidden, size)
    together = functions.GatedPerceptron.apply(x, gate_up, down)
    for rows in (1, 2, 3, 4, 5, 7, 13):
        assert torch.equal(functions.GatedPerceptron.apply(x[:rows], gate_up, down), together[:rows])


@pytest.mark.parametrize(("token", "position", "slot"), [(64, 0, 0), (-1, 0, 0), (3, 64, 0), (3, 0, 2)])
def test_what_is_out_of_range_is_refused(compiled, token, position, slot):
    with torch.no_grad():
        weights = decoder().weights()
        assert weights.config.vocab_size == 64
        decoding = CompiledDecoding(weights, 2, 40)
        with pytest.raises(IndexError, match="out of range: the model has 64 tokens, the cache 2 rows of"):
            decoding._forward(torch.tensor([token]), torch.tensor([position]), torch.tensor([slot]))


def test_a_model_in_double_precision_is_left_to_torch(compiled):
    assert isinstance(make_decoding(decoder().double().weights(), 2, 8), TorchDecoding)


def test_a_cache_goes_on_from_its_state(compiled):
    with torch.no_grad():
        weights, position = decoder().weights(), torch.tensor([2, 2])
        first, second = CompiledDecoding(weights, 4, 40), CompiledDecoding(weights, 4, 40)
        first.prefill([[2, 3], [4, 5]], 0)
        second.load_state_dict(copy.deepcopy(first.state_dict(2)))
        ids = torch.tensor([6, 7])
        assert torch.equal(first.decode(ids, position), second.decode(ids, position))


def test_who_decodes(compiled, without):
    weights = decoder().weights()
    assert isinstance(make_decoding(weights, 2, 8), CompiledDecoding)
    without()
    assert isinstance(make_decoding(weights, 2, 8), TorchDecoding)


def test_more_positions_than_the_model_has_are_refused():
    with pytest.raises(CheckpointError, match="900 tokens.*max_position_embeddings: 512; lower thinking_tokens"):
        make_decoding(decoder().weights(), 2, 900)


def in_a_process(environment, cache: Path) -> subprocess.CompletedProcess:
    code = "from rlscape.kernels.library import kernels_in_use as used; print(used('cpu'))"
    variables = {"PATH": "", "HOME": str(cache), "XDG_CACHE_HOME": str(cache)} | environment
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)


def test_without_a_compiler_torch_is_used_with_one_line_that_says_why(tmp_path):
    done = in_a_process({}, tmp_path)
    assert done.stdout == "torch\n" and "no C++ compiler" in done.stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RLSCAPE_KERNELS": "compiled"}, "RLSCAPE_KERNELS=compiled: no C.. compiler"),
        ({"RLSCAPE_KERNELS": "fast"}, "RLSCAPE_KERNELS=fast: use auto, compiled or torch"),
        ({"RLSCAPE_KERNELS": "compiled", "CXX": "/bin/false"}, "/bin/false.* failed"),
        ({"RLSCAPE_KERNELS": "compiled", "CXX": "no-such-compiler -m64"}, "there is no no-such-compiler"),
        ({"RLSCAPE_KERNELS": "compiled", "CXX": "g++ '"}, "CXX=g.. ': No closing quotation"),
        (
            {"RLSCAPE_KERNELS": "compiled", "CXX": "/bin/true", "XDG_CACHE_HOME": "/proc"},
            "/proc/rlscape: .*set XDG_CACHE_HOME to a directory that can be written",
        ),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(environment, message, tmp_path):
    done = in_a_process(environment, tmp_path)
    assert done.returncode and not list(tmp_path.rglob("*.so"))
    assert re.search(message, done.stderr)


def test_the_library_is_compiled_once_and_loaded_by_the_next_process(compiled, tmp_path):
    compiler = {"PATH": os.environ["PATH"]}
    made = in_a_process(compiler, tmp_path).stdout
    assert re.fullmatch("compiled-[0-9a-f]{12}\n", made)
    (file,) = tmp_path.rglob("*.so")
    stamp = file.stat().st_mtime_ns
    assert in_a_process({"PATH": ""}, tmp_path).stdout == made
    assert file.stat().st_mtime_ns == stamp
