"""Models of the Hub: from the cache, downloaded, and as bases of adapters."""

import pytest

from rlscape.tools.weights.checkpoints import open_checkpoint
from tests.checkpoint_files import assert_holds, error_of, lora, save, says, tensors


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache, offline."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def cache(hub, name, state):
    repository = hub / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    return save(repository / "snapshots" / ("0" * 40), state)


def test_a_cached_model_of_the_hub_is_read_offline(hub):
    cache(hub, "org/name", state := tensors())
    checkpoint = open_checkpoint("org/name")
    assert checkpoint.name == "org/name"
    assert_holds(checkpoint, state)


def test_offline_and_not_cached(hub):
    says(error_of("org/name"), "org/name: no such directory", "cache", "HF_HUB_OFFLINE", "hf download org/name")
    says(error_of("org/name", "v2"), "at revision v2")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What is asked of the Hub, which has every model."""
    import huggingface_hub

    asked = {}

    def download(name, **arguments):
        asked.update(arguments, name=name)
        return str(save(tmp_path / "downloaded"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_only_safetensors_and_configs_of_one_model_are_asked_of_the_hub(asked):
    from huggingface_hub.utils import filter_repo_objects

    open_checkpoint("org/name", "v1")
    assert (asked["name"], asked["revision"], asked["local_files_only"]) == ("org/name", "v1", False)
    wanted = ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "adapter_config.json"]
    others = ["pytorch_model.bin", "original/model.safetensors", "consolidated.safetensors", "x.pt", "tokenizer.json"]
    patterns = {key: asked[key] for key in ("allow_patterns", "ignore_patterns")}
    assert list(filter_repo_objects(wanted + others, **patterns)) == wanted


def test_a_model_of_the_hub_without_safetensors(hub):
    (cache(hub, "org/old", tensors()) / "model.safetensors").unlink()
    says(error_of("org/old"), "org/old", "no *.safetensors")


# Bases of adapters


def test_the_given_base_stands_in_for_one_that_is_not_here(tmp_path, hub):
    base = open_checkpoint(str(save(tmp_path / "base")))
    for named, found in (("org/name", "org/name, which is not on this machine"), (None, "names no base")):
        adapter = str(lora(tmp_path / "adapter", named))
        checkpoint = open_checkpoint(adapter, fallback_base=base)
        assert checkpoint.base.name == base.name
        assert any(found in note and base.name in note for note in checkpoint.notes)
    cache(hub, "org/name", tensors())
    assert open_checkpoint(str(lora(tmp_path / "adapter", "org/name")), fallback_base=base).base.name == "org/name"


def test_a_base_is_not_downloaded_if_another_is_given(tmp_path, asked):
    base = open_checkpoint(str(save(tmp_path / "base")))
    adapter = str(lora(tmp_path / "adapter", "org/name", revision="v2"))
    open_checkpoint(adapter, fallback_base=base)
    assert (asked["name"], asked["revision"], asked["local_files_only"]) == ("org/name", "v2", True)
    open_checkpoint(adapter)
    assert not asked["local_files_only"]


def test_an_adapter_whose_base_cannot_be_had(tmp_path, hub):
    says(error_of(lora(tmp_path / "one")), "adapter_config.json", "names no base_model_name_or_path")
    says(error_of(lora(tmp_path / "two", "org/name")), "adapter_config.json", "org/name", "HF_HUB_OFFLINE")
    says(error_of(lora(tmp_path / "three", "/no/where")), "adapter_config.json", "/no/where: no such")
