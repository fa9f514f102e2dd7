"""``rlscape diff``: checkpoints, the command, and what its tables and pages say."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from rlscape.cli.main import main
from rlscape.geometry import masks
from rlscape.geometry.sparsity import update_mask
from rlscape.tools.weights.bf16_bins import holm
from rlscape.tools.weights.checkpoint_diff import DiffError, DiffOptions, DiffResult, diff_checkpoints
from rlscape.tools.weights.diff_report import answers
from tests.held_checkpoints import UP, Memory, base_matrix, compared, generator, isotropic, isotropic_pair


class TestCheckpoints:
    def test_several_checkpoints(self) -> None:
        base, first = isotropic_pair(1)
        second = Memory("second", {name: isotropic(w, 0.5, i) for i, (name, w) in enumerate(base.values.items())})  # type: ignore[attr-defined]
        result = diff_checkpoints(base, [first, second, first])
        pairs = result.pairs[result.pairs["tensor"] == "all"].set_index(["first", "second"])
        assert set(result.kinds["checkpoint"]) == {"tuned (1)", "second", "tuned (2)"}
        same, independent = pairs.loc[("tuned (1)", "tuned (2)")], pairs.loc[("tuned (1)", "second")]
        assert same["jaccard"] == 1
        assert same["phi"] == pytest.approx(1)
        assert independent["jaccard"] > 1.1 * independent["jaccard_chance"]
        assert independent["jaccard"] == pytest.approx(independent["jaccard_binned"], rel=0.1)
        assert independent["p"] > 0.01 > same["p"]
        one = result.pairs.iloc[0]
        a, b = (update_mask(base.read(one["tensor"]), each.read(one["tensor"])) for each in (first, second))
        assert one["jaccard"] == pytest.approx(masks.jaccard(a, b))
        assert one["jaccard_chance"] == pytest.approx(masks.chance_jaccard(a, b))
        assert one["phi"] == pytest.approx(masks.phi(a, b))

    def test_threads_change_nothing_and_progress_ends_at_the_total(self) -> None:
        base, tuned = isotropic_pair(2)
        done: list[tuple[int, int]] = []
        one = diff_checkpoints(base, [tuned], DiffOptions(threads=1), lambda now, total: done.append((now, total)))
        three = diff_checkpoints(base, [tuned], DiffOptions(threads=3))
        pd.testing.assert_frame_equal(one.tensors, three.tensors)
        assert sum(now for now, _ in done) == done[0][1] == 2 * 4 * 80 * 64

    def test_what_is_not_a_plain_matrix(self) -> None:
        g = generator(19)
        experts = torch.stack([base_matrix(40, 32, seed) for seed in range(3)])
        base = {
            "model.norm.weight": torch.ones(32, dtype=torch.bfloat16),
            "model.layers.0.mlp.experts.down_proj": experts,
            UP.format(0): base_matrix(40, 32, 20),
            UP.format(1): base_matrix(40, 32, 21),
            "model.position_ids": torch.arange(9),
            "model.scale": torch.tensor(2.0),
            "model.visual.patch_embed.proj.weight": torch.randn(16, 3, 4, 4, generator=g).bfloat16(),
        }
        tuned = {name: value.clone() for name, value in base.items()}
        tuned["model.layers.0.mlp.experts.down_proj"] = isotropic(experts, 2, 22).bfloat16()
        tuned[UP.format(0)][3, 3] = torch.nan
        tuned["model.norm.weight"][0] = 1.5 + torch.rand(1, generator=g).item()
        result = diff_checkpoints(Memory("base", base), [Memory("tuned", tuned)])
        rows = result.tensors.set_index("tensor")
        assert rows.loc["model.norm.weight", "sparsity"] == 31 / 32
        assert rows.loc["model.layers.0.mlp.experts.down_proj", "expert"].tolist() == [0, 1, 2]
        alone = compared(experts[1], tuned["model.layers.0.mlp.experts.down_proj"][1])
        assert rows[rows["expert"] == 1].iloc[0]["max_angle_left"] == pytest.approx(alone["max_angle_left"])
        assert rows.loc["model.scale", ["m", "n", "sparsity"]].tolist() == [1, 1, 1]
        assert rows.loc["model.visual.patch_embed.proj.weight", ["m", "n"]].tolist() == [16, 48]
        assert UP.format(0) not in rows.index
        assert any("NaN" in note and UP.format(0) in note for note in result.notes)
        assert any("model.position_ids" in note for note in result.notes)
        same = rows.loc[UP.format(1)]
        assert (same["sparsity"], same["x"], same["max_angle_left"]) == (1, 0, pytest.approx(0, abs=1e-9))
        assert np.isnan(same["overlap_principal"])
        said = dict(sentence.split(": ", 1) for sentence in answers(result)["tuned"])
        assert said["up"] == "equal to the base"

    def test_a_finer_base_is_remarked_upon(self) -> None:
        weights = 0.02 * torch.randn(40, 30, generator=generator(23))
        result = diff_checkpoints(
            Memory("base", {UP.format(0): weights}), [Memory("tuned", {UP.format(0): weights.bfloat16()})]
        )
        assert any("include the rounding of the base" in note for note in result.notes)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (DiffOptions(only="nothing"), "--only nothing: no tensor of base matches"),
            (DiffOptions(only="("), "not a regular expression"),
            (DiffOptions(max_memory=0.5), r"up_proj.weight \(80 x 64\) needs about .* GiB"),
        ],
    )
    def test_what_cannot_be_done_is_said(self, options: DiffOptions, message: str) -> None:
        base, tuned = isotropic_pair(3)
        with pytest.raises(DiffError, match=message):
            diff_checkpoints(base, [tuned], options)


class TestCommand:
    @staticmethod
    def write(directory: Path) -> tuple[Path, Path]:
        for name, checkpoint in zip(("base", "tuned"), isotropic_pair(4), strict=True):
            (directory / name).mkdir()
            norm = {"model.norm.weight": torch.ones(64, dtype=torch.bfloat16)}
            save_file({**checkpoint.values, **norm}, directory / name / "model.safetensors")  # type: ignore[attr-defined]
        return directory / "base", directory / "tuned"

    @staticmethod
    def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["rlscape", "diff", *map(str, arguments)])
        main()

    def test_tables_page_and_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        base, tuned = self.write(tmp_path)
        self.run(monkeypatch, base, tuned, tuned, "-o", tmp_path / "out")
        printed = capsys.readouterr().out
        printed = " ".join(printed.split())
        assert "up: 68% unchanged" in printed and "nothing beyond magnitude and rounding" in printed
        assert "Jaccard index of the update masks 1.000" in printed
        tensors = pd.read_parquet(tmp_path / "out/tensors.parquet")
        assert len(tensors) == 10
        expected = [
            holm(of_one.filter(regex="^overlap_.*_p$").to_numpy().ravel())
            for _, of_one in tensors.groupby("checkpoint")
        ]
        found = [
            of_one.filter(regex="^overlap_.*_p_holm$").to_numpy().ravel() for _, of_one in tensors.groupby("checkpoint")
        ]
        assert np.allclose(expected, found, equal_nan=True)
        assert len(pd.read_parquet(tmp_path / "out/kinds.parquet")) == 6
        assert len(pd.read_parquet(tmp_path / "out/pairs.parquet")) == 6
        page = (tmp_path / "out/summary.html").read_text()
        assert "data:image/png;base64," in page and "http" not in page
        assert "norm: equal to the base" in page
        assert (tmp_path / "out/summary.png").read_bytes().startswith(b"\x89PNG")

    def test_json(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        base, tuned = self.write(tmp_path)
        self.run(
            monkeypatch, base, tuned, "-o", tmp_path / "out", "--json", "--angle-null", "--only", r"layers\.[01]\."
        )
        printed = json.loads(capsys.readouterr().out)
        assert [(row["kind"], row["tensors"]) for row in printed["kinds"]] == [("up", 2), ("all", 2)]
        assert "for an isotropic update" in printed["answers"][str(tuned)][0]

    @pytest.mark.parametrize("damage", ["truncated", "pickle"])
    def test_damaged_input_is_one_clear_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
    ) -> None:
        base, tuned = self.write(tmp_path)
        weights = tuned / "model.safetensors"
        if damage == "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        else:
            weights.unlink()
            torch.save({"weight": torch.ones(2)}, tuned / "pytorch_model.bin")
        with pytest.raises(SystemExit) as exit_:
            self.run(monkeypatch, base, tuned, "-o", tmp_path / "out")
        printed = capsys.readouterr()
        assert exit_.value.code == 1
        assert printed.out == ""
        assert printed.err.startswith("error: ") and printed.err.count("error:") == 1
        assert str(tuned) in printed.err
        assert not (tmp_path / "out").exists()


def test_every_printed_column_is_explained() -> None:
    from rlscape.tools.weights.diff_columns import COLUMNS, TABLE

    base, tuned = isotropic_pair(5, tensors=1)
    result: DiffResult = diff_checkpoints(base, [tuned])
    explained = " ".join(COLUMNS)
    for column in TABLE:
        assert column in result.kinds.columns
        if column not in ("kind", "tensors", "overlap_principal_binned", "overlap_low_isotropic", "energy_left_binned"):
            assert column in explained, column
