"""What a tensor's name says: its place in the model, without what wrappers and nesting put before it."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_WRAPPERS = re.compile(r"^(base_model\.model|module|_orig_mod|_fsdp_wrapped_module|_forward_module)\.")
_INNER_WRAPPERS = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_ROOTS = re.compile(r"^((model|language_model|text_model|transformer|decoder|backbone|gpt_neox)\.)+")
_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)\.")
_OTHER_MODALITIES = re.compile(r"(^|\.)(visual|vision\w*|audio\w*|multi_modal_projector|mm_projector)\.")

MODULES = {
    "q": "q_proj",
    "k": "k_proj",
    "v": "v_proj",
    "o": "o_proj",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
    "embed": "embed_tokens",
    "head": "lm_head",
}
"""Kind of matrix -> its module in the architectures that are trained here."""

_EMBEDDINGS = r"wte|wpe|embed_in|embed_positions|word_embeddings|tok_embeddings|embed|embeddings"
_KINDS = [
    (kind, re.compile(rf"(^|\.)({'|'.join(filter(None, (MODULES.get(kind), others)))})$"))
    for kind, others in {
        "router": r"router|router\.\w+|(mlp|block_sparse_moe|feed_forward)\.gate|shared_expert_gate|ffn\.gate",
        "norm": r"\w*norm\w*|ln_\w+|ln\d*|norm\.\w+",
        "embed": _EMBEDDINGS,
        "head": r"embed_out|output",
        "qkv": r"qkv_proj|c_attn|query_key_value|Wqkv|wqkv|qkv",
        "gate_up": r"gate_up_proj|w13",
        "q": r"q_a_proj|q_b_proj|wq|query",
        "k": r"wk|key",
        "v": r"wv|value",
        "kv": r"kv_proj|kv_a_proj_with_mqa|kv_b_proj",
        "o": r"wo|out_proj|(attn|attention|self_attn|self_attention)\.(c_proj|dense)",
        "gate": r"w1",
        "up": r"w3|c_fc|fc1|dense_h_to_4h|fc_in",
        "down": r"w2|mlp\.c_proj|fc2|dense_4h_to_h|fc_out",
    }.items()
]
"""Kind -> the modules (their last names) that are of that kind, in the order in which they are tried."""


class Identity(NamedTuple):
    """A tensor's place in a language model."""

    layer: int | None
    """Index of the block, None outside the blocks."""
    kind: str
    """q, k, v, kv, o, gate, up, down, qkv, gate_up, embed, head, norm, bias, router or other; matrices of experts
    are ``expert-gate``, ``expert-up``, ... and those of experts that see every token ``shared-expert-gate``, ..."""


def kind_of(name: str) -> Identity:
    """Layer and kind of a tensor, from its name; vision and audio towers are ``other``."""
    if _OTHER_MODALITIES.search(name):
        return Identity(None, "other")
    found = _LAYER.search(name)
    layer = int(found[1]) if found else None
    module = name.removesuffix(".weight").removesuffix(".bias")
    kind = next((kind for kind, modules in _KINDS if modules.search(module)), "other")
    if name.endswith(("bias", "_bias")) and kind != "norm":
        return Identity(layer, "bias")
    if kind not in ("router", "norm") and (expert := re.search(r"\.(shared_)?experts?\.", name)):
        kind = ("shared-expert-" if expert[1] else "expert-") + kind
    return Identity(layer, kind)


def identify(name: str) -> dict[str, Any]:
    """The columns that say which matrix a row is about; kind is a key of :data:`MODULES`, for an expert's matrix too.

    Layer is None outside the blocks, kind is None for other tensors (several experts fused into one, for instance).
    """
    layer, kind = kind_of(name)
    kind = kind.rpartition("-")[2]
    return {"tensor": name, "layer": layer, "kind": kind if kind in MODULES and name.endswith(".weight") else None}


def unwrapped(name: str) -> str:
    """The name without what DDP, FSDP, ``torch.compile`` and PEFT put before and into it."""
    while (shorter := _WRAPPERS.sub("", name)) != name:
        name = shorter
    return _INNER_WRAPPERS.sub("", name)


def core(name: str) -> str:
    """The name without the nesting in which releases of one model differ (``model.``, ``language_model.model.``)."""
    return _ROOTS.sub("", name).replace(".block_sparse_moe.", ".mlp.")


def by_core(names: Iterable[str]) -> dict[str, str]:
    """Core -> the name, where only one of the names has it."""
    groups = defaultdict(list)
    for name in names:
        groups[core(name)].append(name)
    return {value: group[0] for value, group in groups.items() if len(group) == 1}


def listed(names: Sequence[str], shown: int = 3) -> str:
    """``12 tensors (a, b, c, ...)``"""
    count = f"{len(names)} tensor{'' if len(names) == 1 else 's'}"
    return f"{count} ({', '.join(names[:shown])}{', ...' if len(names) > shown else ''})"
