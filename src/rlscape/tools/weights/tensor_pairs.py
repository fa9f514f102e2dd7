"""Which tensor of one checkpoint is which of another, and what has no counterpart."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from rlscape.errors import CheckpointError
from rlscape.models.tensor_names import by_core, core, kind_of, listed
from rlscape.tools.weights.tensors import Checkpoint, Rows, TensorInfo

_EXPERT = re.compile(r"(?P<experts>.+\.experts)\.(?P<index>\d+)\.(?P<module>\w+)\.weight")
_FUSED = {
    "gate_proj": ("gate_up_proj", 0, 2),
    "up_proj": ("gate_up_proj", 1, 2),
    "down_proj": ("down_proj", 0, 1),
    "w1": ("gate_up_proj", 0, 2),
    "w3": ("gate_up_proj", 1, 2),
    "w2": ("down_proj", 0, 1),
}
"""An expert's matrix -> the fused tensor ``[experts, parts * m, n]`` that holds it, its part there, and the parts."""

NamePair = tuple[str, str]
Tensors = Mapping[str, TensorInfo]


@dataclass(frozen=True)
class Match:
    """One matrix (or vector) that both checkpoints have."""

    name: str
    base: str
    """Its name in the base."""
    tuned: str
    """Its name in the fine-tuned checkpoint."""
    shape: tuple[int, ...]
    """Of both tensors that :meth:`read` returns."""
    base_rows: Rows | None = None
    """The rows that are compared, None for all."""
    tuned_rows: Rows | None = None

    def read(self, base: Checkpoint, tuned: Checkpoint) -> tuple[Tensor, Tensor]:
        """Both tensors, each as :meth:`Checkpoint.read` returns it."""
        return base.read(self.base, self.base_rows), tuned.read(self.tuned, self.tuned_rows)


@dataclass(frozen=True)
class Matching:
    """What two checkpoints have in common."""

    matches: tuple[Match, ...]
    """By name, layers counted upwards."""
    notes: tuple[str, ...]
    """For people: the checkpoints' own notes, and what was renamed, resized, tied, missing or not comparable."""
    only_base: tuple[str, ...]
    only_tuned: tuple[str, ...]
    not_comparable: Mapping[str, str]
    """Name in the base -> why its values cannot be compared."""


