"""LoRA adapters of PEFT, merged with their base one tensor at a time.

``W' = W + s B A`` with ``s = alpha / r`` (rsLoRA: ``alpha / sqrt(r)``); DoRA rescales every output of ``W'`` to
the learnt magnitude. In float32, where PEFT merges in the base's dtype.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlscape.errors import CheckpointError
from rlscape.models.tensor_names import by_core, core, kind_of, listed
from rlscape.tools.weights.tensors import Checkpoint, Rows, TensorInfo

REMEDY = "merge it with peft (`merge_and_unload()`), save the model and give that directory"
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<part>(embedding_)?[AB]|magnitude_vector)(\.default)?(\.weight)?")
_REPLACED = re.compile(r"\.(base_layer|modules_to_save(\.default)?)\.")
_OTHER_LORA_OPTIONS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
)
"""Options under which a LoRA adapter is not the product of two factors added to a matrix of the base."""


@dataclass(frozen=True)
class _Factors:
    """What changes one matrix of the base."""

    A: str
    B: str
    """Names of the adapter's tensors, ``[r, in]`` and ``[out, r]``."""
    scaling: float
    transposed: bool
    """Whether the base stores the matrix as ``[in, out]`` (embeddings, and GPT-2's layers)."""
    magnitude: str | None
    """DoRA's, ``[out]``."""


@dataclass(frozen=True)
class MergedCheckpoint(Checkpoint):
    """A base with an adapter merged into it as it is read."""

    base: Checkpoint = field(kw_only=True)
    adapter: Checkpoint = field(kw_only=True)
    factors: Mapping[str, _Factors] = field(kw_only=True)
    """Name of a tensor in the base -> what changes it."""
    replaced: Mapping[str, str] = field(kw_only=True)
    """Name of a tensor -> the adapter's tensor that takes its place (``modules_to_save``, biases)."""

    def read(self, name: str, rows: Rows | None = None) -> Tensor:
        """As :meth:`Checkpoint.read`; what the adapter's factors change is float32."""
        if (factors := self.factors.get(name)) is not None:
            merged = self._merge(self._unmerged(name).float(), factors)
            return merged if rows is None else merged[rows[0] : rows[1]]
        return self._unmerged(name, rows)

    def _unmerged(self, name: str, rows: Rows | None = None) -> Tensor:
        if name in self.replaced:
            return self.adapter.read(self.replaced[name], rows)
        return self.base.read(name, rows)

    def _merge(self, weights: Tensor, factors: _Factors) -> Tensor:
        """``weights`` with the update added, in place."""
        left, right = self.adapter.read(factors.B).float(), self.adapter.read(factors.A).float()
        if factors.transposed:
            left, right = right.T, left.T
        weights.addmm_(left, right, alpha=factors.scaling)
        if factors.magnitude is not None:
            inputs = 0 if factors.transposed else 1
            norms = torch.linalg.vector_norm(weights, dim=inputs)
            weights.mul_((self.adapter.read(factors.magnitude).float() / norms).unsqueeze(inputs))
        return weights


