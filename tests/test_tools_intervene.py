"""``rlscape intervene`` on stock models of transformers: the function stays, the coordinates do not."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Phi3Config, Qwen2Config, Qwen3Config

from rlscape.cli.main import main
from rlscape.errors import CheckpointError, ConfigError
from rlscape.models.interventions import Gauge
from rlscape.tools.weights.intervene import intervene

SIZES = dict(
    vocab_size=50,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=12,
    max_position_embeddings=128,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
CONFIGS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config, "gemma3": Gemma3TextConfig}


def save(
    directory: Path, config_class: type = LlamaConfig, dtype: torch.dtype = torch.float32, **changes: object
) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_class(**SIZES | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.to(dtype).save_pretrained(directory, max_shard_size="20KB")
    return directory


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return {name: values for file in directory.glob("*.safetensors") for name, values in load_file(file).items()}


@pytest.mark.parametrize("kind", ["rotate", "permute"])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_logits_stay_and_only_one_layers_attention_changes(tmp_path: Path, architecture: str, kind: str) -> None:
    model = save(tmp_path / "model", CONFIGS[architecture])
    assert len(list(model.glob("*.safetensors"))) > 1
    done = intervene(str(model), kind, 1, tmp_path / "out")
    assert done.check is not None
    print(architecture, kind, done.check)
    assert done.check.scale > 1
    assert done.check.exact < 1e-4 * done.check.scale
    assert done.check.stored == pytest.approx(done.check.exact)  # fp32 is stored as computed

    before, after = weights(model), weights(tmp_path / "out")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(done.tensors)
    parts = "qkvo" if kind == "permute" else "vo"
    weight_names = {f"model.layers.1.self_attn.{part}_proj.weight" for part in parts}
    assert {name for name in changed if name.endswith("weight")} == weight_names

    ids = torch.arange(30)[None]
    first, second = (AutoModelForCausalLM.from_pretrained(path)(ids).logits for path in (model, tmp_path / "out"))
    assert torch.allclose(first, second, atol=1e-4 * done.check.scale)


def test_bf16_is_kept_and_its_rounding_is_measured(tmp_path: Path) -> None:
    model = save(tmp_path / "model", dtype=torch.bfloat16)
    done = intervene(str(model), "rotate", 0, tmp_path / "out")
    assert {values.dtype for values in weights(tmp_path / "out").values()} == {torch.bfloat16}
    assert done.check is not None
    assert done.check.exact < 1e-4 * done.check.scale < done.check.stored < 0.1 * done.check.scale


def test_permutation_in_bf16_rounds_nothing(tmp_path: Path) -> None:
    model = save(tmp_path / "model", dtype=torch.bfloat16)
    done = intervene(str(model), "permute", 2, tmp_path / "out")
    assert done.check is not None and done.check.stored < 1e-4 * done.check.scale


def test_seed_decides(tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        intervene(str(model), "rotate", 0, tmp_path / name, seed, check=False)
    a, b, c = (weights(tmp_path / name)["model.layers.0.self_attn.v_proj.weight"] for name in "abc")
    assert torch.equal(a, b) and not torch.allclose(a, c, atol=0.1)


def test_weights_of_other_formats_are_left_behind(tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    (model / "pytorch_model.bin").write_bytes(b"old weights")
    intervene(str(model), "rotate", 0, tmp_path / "out", check=False)
    record = json.loads((tmp_path / "out" / "intervention.json").read_text())
    assert record["kind"] == "rotate" and record["check"] is None
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()


def test_a_map_that_changes_the_function_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save(tmp_path / "model")
    monkeypatch.setattr(Gauge, "apply", lambda self, state: {name: -values for name, values in state.items()})
    monkeypatch.setattr(Gauge, "changes", lambda self, name: name.endswith("v_proj.weight"))
    with pytest.raises(CheckpointError, match="logits differ by .* nothing was written"):
        intervene(str(model), "rotate", 1, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [model]


def test_bad_input_is_named(tmp_path: Path) -> None:
    model, out = save(tmp_path / "model"), tmp_path / "out"
    with pytest.raises(CheckpointError, match="no layer 3; choose one from 0 to 2"):
        intervene(str(model), "rotate", 3, out)
    with pytest.raises(CheckpointError, match="exists already"):
        intervene(str(model), "rotate", 0, model)
    with pytest.raises(CheckpointError, match="no such file or directory"):
        intervene(str(tmp_path / "nowhere"), "rotate", 0, out)
    with pytest.raises(ConfigError, match="one KV head"):
        intervene(str(save(tmp_path / "single", num_key_value_heads=1)), "permute", 0, out)
    with pytest.raises(CheckpointError, match=r"qkv_proj.weight .* not covered"):
        intervene(str(save(tmp_path / "fused", Phi3Config)), "rotate", 0, out)
    shutil.copytree(model, tmp_path / "damaged")
    shard = next((tmp_path / "damaged").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=f"{shard.name}: truncated"):
        intervene(str(tmp_path / "damaged"), "rotate", 0, out)
    shutil.copytree(model, tmp_path / "whole_norm")
    save_file({"model.layers.0.self_attn.q_norm.weight": torch.ones(48)}, tmp_path / "whole_norm" / "more.safetensors")
    (tmp_path / "whole_norm" / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match=r"q_norm.weight \[48\] depends on the heads"):
        intervene(str(tmp_path / "whole_norm"), "permute", 0, out)
    assert not out.exists()


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = save(tmp_path / "model"), tmp_path / "out"
    words = ["rlscape", "intervene", "permute", str(model), "--layer", "0", "-o", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    main()
    assert "layer 0 permuted, 4 tensors changed" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err == f"error: {out}: exists already; choose another directory or remove it\n"
    monkeypatch.setattr(sys, "argv", [*words[:-1], str(tmp_path / "unchecked"), "--no-check", "--json"])
    main()
    assert json.loads(capsys.readouterr().out)["check"] is None
