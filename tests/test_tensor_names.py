"""Layer and kind of a tensor, from its name."""

import pytest

from rlscape.models.tensor_names import kind_of


@pytest.mark.parametrize(
    "name, layer, kind",
    [
        ("model.layers.3.self_attn.q_proj.weight", 3, "q"),
        ("model.language_model.layers.12.self_attn.k_proj.weight", 12, "k"),
        ("model.layers.3.self_attn.v_proj.weight", 3, "v"),
        ("model.layers.3.self_attn.o_proj.weight", 3, "o"),
        ("model.layers.3.self_attn.q_proj.bias", 3, "bias"),
        ("model.layers.3.self_attn.q_norm.weight", 3, "norm"),
        ("model.layers.3.pre_feedforward_layernorm.weight", 3, "norm"),
        ("model.layers.3.mlp.gate_proj.weight", 3, "gate"),
        ("model.layers.3.mlp.up_proj.weight", 3, "up"),
        ("model.layers.3.mlp.down_proj.weight", 3, "down"),
        ("model.layers.3.self_attn.qkv_proj.weight", 3, "qkv"),
        ("model.layers.3.mlp.gate_up_proj.weight", 3, "gate_up"),
        ("model.layers.3.mlp.gate.weight", 3, "router"),
        ("model.layers.3.mlp.experts.7.gate_proj.weight", 3, "expert-gate"),
        ("model.layers.3.mlp.experts.gate_up_proj", 3, "expert-gate_up"),
        ("model.layers.3.mlp.shared_expert.up_proj.weight", 3, "shared-expert-up"),
        ("model.layers.3.mlp.shared_expert_gate.weight", 3, "router"),
        ("model.layers.3.block_sparse_moe.experts.7.w2.weight", 3, "expert-down"),
        ("model.layers.3.self_attn.q_proj.weight_scale_inv", 3, "other"),
        ("h.11.attn.c_attn.weight", 11, "qkv"),
        ("transformer.h.11.attn.c_proj.weight", 11, "o"),
        ("h.11.mlp.c_fc.weight", 11, "up"),
        ("h.11.mlp.c_proj.weight", 11, "down"),
        ("gpt_neox.layers.0.attention.query_key_value.weight", 0, "qkv"),
        ("gpt_neox.layers.0.attention.dense.weight", 0, "o"),
        ("gpt_neox.layers.0.mlp.dense_4h_to_h.weight", 0, "down"),
        ("model.embed_tokens.weight", None, "embed"),
        ("wte.weight", None, "embed"),
        ("lm_head.weight", None, "head"),
        ("embed_out.weight", None, "head"),
        ("model.norm.weight", None, "norm"),
        ("model.visual.blocks.0.attn.qkv.weight", None, "other"),
        ("score.weight", None, "other"),
    ],
)
def test_names_tell_layer_and_kind(name, layer, kind):
    assert kind_of(name) == (layer, kind)
