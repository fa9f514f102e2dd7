"""Tiny ``transformers`` models from scratch, and their directories on disk.

Paper (arXiv 2511.08567): measures what fine-tuning changes as seen in bf16. Here: a base model's values lie
on the bf16 grid but are stored and trained in fp32, so that small updates are not lost before anyone looks.
"""

import importlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rlscape.config import ModelSettings
from rlscape.errors import CheckpointError
from rlscape.files import read_json
from rlscape.tasks.vocabulary import EOS_ID, PAD_ID, TOKENS, build_tokenizer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_CLASSES = {"qwen3": "Qwen3", "llama": "Llama", "mistral": "Mistral"}

WEIGHTS = "model.safetensors"


def _class(architecture: str, suffix: str) -> Any:
    """E.g. ``Qwen3Config``, from its own submodule: importing all of ``transformers`` takes seconds."""
    part = "configuration" if suffix == "Config" else "modeling"
    module = importlib.import_module(f"transformers.models.{architecture}.{part}_{architecture}")
    return getattr(module, _CLASSES[architecture] + suffix)


def build_model(settings: ModelSettings, seed: int) -> "PreTrainedModel":
    """A randomly initialised causal language model in fp32 over the shared vocabulary, head untied."""
    config = _class(settings.architecture, "Config")(
        vocab_size=len(TOKENS),
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
    )
    return _instantiate(config, seed)


def _instantiate(config: "PretrainedConfig", seed: int) -> "PreTrainedModel":
    config._attn_implementation = "sdpa"
    config.dtype = torch.float32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # transformers initialises from the global generator only
        return _class(config.model_type, "ForCausalLM")(config)


@torch.no_grad()
def snap_to_bf16_(model: torch.nn.Module) -> None:
    """Round every parameter to the nearest bf16 value, in place, keeping its dtype."""
    for parameter in model.parameters():
        parameter.copy_(parameter.to(torch.bfloat16))


def save_model(model: "PreTrainedModel", directory: str | Path) -> None:
    """Write weights, config and tokenizer so that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load them.

    Each file is complete or absent, and the weights come last.
    """
    from safetensors.torch import save_file

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".saving-") as temporary:
        build_tokenizer().save_pretrained(temporary)
        model.config.save_pretrained(temporary)
        save_file(model.state_dict(), Path(temporary) / WEIGHTS, metadata={"format": "pt"})
        for file in sorted(Path(temporary).iterdir(), key=lambda file: file.name == WEIGHTS):
            os.replace(file, directory / file.name)


def load_model(directory: str | Path) -> "PreTrainedModel":
    """A model saved by :func:`save_model`, in fp32 and in evaluation mode.

    Raises:
        CheckpointError: the directory or one of its files is missing, truncated or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    directory = Path(directory)
    weights, config = directory / WEIGHTS, directory / "config.json"
    remedy = "delete the directory and make the model again"
    for path in (directory, config, weights):
        if not path.exists():
            raise CheckpointError(f"{path}: no such {'directory' if path == directory else 'file'}; {remedy}")
    try:
        state = load_file(weights)
    except SafetensorError as error:
        raise CheckpointError(f"{weights}: truncated or damaged ({error}); {remedy}") from None
    architecture = read_json(config).get("model_type")
    if architecture not in _CLASSES:
        raise CheckpointError(f"{config}: model_type {architecture!r} is not one of {', '.join(_CLASSES)}")
    model = _instantiate(_class(architecture, "Config").from_pretrained(directory), seed=0)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{weights}: does not fit config.json; {remedy}\n{error}") from None
    return model.eval()
