"""A model's tensors in safetensors files: headers checked before any long work, values read one tensor at a time.

Values come by plain reads into a fresh buffer: the pages of a memory map would count as resident memory, and a
checkpoint of any size must be read in little more than its largest tensor. Nothing is unpickled.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlscape.errors import CheckpointError

Rows = tuple[int, int]
"""First and one past the last row of a tensor; a 3-D tensor ``[e, m, n]`` counts as ``[e * m, n]``."""

AGAIN = "download or save it again"
CONVERT_PICKLES = (
    "convert it where you trust it: load the model with transformers and call "
    "`model.save_pretrained(directory, safe_serialization=True)`"
)
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Name in a safetensors header -> dtype; tensors of other formats are left out and named in a note."""


@dataclass(frozen=True)
class TensorInfo:
    """What is known of a tensor before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    """Of what :meth:`Checkpoint.read` returns."""
    file: Path
    nbytes: int
    """Of what :meth:`Checkpoint.read` returns."""


@dataclass(frozen=True)
class StoredTensor(TensorInfo):
    """A tensor as it lies in its file."""

    key: str
    """Its name in the file."""
    offset: int
    """Of its first byte in the file."""

    def read(self, rows: Rows | None = None) -> Tensor:
        """Its values, or some of its rows, in the dtype of storage."""
        start, shape = 0, self.shape
        if rows is not None:
            shape = (rows[1] - rows[0], *self.shape[-1:]) if len(self.shape) > 1 else (rows[1] - rows[0],)
            start = rows[0] * math.prod(shape[1:]) * self.dtype.itemsize
        if not (nbytes := math.prod(shape) * self.dtype.itemsize):
            return torch.empty(shape, dtype=self.dtype)
        try:
            values = np.fromfile(self.file, dtype=np.uint8, count=nbytes, offset=self.offset + start)
        except OSError as error:
            raise CheckpointError(f"{self.file}: {self.key} cannot be read ({error}); {AGAIN}") from None
        if len(values) < nbytes:
            raise CheckpointError(f"{self.file}: ends within {self.key}; the file changed since it was opened, {AGAIN}")
        return torch.from_numpy(values).view(self.dtype).reshape(shape)


@dataclass(frozen=True)
class Checkpoint:
    """A model's tensors, read one at a time."""

    name: str
    """What the user typed."""
    tensors: Mapping[str, TensorInfo]
    """Name, without the prefixes of wrappers -> shape, dtype and place."""
    notes: tuple[str, ...] = ()
    """What a reader should know: how it was found, what was left out."""
    directory: Path | None = field(default=None, repr=False)
    """Where its files lie."""

    def read(self, name: str, rows: Rows | None = None) -> Tensor:
        """A tensor, or some of its rows, in the dtype of storage; not checked for NaN.

        Raises:
            CheckpointError: the file changed since it was opened.
        """
        tensor = self.tensors[name]
        assert isinstance(tensor, StoredTensor)
        return tensor.read(rows)


def read_header(file: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of a safetensors file, and those in a format that is not read (name -> format).

    Raises:
        CheckpointError: the file is missing, truncated, damaged or something else.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            length = int.from_bytes(start, "little")
            header = stream.read(length) if 8 + length <= size else None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}); {AGAIN}") from None
    if header is None or len(start) < 8 or not header.startswith(b"{"):
        raise CheckpointError(f"{file}: {_what_it_is(file, size)}")
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: the header is damaged ({error}); {AGAIN}") from None
    entries.pop("__metadata__", None)
    return _checked(file, entries, 8 + length, size)


def _what_it_is(file: Path, size: int) -> str:
    """What a file is that has no safetensors header, and the remedy."""
    with file.open("rb") as stream:
        start = stream.read(64)
    pickled = f"it is {{}}, not safetensors, and is not opened, since unpickling can run any code; {CONVERT_PICKLES}"
    if not size:
        return f"the file is empty; {AGAIN}"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the weights; run `git lfs pull` in its repository"
    if start.startswith(b"PK\x03\x04"):
        return pickled.format("a zip archive as torch.save writes it (pickle inside)")
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return pickled.format("a pickle")
    if start.startswith(b"GGUF"):
        return "it is a GGUF file, not safetensors; give the checkpoint that it was converted from"
    if start.lstrip()[:1] == b"<":
        return f"it is a web page, not safetensors; {AGAIN}"
    length = int.from_bytes(start[:8], "little")
    return f"truncated or not a safetensors file ({size} bytes, its header would take {length}); {AGAIN}"


def _checked(
    file: Path, entries: dict[str, Any], data: int, size: int
) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Every entry of a header against the file: ``data`` is where the tensors start."""
    tensors: dict[str, StoredTensor] = {}
    other_formats: dict[str, str] = {}
    spans: list[tuple[int, int, str]] = []
    for key, entry in entries.items():
        try:
            shape, (begin, end) = tuple(map(int, entry["shape"])), map(int, entry["data_offsets"])
            stored_as = str(entry["dtype"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise CheckpointError(f"{file}: the header's entry of {key} is damaged; {AGAIN}") from None
        spans.append((begin, end, key))
        if (dtype := DTYPES.get(stored_as)) is None:
            other_formats[key] = stored_as
            continue
        if min((*shape, begin)) < 0 or end - begin != math.prod(shape) * dtype.itemsize:
            raise CheckpointError(
                f"{file}: the header gives {key} {end - begin} bytes (offsets {begin} to {end}), but {list(shape)} "
                f"in {stored_as} takes {math.prod(shape) * dtype.itemsize}; {AGAIN}"
            )
        tensors[key] = StoredTensor(shape, dtype, file, end - begin, key, data + begin)
    expected = 0
    for begin, end, key in sorted(spans):
        if begin != expected:
            raise CheckpointError(f"{file}: the header's offsets of {key} overlap or leave a gap; {AGAIN}")
        expected = end
    if data + expected > size:
        first = min((span for span in spans if data + span[1] > size), default=(0, 0, ""))[2]
        raise CheckpointError(
            f"{file}: truncated, {size} bytes of the {data + expected} that its header promises "
            f"({first} is incomplete); {AGAIN}"
        )
    if data + expected < size:
        raise CheckpointError(f"{file}: {size - data - expected} bytes follow the last tensor; damaged, {AGAIN}")
    return tensors, other_formats
