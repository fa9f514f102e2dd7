"""Snapshots while a run trains: what they keep, that a killed run leaves the same files, and where they end up."""

import pytest
import torch
from safetensors.torch import load_file

from rlscape.geometry.snapshots import read_snapshot, snapshot_steps, stream_history
from rlscape.geometry.sparsity import bitwise_update_mask
from rlscape.models.build import build_model, load_decoder, save_model, save_trained, snap_to_bf16_
from rlscape.models.snapshot_files import snapshot_file
from rlscape.models.weight_files import tensors_of
from rlscape.pipeline.train import train
from rlscape.settings.training import AdapterSettings
from rlscape.training.adapters import attach, merge
from rlscape.training.rl import make_trainer
from rlscape.training.snapshots import Snapshots
from tests.test_drift import Kept
from tests.test_sft import SETTINGS as SFT
from tests.test_trainer import guessing_model, settings_of
from tests.tuned_models import assert_change_kept

pytestmark = pytest.mark.training

SETTINGS = settings_of("rlvr")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model on the bf16 grid that learns something."""
    stock, directory = (tmp_path_factory.mktemp(name) for name in ("stock", "start"))
    save_model(build_model(SETTINGS.base.model, 0), stock)
    model = guessing_model(SETTINGS)
    snap_to_bf16_(model)
    save_trained(model, stock, directory)
    return directory


class Both:
    """Keeps whole weights in memory, too."""

    def __init__(self, start, directory):
        self.whole, self.snapshots = Kept(), Snapshots(start, directory)

    def keep(self, model, step):
        self.whole.keep(model, step)
        self.snapshots.keep(model, step)


def test_masks_of_a_small_update_are_those_of_its_weights(start, tmp_path):
    settings = SETTINGS.changed(rl=SETTINGS.rl.changed(learning_rate=2e-5))
    both = Both(start, tmp_path)
    make_trainer(settings, load_decoder(start), keeper=both).run()
    assert snapshot_steps(tmp_path) == list(both.whole) == [3, 6]
    changed = differing = entries = 0
    for name, before, history in stream_history(start, tmp_path):
        for step, after in history.items():
            true = both.whole[step][name]
            assert_change_kept(after, before, true)
            mask = bitwise_update_mask(before, true)
            differing += int((mask != bitwise_update_mask(before, after)).sum())
            changed, entries = changed + int(mask.sum()), entries + mask.numel()
    assert 0.1 < changed / entries < 0.9
    assert differing / entries < 1e-3


class Killed(Snapshots):
    """Its process dies once step 3 is written, before the checkpoint is."""

    def keep(self, model, step):
        super().keep(model, step)
        (self.directory / ".step-000006.safetensors.1.tmp").touch()
        raise KeyboardInterrupt


def test_a_killed_run_leaves_the_same_files_and_no_weights_in_its_checkpoint(start, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    make_trainer(SETTINGS, load_decoder(start), keeper=Snapshots(start, whole)).run()
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        make_trainer(SETTINGS, load_decoder(start), keeper=Killed(start, killed)).run(checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    assert state["step"] == 2 and "snapshots" not in state
    first = snapshot_file(killed, 3).read_bytes()
    make_trainer(SETTINGS, load_decoder(start), keeper=Snapshots(start, killed)).run(checkpoint)
    assert snapshot_file(killed, 3).read_bytes() == first
    files = {file.name: file.read_bytes() for file in whole.iterdir()}
    assert sorted(files) == ["step-000003.safetensors", "step-000006.safetensors"]
    assert {file.name: file.read_bytes() for file in killed.iterdir()} == files


def test_a_snapshot_has_every_tensor_in_bf16_with_adapters_merged(start, tmp_path):
    adapted = attach(start, AdapterSettings(kind="lora", rank=2, dropout=0.1), 0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.01
    Snapshots(start, tmp_path).keep(adapted, 1)
    written = load_file(snapshot_file(tmp_path, 1))
    before, after = tensors_of(load_decoder(start)), tensors_of(merge(adapted))
    assert written.keys() == before.keys()
    assert {values.dtype for values in written.values()} == {torch.bfloat16}
    read = read_snapshot(start, tmp_path, 1)
    for name in before:
        assert_change_kept(read[name], before[name], after[name])
    assert not torch.equal(*(each["model.layers.0.mlp.up_proj.weight"] for each in (before, read)))


@pytest.mark.parametrize(("settings", "steps"), [(SETTINGS, [3, 6]), (SFT, [2, 4, 6])], ids=["rl", "sft"])
def test_a_finished_run_has_its_own_snapshots_and_leaves_none_in_scratch(start, tmp_path, settings, steps):
    output, scratch = tmp_path / "run", tmp_path / "scratch"
    (tmp_path / "claims.yaml").touch()
    for old in (output / "snapshots", scratch / "snapshots-of-another-base"):
        old.mkdir(parents=True)
        snapshot_file(old, 9).touch()
    train(settings, start, tmp_path / "claims.yaml", scratch, output)
    assert snapshot_steps(output / "snapshots") == steps
    assert not [file for suffix in ("pt", "safetensors") for file in scratch.rglob(f"*.{suffix}")]
    last, final = read_snapshot(start, output / "snapshots", steps[-1]), load_decoder(output / "model")
    for name, before in tensors_of(load_decoder(start)).items():
        assert_change_kept(last[name], before, tensors_of(final)[name])
    assert (output / "run.json").exists()
