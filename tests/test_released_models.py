"""Checkpoints as others release them: families and shapes, shards in bf16, tied heads, and what is refused."""

import copy
import importlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlscape.errors import CheckpointError
from rlscape.geometry.checkpoints import stream_pair
from rlscape.geometry.snapshots import read_snapshot
from rlscape.kernels.library import library
from rlscape.models.build import as_decoder, load_decoder, load_model, save_trained
from rlscape.models.config import DecoderConfig
from rlscape.models.decoder import Decoder
from rlscape.models.functions import Rotations, rotations
from rlscape.models.snapshot_files import snapshot_file
from rlscape.models.weight_files import tensors_of
from rlscape.rl.decoding import CompiledDecoding, TorchDecoding, make_decoding
from rlscape.rl.packing import Packing
from rlscape.rl.policy import completion_log_probs
from rlscape.settings.training import AdapterSettings
from rlscape.training.adapters import attach, merge
from rlscape.training.rl import make_trainer
from rlscape.training.snapshots import Snapshots
from tests.test_decoder import PROMPT_OF, PROMPTS, completions, stock_log_probs
from tests.test_trainer import settings_of
from tests.tuned_models import assert_change_kept

pytestmark = pytest.mark.training

LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
FAMILIES = {
    "llama": ("Llama", {}),
    "llama_tied": ("Llama", {"tie_word_embeddings": True}),
    "llama_scaled": ("Llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3}}),
    "llama_stretched": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}),
    "llama_biased": ("Llama", {"attention_bias": True}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"tie_word_embeddings": True}),
    "mistral": ("Mistral", {}),
}
SMOLLM2 = dict(  # 135M
    model_type="llama",
    attention_bias=False,
    hidden_act="silu",
    hidden_size=576,
    intermediate_size=1536,
    max_position_embeddings=8192,
    num_attention_heads=9,
    num_hidden_layers=30,
    num_key_value_heads=3,
    rms_norm_eps=1e-05,
    rope_scaling=None,
    rope_theta=100000,
    tie_word_embeddings=True,
    torch_dtype="bfloat16",
    vocab_size=49152,
)
QWEN25 = dict(  # 0.5B
    model_type="qwen2",
    hidden_act="silu",
    hidden_size=896,
    intermediate_size=4864,
    max_position_embeddings=32768,
    max_window_layers=24,
    num_attention_heads=14,
    num_hidden_layers=24,
    num_key_value_heads=2,
    rms_norm_eps=1e-06,
    rope_theta=1000000.0,
    sliding_window=32768,
    tie_word_embeddings=True,
    use_sliding_window=False,
    vocab_size=151936,
)
QWEN3 = dict(  # 0.6B
    model_type="qwen3",
    attention_bias=False,
    head_dim=128,
    hidden_act="silu",
    hidden_size=1024,
    intermediate_size=3072,
    max_position_embeddings=40960,
    max_window_layers=28,
    num_attention_heads=16,
    num_hidden_layers=28,
    num_key_value_heads=8,
    rms_norm_eps=1e-06,
    rope_scaling=None,
    rope_theta=1000000,
    sliding_window=None,
    tie_word_embeddings=True,
    use_sliding_window=False,
    vocab_size=151936,
)
LLAMA32 = dict(  # 1B
    model_type="llama",
    attention_bias=False,
    head_dim=64,
    hidden_act="silu",
    hidden_size=2048,
    intermediate_size=8192,
    max_position_embeddings=131072,
    mlp_bias=False,
    num_attention_heads=32,
    num_hidden_layers=16,
    num_key_value_heads=8,
    rms_norm_eps=1e-05,
    rope_scaling={**LLAMA3, "factor": 32.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    rope_theta=500000.0,
    tie_word_embeddings=True,
    vocab_size=128256,
)
RELEASES = [(SMOLLM2, 134_515_008), (QWEN25, 494_032_768), (QWEN3, 596_049_920), (LLAMA32, 1_235_814_400)]


def released(name, directory):
    """A random model of a family, saved in bf16 and in shards to ``directory``, as ``transformers`` reads it."""
    family, changes = FAMILIES[name]
    module = importlib.import_module(f"transformers.models.{family.lower()}.modeling_{family.lower()}")
    shape = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, max_position_embeddings=600)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=8, initializer_range=0.2)
    plain = dict(tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    config = getattr(module, f"{family}Config")(**(shape | heads | plain | changes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(module, f"{family}ForCausalLM")(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    model.bfloat16().save_pretrained(directory, max_shard_size="12KB")
    assert len(list(directory.glob("model-0*.safetensors"))) > 2
    return type(model).from_pretrained(directory, dtype=torch.float32)


@pytest.fixture(params=FAMILIES)
def family(request, tmp_path):
    return released(request.param, tmp_path), tmp_path


@pytest.fixture
def tied(tmp_path):
    return released("llama_tied", tmp_path), tmp_path


def test_shards_in_bf16_give_the_log_probs_and_gradients_of_transformers(family):
    stock, directory = family
    ours = load_decoder(directory)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    batch = Packing(PROMPTS, completions(), PROMPT_OF)
    every = torch.ones(len(batch.targets), dtype=torch.bool)
    log_probs = completion_log_probs(ours, batch, every, "fp32", 1.0)
    pairs = zip(PROMPT_OF.tolist(), completions(), strict=True)
    stock.double()
    expected = torch.cat([stock_log_probs(stock, PROMPTS[prompt], completion) for prompt, completion in pairs])
    torch.testing.assert_close(log_probs.double(), expected, atol=2e-5, rtol=0)
    weights = torch.randn(len(log_probs), generator=torch.Generator().manual_seed(2))
    (weights * log_probs).sum().backward()
    (weights * expected).sum().backward()
    for (name, mine), (other, theirs) in zip(ours.named_parameters(), stock.named_parameters(), strict=True):
        assert name == other
        scale = float(theirs.grad.abs().max())
        torch.testing.assert_close(mine.grad.double(), theirs.grad, atol=2e-5 * scale, rtol=1e-4, msg=name)


@pytest.mark.parametrize("make", [make_decoding, TorchDecoding])
def test_decoding_equals_the_full_forward_pass_of_transformers(family, make):
    stock, directory = family
    decoder = load_decoder(directory)
    with torch.no_grad():
        decoding = make(decoder.weights(), 4, 40)
        compiled = make is make_decoding and library() is not None
        assert isinstance(decoding, CompiledDecoding if compiled else TorchDecoding)
        decoding.prefill([[5, 7, 9], [4]], 0)
        sequences = [[5, 7, 9], [4]]
        for step in range(12):
            ids, positions = torch.tensor([11 + step, 30 - step]), torch.tensor([3 + step, 1 + step])
            hidden = decoding.decode(ids, positions)
            for row, sequence in enumerate(sequences):
                sequence.append(int(ids[row]))
                expected = stock.model(input_ids=torch.tensor([sequence])).last_hidden_state[0, -1]
                torch.testing.assert_close(hidden[row], expected, atol=5e-5, rtol=1e-4)


def test_a_trained_model_is_saved_for_transformers_without_the_name_of_a_tied_head(family):
    from transformers import AutoModelForCausalLM

    stock, directory = family
    decoder = load_decoder(directory)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(1.01)
    save_trained(decoder, directory, directory / "trained")
    tied = stock.config.tie_word_embeddings
    assert ("lm_head.weight" in load_file(directory / "trained" / "model.safetensors")) is not tied
    again = AutoModelForCausalLM.from_pretrained(directory / "trained", dtype=torch.float32)
    loaded = load_model(directory / "trained")
    save_trained(loaded, directory, directory / "again")
    for model in (again, loaded, load_decoder(directory / "trained"), load_decoder(directory / "again")):
        for (name, mine), values in zip(model.named_parameters(), decoder.parameters(), strict=True):
            assert torch.equal(mine, values), name
        assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied


def test_a_tied_head_is_one_parameter_whatever_is_done_to_the_model(tied):
    stock, directory = tied
    decoder = load_decoder(directory)
    assert decoder.active_parameters == sum(map(torch.numel, stock.parameters()))
    assert "lm_head.weight" not in decoder.state_dict()
    for other in (copy.deepcopy(decoder), as_decoder(stock), as_decoder(stock, shared=True), decoder.double().float()):
        assert other.lm_head.weight is other.model.embed_tokens.weight
        other.load_state_dict(stock.state_dict())
        other.load_state_dict(decoder.state_dict(), assign=True)
        assert other.lm_head.weight is other.model.embed_tokens.weight
        assert other.active_parameters == decoder.active_parameters
    assert as_decoder(stock, shared=True).lm_head.weight is stock.lm_head.weight


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_adapters_leave_biases_and_a_tied_head(tmp_path, dropout):
    released("qwen2", tmp_path)
    plain, adapted = load_decoder(tmp_path), attach(tmp_path, AdapterSettings(kind="lora", rank=2, dropout=dropout), 0)
    batch = Packing(PROMPTS, completions(), PROMPT_OF)
    every = torch.ones(len(batch.targets), dtype=torch.bool)
    log_probs = [completion_log_probs(model, batch, every, "fp32", 1.0) for model in (plain, adapted, merge(adapted))]
    for other in log_probs[1:]:
        torch.testing.assert_close(other, log_probs[0])
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trained and all(name.endswith((".A", ".B")) for name in trained)


def test_rl_of_a_tied_model_goes_on_from_its_checkpoint_and_keeps_snapshots_of_one_tensor(tied):
    _, directory = tied
    settings, keeper = settings_of("scalerl", rewards="random"), Snapshots(directory, directory / "snapshots")
    runs = [make_trainer(settings, load_decoder(directory)) for _ in range(2)]
    for trainer in runs:
        trainer.evaluate()
        trainer.train_step()
    runs[0].save_checkpoint(directory / "checkpoint.pt")
    resumed = make_trainer(settings, load_decoder(directory), keeper=keeper)
    resumed.load_checkpoint(directory / "checkpoint.pt")
    for trainer in (runs[1], resumed):
        trainer.train_step()
        trainer.evaluate()
    assert not torch.equal(resumed.model.lm_head.weight, load_decoder(directory).lm_head.weight)
    assert resumed.model.lm_head.weight is resumed.model.model.embed_tokens.weight
    for name, values in resumed.model.state_dict().items():
        assert torch.equal(values, runs[1].model.state_dict()[name])
    written = load_file(snapshot_file(keeper.directory, 2))
    assert written.keys() == tensors_of(resumed.model).keys() and "lm_head.weight" not in written
    read = read_snapshot(directory, keeper.directory, 2)
    for name, before in tensors_of(load_decoder(directory)).items():
        assert_change_kept(read[name], before, resumed.model.state_dict()[name])


def test_a_tied_head_may_be_in_the_files_if_it_is_the_embedding(tied):
    _, directory = tied
    decoder = load_decoder(directory)
    save_trained(decoder, directory, directory / "trained")
    for file in directory.glob("model*"):
        file.unlink()
    head = decoder.lm_head.weight.detach()
    save_file(decoder.state_dict() | {"lm_head.weight": head.clone()}, directory / "model.safetensors")
    assert torch.equal(load_decoder(directory).lm_head.weight, head)
    pairs = list(stream_pair(directory, directory / "trained"))
    assert len(pairs) == len(decoder.state_dict()) and all(torch.equal(one, other) for _, one, other in pairs)
    save_file(decoder.state_dict() | {"lm_head.weight": head + 1}, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match="model.safetensors: .*lm_head.weight differs from model.embed_tokens"):
        load_decoder(directory)


@pytest.mark.parametrize(("values", "parameters"), RELEASES)
def test_released_configs_give_models_of_their_sizes(values, parameters):
    with torch.device("meta"):
        assert Decoder(DecoderConfig.parse(values)).active_parameters == parameters


def test_older_layouts_say_the_same():
    rope = LLAMA32["rope_scaling"] | {"rope_theta": LLAMA32["rope_theta"]}
    new = {key: value for key, value in LLAMA32.items() if "rope" not in key} | {"rope_parameters": rope}
    old = {key: value for key, value in LLAMA32.items() if key != "head_dim"}
    old["rope_scaling"] = {
        "type" if key == "rope_type" else key: value for key, value in LLAMA32["rope_scaling"].items()
    }
    assert DecoderConfig.parse(new) == DecoderConfig.parse(LLAMA32) == DecoderConfig.parse(old | {"head_dim": None})
    assert DecoderConfig.parse(SMOLLM2).rope_parameters.rope_theta == 100000
    alone = {key: value for key, value in SMOLLM2.items() if key not in ("num_key_value_heads", "rope_theta")}
    assert DecoderConfig.parse(alone).num_key_value_heads == 9
    assert DecoderConfig.parse(alone).rope_parameters.rope_theta == 10000
    assert DecoderConfig.parse(QWEN25).sliding_window is None


@pytest.mark.parametrize("kind", ["llama3", "linear"])
def test_scaled_frequencies_are_those_of_transformers(kind):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.llama.configuration_llama import LlamaConfig

    values = LLAMA32 | {"rope_scaling": LLAMA32["rope_scaling"] | {"rope_type": kind}}
    expected, factor = ROPE_INIT_FUNCTIONS[kind](LlamaConfig(**values), torch.device("cpu"))
    frequencies = 500000.0 ** -(torch.arange(0, 64, 2) / 64)
    assert factor == 1.0
    torch.testing.assert_close(DecoderConfig.parse(values).rope_parameters.scaled(frequencies), expected)


def test_tables_of_rotations_grow_to_what_is_needed_and_no_further():
    tables = Rotations(lambda positions: rotations(positions, 8, 10000.0), limit=5000)
    whole = rotations(5000, 8, 10000.0)
    assert len(tables.upto(1)[0]) == 512
    for positions in (torch.tensor([3, 511]), torch.tensor([4, 700, 0]), torch.tensor([4999, 700])):
        for mine, table in zip(tables.at(positions), whole, strict=True):
            assert torch.equal(mine, table[positions])
    assert len(tables.upto(1)[0]) == 5000
    with pytest.raises(IndexError, match="position 5000: the model has max_position_embeddings: 5000"):
        tables.upto(5001)


def without_shard(directory):
    shard = sorted(directory.glob("model-0*"))[1]
    shard.unlink()
    return f"{shard.name}: no such file; .*download it again"


def with_half_a_shard(directory):
    shard = sorted(directory.glob("model-0*"))[1]
    shard.write_bytes(shard.read_bytes()[:-9])
    return f"{shard.name}: truncated or damaged .*download it again"


def of_another_index(directory):
    index = directory / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"model.norm.weight"', '"model.norms.weight"'))
    return r"model-0.*: model.safetensors.index.json does not tell .*\(model.norm.weight, model.norms.weight\)"


def with_half_an_index(directory):
    index = directory / "model.safetensors.index.json"
    index.write_text(index.read_text()[:40])
    return "index.json: damaged, no weight_map to be read"


def with_one_file(directory, change):
    tensors = load_decoder(directory).state_dict()
    save_file(change(tensors), directory / "model.safetensors")


def without_tensor(directory):
    with_one_file(directory, lambda tensors: {name: w for name, w in tensors.items() if name != "model.norm.weight"})
    return r"model.safetensors: does not fit config.json: it lacks 1 tensor \(model.norm.weight\)"


def with_another_tensor(directory):
    with_one_file(directory, lambda tensors: tensors | {"model.other.weight": torch.ones(2)})
    return r"model.safetensors: does not fit config.json: config.json knows no 1 tensor \(model.other.weight\)"


def with_another_shape(directory):
    with_one_file(directory, lambda tensors: tensors | {"model.norm.weight": torch.ones(2)})
    return r"model.safetensors: does not fit config.json: model.norm.weight is \[2\], not \[32\]"


def with_integers(directory):
    with_one_file(directory, lambda tensors: tensors | {"model.norm.weight": torch.ones(32, dtype=torch.int8)})
    return "model.safetensors: model.norm.weight is stored as I8; F32, F16, BF16 are read"


def with_half_a_config(directory):
    config = directory / "config.json"
    config.write_text(config.read_text()[:30])
    return "config.json: not valid JSON"


def with_yarn(directory):
    config = directory / "config.json"
    values = json.loads(config.read_text())
    del values["rope_parameters"]
    config.write_text(json.dumps(values | {"rope_theta": 1e4, "rope_scaling": {"type": "yarn", "factor": 4.0}}))
    return "config.json: rope_parameters.rope_type: .*'default', 'linear' or 'llama3' .found 'yarn'"


@pytest.mark.parametrize("load", [load_decoder, load_model])
@pytest.mark.parametrize(
    "damage",
    [
        *(without_shard, with_half_a_shard, of_another_index, with_half_an_index, without_tensor),
        *(with_another_tensor, with_another_shape, with_integers, with_half_a_config, with_yarn),
    ],
)
def test_what_is_damaged_is_refused_by_file_and_tensor(tied, damage, load):
    _, directory = tied
    message = damage(directory)
    with pytest.raises(CheckpointError, match=message):
        load(directory)
