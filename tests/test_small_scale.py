"""A scale of one figure: its arms, its claims, and no other target."""

import csv
from pathlib import Path

import pytest

from tests.pipeline_copy import Copy


@pytest.mark.more
def test_a_scale_of_one_figure_has_its_arms_and_its_claims(tmp_path: Path, repository: Path) -> None:
    copy = Copy.of(repository, tmp_path)
    smoke = copy.root / "config" / "smoke.yaml"
    smoke.write_text(smoke.read_text().replace("scale: smoke\n", "scale: smoke\ntargets: [off_principals_fig5]\n"))
    assert copy.would_run("all") == {
        "pretrain_base": 1,
        "evaluate_base": 1,
        "train_rl_keeping_snapshots": 2,
        "measure_geometry": 2,
        "plot_figure": 1,
        "evaluate_claims": 1,
        "plot_scoreboard": 1,
    }
    for target in ("scalerl_fig5", "scalerl_tables"):
        assert copy.snakemake(target, "--dry-run").returncode != 0
    finished = copy.snakemake("all", "--cores", "2")
    assert finished.returncode == 0, finished.stdout
    with (copy.root / "results" / "smoke" / "claims.csv").open(newline="") as file:
        reasons = {row["id"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons["S9"].startswith("the scale does not run scalerl_fig5")