def check_kind(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse what is not LoRA, before the base is looked for; ``file`` is the config's.

    Raises:
        CheckpointError: the adapter is of a kind that is not merged here.
    """
    if (kind := config.get("peft_type")) != "LORA":
        raise CheckpointError(f"{file}: adapters of kind {kind} are not merged here, only LORA; {REMEDY}")
    if options := [option for option in _OTHER_LORA_OPTIONS if config.get(option)]:
        raise CheckpointError(f"{file}: LoRA with {', '.join(options)} is not merged here; {REMEDY}")
    if not all(isinstance(config.get(key), int | float) and config[key] > 0 for key in ("r", "lora_alpha")):
        raise CheckpointError(f"{file}: r and lora_alpha must be positive numbers; save the adapter again")


def merge_adapter(
    name: str, file: Path, config: Mapping[str, Any], adapter: Checkpoint, base: Checkpoint
) -> MergedCheckpoint:
    """The base with the adapter's changes.

    Args:
        name: what the user typed.
        file: the adapter's config, for messages.
        config: its content, as :func:`check_kind` passed it.
        adapter: the adapter's own tensors.
        base: the model that it was trained upon.

    Raises:
        CheckpointError: the adapter does not fit the base or its config.
    """
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    replaced: dict[str, str] = {}
    cores = by_core(base.tensors)

    def in_base(tensor: str) -> str:
        return tensor if tensor in base.tensors else cores.get(core(tensor), tensor)

    for key in adapter.tensors:
        if found := _FACTOR.fullmatch(key):
            parts[found["module"]][found["part"]] = key
        elif ".lora_" in key or "trainable_tokens" in key:
            raise CheckpointError(f"{adapter.tensors[key].file}: {key} is no part of LoRA that is known here; {REMEDY}")
        else:
            replaced[in_base(_REPLACED.sub(".", key))] = key
    tensors = dict(base.tensors) | {tensor: adapter.tensors[key] for tensor, key in replaced.items()}
    factors: dict[str, _Factors] = {}
    for module, keys in parts.items():
        target = in_base(f"{module}.weight")
        if (info := tensors.get(target)) is None:
            tied = " (a head tied to the embedding)" if kind_of(target).kind == "head" else ""
            raise CheckpointError(
                f"{file}: the adapter changes {target}, which {base.name} does not have{tied}; "
                f"give the base that it was trained upon, or {REMEDY}"
            )
        if not info.dtype.is_floating_point or info.dtype.itemsize == 1:
            raise CheckpointError(
                f"{info.file}: {target} is quantised ({info.dtype}), and no adapter can be merged with it here; "
                f"name the base as it was before quantisation in {file}"
            )
        factors[target] = _factors(module, keys, info.shape, file, config, adapter)
        nbytes = math.prod(info.shape) * torch.float32.itemsize
        tensors[target] = TensorInfo(info.shape, torch.float32, adapter.tensors[factors[target].A].file, nbytes)
    notes = (*base.notes, *adapter.notes, *_notes(name, config, factors, replaced, base))
    return MergedCheckpoint(
        name, tensors, notes, base.directory, base=base, adapter=adapter, factors=factors, replaced=replaced
    )


def _factors(
    module: str,
    keys: Mapping[str, str],
    shape: tuple[int, ...],
    file: Path,
    config: Mapping[str, Any],
    adapter: Checkpoint,
) -> _Factors:
    """Of one module, checked against the config and the base's matrix ``shape``."""
    embedding = "embedding_A" in keys
    A, B = (keys.get(part) for part in (("embedding_A", "embedding_B") if embedding else ("A", "B")))
    if A is None or B is None:
        raise CheckpointError(f"{file}: the adapter's factors of {module} are incomplete; save the adapter again")
    rank = _of_module(config.get("rank_pattern"), module, config["r"])
    alpha = _of_module(config.get("alpha_pattern"), module, config["lora_alpha"])
    right, left = adapter.tensors[A].shape, adapter.tensors[B].shape
    if len(right) != 2 or len(left) != 2 or {right[0], left[1]} != {rank}:
        raise CheckpointError(
            f"{adapter.tensors[A].file}: the factors of {module} are {list(right)} and {list(left)}, "
            f"but {file.name} gives them rank {rank}; save the adapter again"
        )
    inputs, outputs = right[1], left[0]
    stored = [
        transposed for transposed in (False, True) if shape == ((inputs, outputs) if transposed else (outputs, inputs))
    ]
    if not stored:
        raise CheckpointError(
            f"{adapter.tensors[A].file}: the adapter's update of {module} is {[outputs, inputs]}, but the base has "
            f"{list(shape)}; give the base that it was trained upon"
        )
    transposed = embedding or (stored[0] if len(stored) == 1 else bool(config.get("fan_in_fan_out")))
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    magnitude = keys.get("magnitude_vector")
    if bool(config.get("use_dora")) != (magnitude is not None):
        raise CheckpointError(f"{file}: use_dora does not fit the tensors of {module}; save the adapter again")
    return _Factors(A, B, scaling, transposed, magnitude)


def _of_module(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """A rank or alpha: the first pattern that the end of the module's name matches, as in PEFT."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _notes(
    name: str,
    config: Mapping[str, Any],
    factors: Mapping[str, _Factors],
    replaced: Mapping[str, str],
    base: Checkpoint,
) -> Iterator[str]:
    yield f"{name}: {'DoRA' if config.get('use_dora') else 'LoRA'} adapter merged with {base.name} in float32 " + (
        f"({listed(list(factors))}" + (f"; replaced: {listed(list(replaced))})" if replaced else ")")
    )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower() not in ("gaussian", "orthogonal", "eva"):
        yield (
            f"{name}: the adapter was initialised with {start}, which may also have changed the base it trained upon; "
            f"the merge is right only if {base.name} is that changed base, or if the adapter was converted when saved"
        )
