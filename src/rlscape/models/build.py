"""Tiny ``transformers`` models from scratch, and their directories on disk.

Paper (arXiv 2511.08567): measures what fine-tuning changes as seen in bf16. Here: a base model's values lie
on the bf16 grid but are stored and trained in fp32, so that small updates are not lost before anyone looks.
"""

import importlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import torch

from rlscape.files import atomic
from rlscape.models.config import DecoderConfig
from rlscape.models.decoder import Decoder
from rlscape.models.weight_files import WEIGHTS, fill, tensors_of
from rlscape.settings.base_model import Architecture, ModelSettings
from rlscape.settings.precision import Precision
from rlscape.tasks.vocabulary import EOS_ID, PAD_ID, build_tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_CLASSES: dict[Architecture, str] = {
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
    "llama": "Llama",
    "mistral": "Mistral",
}

SHARED = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
)
"""Files of a base model's directory that a model trained from it shares; records of the base are not among them."""


def _class(architecture: Architecture, suffix: str) -> Any:
    """E.g. ``Qwen3Config``, from its own submodule: importing all of ``transformers`` takes seconds."""
    part = "configuration" if suffix == "Config" else "modeling"
    module = importlib.import_module(f"transformers.models.{architecture}.{part}_{architecture}")
    return getattr(module, _CLASSES[architecture] + suffix)


def build_model(settings: ModelSettings, seed: int) -> "PreTrainedModel":
    """A randomly initialised causal language model in fp32, head untied.

    Mixtures of experts are as Qwen3's: in every layer, with shares that add up to 1. No auxiliary loss.
    """
    mixture: dict[str, Any] = {}
    if settings.experts is not None:
        mixture = {
            "num_experts": settings.experts,
            "num_experts_per_tok": settings.experts_per_token,
            "moe_intermediate_size": settings.intermediate_size,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "output_router_logits": False,
        }
    config = _class(settings.architecture, "Config")(
        vocab_size=settings.vocab_size,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        head_dim=settings.head_dim,
        intermediate_size=settings.intermediate_size,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
        architectures=[_CLASSES[settings.architecture] + "ForCausalLM"],
        **mixture,
    )
    return _instantiate(settings.architecture, config, seed)


def _instantiate(architecture: Architecture, config: "PretrainedConfig", seed: int) -> "PreTrainedModel":
    config._attn_implementation = "sdpa"
    config.dtype = torch.float32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # transformers initialises from the global generator only
        return _class(architecture, "ForCausalLM")(config)


@torch.no_grad()
def snap_to_bf16_(model: torch.nn.Module) -> None:
    """Round every parameter to the nearest bf16 value, in place, keeping its dtype."""
    for parameter in model.parameters():
        parameter.copy_(parameter.to(torch.bfloat16))


def store_as_(model: torch.nn.Module, precision: Precision) -> None:
    """Leave in every parameter, in place and in fp32, what storing it in ``precision`` would leave."""
    match precision:
        case "bf16":
            snap_to_bf16_(model)
        case "fp32":
            pass
        case _:
            assert_never(precision)


def save_model(model: "PreTrainedModel", directory: str | Path) -> None:
    """Write weights, config and tokenizer so that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load them.

    Each file is complete or absent, and the weights come last.
    """
    from safetensors.torch import save_file

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".saving-") as temporary:
        build_tokenizer(model.config.vocab_size).save_pretrained(temporary)
        model.config.save_pretrained(temporary)
        save_file(tensors_of(model), Path(temporary) / WEIGHTS, metadata={"format": "pt"})
        for file in sorted(Path(temporary).iterdir(), key=lambda file: file.name == WEIGHTS):
            os.replace(file, directory / file.name)


def save_trained(model: torch.nn.Module, base: str | Path, directory: str | Path) -> None:
    """Write a model trained from ``base``: its own weights, config and tokenizer as ``base`` has them."""
    from safetensors.torch import save_file

    base, directory = Path(base), Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        if (base / name).exists():
            with atomic(directory / name) as temporary:
                shutil.copyfile(base / name, temporary)
    with atomic(directory / WEIGHTS) as temporary:
        save_file(tensors_of(model), temporary, metadata={"format": "pt"})


def load_model(directory: str | Path) -> "PreTrainedModel":
    """A saved model as ``transformers`` has it, in fp32 and in evaluation mode.

    Raises:
        CheckpointError: the directory or one of its files is missing, truncated or of another shape.
    """
    directory = Path(directory)
    config = DecoderConfig.read(directory / "config.json")
    stock_config = _class(config.model_type, "Config").from_pretrained(directory)
    model = _instantiate(config.model_type, stock_config, seed=0)
    fill(model, directory, config.tie_word_embeddings)
    return model.eval()


def load_decoder(directory: str | Path) -> Decoder:
    """A saved model as the engine runs it, in fp32; errors as :func:`load_model`."""
    directory = Path(directory)
    config = DecoderConfig.read(directory / "config.json")
    decoder = Decoder(config)
    fill(decoder, directory, config.tie_word_embeddings)
    return decoder


def as_decoder(model: "PreTrainedModel", shared: bool = False) -> Decoder:
    """A ``transformers`` model as the engine runs it: a copy, or ``shared``, on the same parameters."""
    decoder = Decoder(DecoderConfig.parse(model.config.to_dict()))
    decoder.load_state_dict(model.state_dict(keep_vars=shared), assign=shared)
    return decoder