def match_tensors(base: Checkpoint, tuned: Checkpoint) -> Matching:
    """Pair the tensors of two checkpoints by name.

    Names that differ only in nesting (``model.``, ``language_model.model.``) or by a prefix are paired if there
    is one way to do so. Experts stored one by one are paired with slices of a fused tensor. Embeddings and heads
    that differ in their number of rows are compared on the rows that both have.

    Raises:
        CheckpointError: they have no tensor in common.
    """
    pairs = _pair_names(base.tensors, tuned.tensors)
    matches: list[Match] = []
    not_comparable: dict[str, str] = {}
    for name, other in pairs:
        match = _compare(name, other, base.tensors[name], tuned.tensors[other])
        if isinstance(match, Match):
            matches.append(match)
        else:
            not_comparable[name] = match
    only_base = base.tensors.keys() - {name for name, _ in pairs}
    only_tuned = tuned.tensors.keys() - {other for _, other in pairs}
    experts = _pair_experts(only_base, base.tensors, only_tuned, tuned.tensors)
    experts += [_swapped(match) for match in _pair_experts(only_tuned, tuned.tensors, only_base, base.tensors)]
    ties = _ties(only_base, base, tuned) | _ties(only_tuned, tuned, base)
    only_base -= {match.base for match in experts} | ties.keys()
    only_tuned -= {match.tuned for match in experts} | ties.keys()
    if not pairs and not experts:
        raise CheckpointError(
            f"{base.name} and {tuned.name} have no tensor name in common ({_example(base)}, but {_example(tuned)}); "
            "compare a model with the base that it was fine-tuned from"
        )
    notes = [
        *dict.fromkeys((*base.notes, *tuned.notes)),
        *_renaming_notes(pairs),
        *_expert_notes(experts),
        *_resizing_notes(matches, base, tuned),
        *ties.values(),
        *_storage_notes(matches, base, tuned),
        *_exclusion_notes(not_comparable),
        *_missing_notes(only_base, base),
        *_missing_notes(only_tuned, tuned),
    ]
    return Matching(
        tuple(sorted(matches + experts, key=lambda match: _natural(match.name))),
        tuple(notes),
        _ordered(only_base),
        _ordered(only_tuned),
        not_comparable,
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """So that layer 2 comes before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _ordered(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=_natural))


def _example(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.name} has {listed(_ordered(checkpoint.tensors), shown=1)}"


def _pair_names(base: Tensors, tuned: Tensors) -> list[NamePair]:
    """Names that are equal, then those that are equal but for nesting, then those that are but for a prefix."""
    pairs = [(name, name) for name in base if name in tuned]
    left, right = base.keys() - tuned.keys(), tuned.keys() - base.keys()
    for pair in (_pair_by_core, _pair_by_prefix, _pair_by_prefix_of_base):
        found = pair(left, right, base, tuned)
        pairs += found
        left, right = left - {name for name, _ in found}, right - {other for _, other in found}
    return sorted(pairs, key=lambda pair: _natural(pair[0]))


def _pair_by_core(left: set[str], right: set[str], base: Tensors, tuned: Tensors) -> list[NamePair]:
    ours, theirs = by_core(left), by_core(right)
    return [(name, theirs[value]) for value, name in ours.items() if value in theirs]


def _pair_by_prefix(left: set[str], right: set[str], base: Tensors, tuned: Tensors) -> list[NamePair]:
    """Names of the base that one prefix turns into the other's; a prefix counts if it does so within a layer."""
    candidates = defaultdict(list)
    for other in right:
        for name in _suffixes(other):
            if name in left and base[name].shape == tuned[other].shape:
                candidates[name].append(other)
    pairs = [(name, others[0]) for name, others in candidates.items() if len(others) == 1]
    prefixes = {other.removesuffix(name) for name, other in pairs if kind_of(name).layer is not None}
    pairs = [(name, other) for name, other in pairs if other.removesuffix(name) in prefixes]
    uses = Counter(other for _, other in pairs)
    return [(name, other) for name, other in pairs if uses[other] == 1]


def _pair_by_prefix_of_base(left: set[str], right: set[str], base: Tensors, tuned: Tensors) -> list[NamePair]:
    return [(name, other) for other, name in _pair_by_prefix(right, left, tuned, base)]


def _suffixes(name: str) -> Iterator[str]:
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _compare(name: str, other: str, base: TensorInfo, tuned: TensorInfo) -> Match | str:
    """The match, or why there is none."""
    for info in (base, tuned):
        if not info.dtype.is_floating_point:
            return f"stored as {str(info.dtype).removeprefix('torch.')}, as quantised weights and masks are"
    if base.shape == tuned.shape:
        return Match(name, name, other, base.shape)
    if kind_of(name).kind in ("embed", "head") and base.shape[1:] == tuned.shape[1:]:
        rows = min(base.shape[0], tuned.shape[0])
        return Match(name, name, other, (rows, *base.shape[1:]), (0, rows), (0, rows))
    return f"{list(base.shape)} in one, {list(tuned.shape)} in the other"


def _pair_experts(single: Iterable[str], ours: Tensors, fused: Iterable[str], theirs: Tensors) -> list[Match]:
    """Matrices of single experts with the rows of the fused tensors that hold them."""
    fused_names = by_core(fused)
    matches = []
    for name in single:
        if not (expert := _EXPERT.fullmatch(core(name))) or expert["module"] not in _FUSED:
            continue
        module, part, parts = _FUSED[expert["module"]]
        other = fused_names.get(f"{expert['experts']}.{module}")
        index, shape = int(expert["index"]), ours[name].shape
        if other is None or len(shape) != 2 or not (ours[name].dtype.is_floating_point):
            continue
        experts, *matrix = theirs[other].shape
        if theirs[other].dtype.is_floating_point and index < experts and matrix == [parts * shape[0], shape[1]]:
            first = (index * parts + part) * shape[0]
            matches.append(Match(name, name, other, shape, None, (first, first + shape[0])))
    return matches


def _swapped(match: Match) -> Match:
    return replace(match, base=match.tuned, tuned=match.base, base_rows=match.tuned_rows, tuned_rows=match.base_rows)


def _renaming_notes(pairs: list[NamePair]) -> Iterator[str]:
    if renamed := [pair for pair in pairs if pair[0] != pair[1]]:
        yield f"paired under different names: {listed([f'{name} with {other}' for name, other in renamed], shown=1)}"


def _expert_notes(experts: list[Match]) -> Iterator[str]:
    if experts:
        fused = _ordered({match.tuned if match.base_rows is None else match.base for match in experts})
        names = _ordered(match.name for match in experts)
        yield f"single experts compared with slices of fused tensors: {listed(names, 1)} with {listed(fused, 1)}"


def _resizing_notes(matches: list[Match], base: Checkpoint, tuned: Checkpoint) -> Iterator[str]:
    for match in matches:
        if match.base_rows is not None:
            before, after = base.tensors[match.base].shape[0], tuned.tensors[match.tuned].shape[0]
            yield (
                f"{match.name}: {before} rows in {base.name}, {after} in {tuned.name}; "
                f"the first {match.shape[0]} are compared"
            )


def _ties(only: set[str], having: Checkpoint, lacking: Checkpoint) -> dict[str, str]:
    """Heads that one side lacks because it shares its embedding -> what to say of each."""
    embedding = next((name for name in lacking.tensors if kind_of(name).kind == "embed"), None)
    if embedding is None or not _may_tie(lacking):
        return {}
    return {
        name: f"{name} is only in {having.name}: {lacking.name} ties it to {embedding}, and it is not compared"
        for name in _ordered(only)
        if kind_of(name).kind == "head"
    }


def _may_tie(checkpoint: Checkpoint) -> bool:
    """Whether its config.json, if it has one, leaves room for a head tied to the embedding."""
    try:
        config = json.loads((checkpoint.directory / "config.json").read_text()) if checkpoint.directory else {}
    except (OSError, ValueError):
        return True
    text = config.get("text_config") or {}
    return config.get("tie_word_embeddings", text.get("tie_word_embeddings")) is not False


def _storage_notes(matches: list[Match], base: Checkpoint, tuned: Checkpoint) -> Iterator[str]:
    for checkpoint, names in ((base, [m.base for m in matches]), (tuned, [m.tuned for m in matches])):
        if scaled := [name for name in names if checkpoint.tensors[name].dtype.itemsize == 1]:
            yield (
                f"{listed(scaled)} of {checkpoint.name}: stored in 8 bits and compared as stored, "
                "without the scales that may belong to them"
            )


def _exclusion_notes(not_comparable: Mapping[str, str]) -> Iterator[str]:
    by_reason = defaultdict(list)
    for name, reason in not_comparable.items():
        by_reason[reason].append(name)
    for reason, names in by_reason.items():
        yield f"not comparable, {reason}: {listed(names)}"


def _missing_notes(only: set[str], checkpoint: Checkpoint) -> Iterator[str]:
    if only:
        yield f"only in {checkpoint.name}: {listed(_ordered(only))}"
