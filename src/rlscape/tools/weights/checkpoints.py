"""Checkpoints as people have them: a directory, shards, one file, a PEFT adapter or a model on the Hub."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlscape.errors import CheckpointError
from rlscape.models.checkpoints import HUB_ID
from rlscape.models.tensor_names import listed, unwrapped
from rlscape.tools.weights.adapter_merge import REMEDY as MERGE_REMEDY
from rlscape.tools.weights.adapter_merge import check_kind, merge_adapter
from rlscape.tools.weights.tensor_pairs import Match, Matching, match_tensors
from rlscape.tools.weights.tensors import AGAIN, CONVERT_PICKLES, Checkpoint, StoredTensor, TensorInfo, read_header

__all__ = [
    "Checkpoint",
    "Match",
    "Matching",
    "TensorInfo",
    "local_directory",
    "match_tensors",
    "open_checkpoint",
]

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HUB_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", ADAPTER_CONFIG)
"""What is downloaded: never pickles."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.distcp")
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_ADAPTER_FACTOR = re.compile(r"\.(lora_[A-Za-z_]+|original_module|modules_to_save)(\.|$)")


def open_checkpoint(source: str, revision: str | None = None, fallback_base: Checkpoint | None = None) -> Checkpoint:
    """A checkpoint by what the user typed: directory, ``.safetensors`` file, PEFT adapter or Hub id ``org/name``.

    An adapter comes merged with its base: the one that its config names, or ``fallback_base`` if that one is not on
    this machine. Files are checked as far as their headers and sizes tell; no values are read yet.

    Args:
        revision: of a model on the Hub (branch, tag or commit).
        fallback_base: what an adapter is merged with if the base that it names is not on this machine.

    Raises:
        CheckpointError: it is missing, damaged, incomplete or of a kind that cannot be read.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix != ".safetensors":
            remedy = CONVERT_PICKLES if any(path.match(pattern) for pattern in PICKLES) else "give a model directory"
            raise CheckpointError(f"{path}: only .safetensors files are read; {remedy}")
        checkpoint = _assemble(source, path.parent, [path])
        if shard := _SHARD.fullmatch(path.name):
            return _noted(checkpoint, f"{source}: one shard of {int(shard[3])}; its directory holds the whole model")
        return checkpoint
    path = local_directory(source, revision)
    if (path / ADAPTER_CONFIG).exists() and ((path / ADAPTER_WEIGHTS).exists() or not _weight_files(path)):
        return _open_adapter(source, path, fallback_base)
    return _open_directory(source, path)


def local_directory(
    source: str, revision: str | None = None, files: Sequence[str] = HUB_FILES, cached: bool = False
) -> Path:
    """A directory as it is, or that of a model on the Hub, downloaded unless ``cached`` or in offline mode.

    Args:
        files: patterns of what is downloaded.

    Raises:
        CheckpointError: there is no such directory and no such model, or it cannot be downloaded.
    """
    if (path := Path(source).expanduser()).is_dir():
        return path
    if not HUB_ID.fullmatch(source):
        raise CheckpointError(f"{source}: no such file or directory, and not a Hub id (org/name)")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    at = f" at revision {revision}" if revision else ""
    try:
        return Path(
            snapshot_download(
                source,
                revision=revision,
                allow_patterns=list(files),
                ignore_patterns=["*/*", "consolidated*"],
                local_files_only=cached,
            )
        )
    except LocalEntryNotFoundError:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached"
        problem = (
            f"no such directory, not in the Hub's cache{at}, and {why}; "
            f"download it first (`hf download {source}`) or give a directory"
        )
    except RevisionNotFoundError:
        problem = f"the Hub has no revision {revision} of it; see https://huggingface.co/{source}/tree/main"
    except RepositoryNotFoundError:
        problem = (
            "no such directory here and no such model on the Hub, or it is private or gated; "
            "check the name, and log in with `hf auth login` if it needs permission"
        )
    except Exception as error:  # the network, the token, the disk: whatever a download can meet
        problem = f"cannot be downloaded{at} ({type(error).__name__}: {error}); try again or give a directory"
    raise CheckpointError(f"{source}: {problem}")


def _open_directory(name: str, directory: Path) -> Checkpoint:
    files = _weight_files(directory)
    if not files:
        raise CheckpointError(_why_no_weights(name, directory))
    return _assemble(name, directory, files)


def _weight_files(directory: Path) -> list[Path]:
    """The safetensors files of one model: a single one, else the shards of an index, else all that there are."""
    if (single := directory / WEIGHTS).exists():
        return [single]
    if (index := directory / INDEX).exists():
        return _indexed(index)
    files = sorted(file for file in directory.glob("*.safetensors") if file.name != ADAPTER_WEIGHTS)
    for file in files:
        if shard := _SHARD.fullmatch(file.name):
            expected = [f"{shard[1]}-{n:05d}-of-{shard[3]}.safetensors" for n in range(1, int(shard[3]) + 1)]
            if missing := [name for name in expected if not (directory / name).exists()]:
                raise CheckpointError(f"{directory}: {missing[0]} is missing ({len(missing)} shards in all); {AGAIN}")
    return files


def _indexed(index: Path) -> list[Path]:
    """The shards that an index names, checked to hold exactly the tensors that it promises."""
    try:
        weight_map: dict[str, str] = json.loads(index.read_text())["weight_map"]
        shards = sorted({index.parent / Path(shard).name for shard in weight_map.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: damaged, no weight_map to be read ({error!r}); {AGAIN}") from None
    if not shards:
        raise CheckpointError(f"{index}: names no tensors; {AGAIN}")
    if missing := [shard.name for shard in shards if not shard.exists()]:
        raise CheckpointError(f"{index}: names {missing[0]}, which is missing ({len(missing)} in all); {AGAIN}")
    held = {key: shard.name for shard in shards for header in read_header(shard) for key in header}
    for key, shard_name in weight_map.items():
        if held.get(key) != Path(shard_name).name:
            where = f"but it is in {held[key]}" if key in held else "but it is not there"
            raise CheckpointError(f"{index}: places {key} in {shard_name}, {where}; {AGAIN}")
    if unlisted := sorted(held.keys() - weight_map.keys()):
        raise CheckpointError(f"{index}: lacks {listed(unlisted)} of {held[unlisted[0]]}; {AGAIN}")
    return shards


def _assemble(name: str, directory: Path, files: list[Path], adapter: bool = False) -> Checkpoint:
    """The tensors of all files under one name, the prefixes of wrappers taken off."""
    stored: dict[str, StoredTensor] = {}
    formats: dict[str, str] = {}
    for file in files:
        tensors, other_formats = read_header(file)
        if twice := stored.keys() & tensors.keys():
            first = min(twice)
            raise CheckpointError(
                f"{directory}: {first} is in {stored[first].file.name} and in {file.name}; "
                "give the one file that is meant"
            )
        stored |= tensors
        formats |= other_formats
    if not adapter and (factor := next(filter(_ADAPTER_FACTOR.search, stored), None)):
        raise CheckpointError(
            f"{stored[factor].file}: {factor} belongs to an adapter that is not merged; "
            f"give the adapter's directory (with {ADAPTER_CONFIG}), or {MERGE_REMEDY}"
        )
    if not stored:
        raise CheckpointError(f"{directory}: {files[0].name} holds no tensors that can be read; {AGAIN}")
    names = {key: unwrapped(key) for key in stored}
    if len(set(names.values())) < len(names):
        names = {key: key for key in stored}
    notes = []
    if formats:
        notes.append(f"{name}: left out, stored as {', '.join(sorted(set(formats.values())))}: {listed(list(formats))}")
    if not adapter and (shorter := [key for key in stored if names[key] != key]):
        notes.append(f"{name}: prefixes of wrappers taken off: {listed(shorter, shown=1)}")
    return Checkpoint(name, {names[key]: tensor for key, tensor in stored.items()}, tuple(notes), directory)


def _why_no_weights(name: str, directory: Path) -> str:
    """Of a directory without safetensors: what it has instead, and the remedy."""
    found = sorted(file.name for pattern in PICKLES for file in directory.glob(pattern))
    if found:
        return (
            f"{directory}: its weights are pickled ({found[0]}), which are not opened, since unpickling can run any "
            f"code; {CONVERT_PICKLES}, or use the script of your trainer that exports to safetensors"
        )
    if inside := sorted({file.parent.name for file in directory.glob("*/*.safetensors")}):
        return f"{directory}: no *.safetensors in it; is it {directory / inside[-1]} that is meant?"
    if (directory / ADAPTER_WEIGHTS).exists():
        return f"{directory}: {ADAPTER_WEIGHTS} without {ADAPTER_CONFIG}; save or download the adapter again"
    if not Path(name).expanduser().is_dir():
        return f"{name}: the Hub's files hold no *.safetensors; give a model that has them"
    return f"{directory}: no *.safetensors in it; expected a model directory with {WEIGHTS} or its shards"


def _open_adapter(name: str, directory: Path, fallback: Checkpoint | None) -> Checkpoint:
    file = directory / ADAPTER_CONFIG
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: not valid JSON ({error}); save the adapter again") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{file}: not a JSON object; save the adapter again")
    check_kind(file, config)
    weights = directory / ADAPTER_WEIGHTS
    if not weights.exists():
        pickled = (directory / "adapter_model.bin").exists()
        raise CheckpointError(
            f"{directory}: {ADAPTER_CONFIG} without {ADAPTER_WEIGHTS}; "
            + (
                "adapter_model.bin is a pickle and is not opened: load it with peft and save it again, "
                "which writes safetensors"
                if pickled
                else "save or download the adapter again"
            )
        )
    adapter = _assemble(name, directory, [weights], adapter=True)
    if _weight_files(directory):
        adapter = _noted(adapter, f"{directory}: the adapter in it is read, not the model's other *.safetensors")
    return merge_adapter(name, file, config, adapter, _base_of(file, config, fallback))


def _base_of(file: Path, config: dict[str, Any], fallback: Checkpoint | None) -> Checkpoint:
    """The base that an adapter names, or the fallback if that one is not on this machine."""
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not named:
        if fallback is None:
            raise CheckpointError(f"{file}: names no base_model_name_or_path; write the base's path or Hub id there")
        return _noted(fallback, f"{file} names no base; the adapter is merged with {fallback.name}")
    if fallback is not None and named == fallback.name:
        return fallback
    for place in (Path(named).expanduser(), file.parent / named):
        if place.is_dir():
            return open_checkpoint(str(place))
    try:
        directory = local_directory(named, revision, cached=fallback is not None)
    except CheckpointError as error:
        if fallback is None:
            raise CheckpointError(f"{file}: its base cannot be had: {error}") from None
        return _noted(
            fallback,
            f"{file} names the base {named}, which is not on this machine; the adapter is merged with {fallback.name}",
        )
    return _open_directory(named, directory)


def _noted(checkpoint: Checkpoint, note: str) -> Checkpoint:
    return replace(checkpoint, notes=(*checkpoint.notes, note))
