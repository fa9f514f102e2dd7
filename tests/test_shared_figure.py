"""The control of what masks of RL, SFT and noise share, from updates with a planted common part."""

import numpy as np
import pandas as pd
import pytest
import torch

from rlscape.catalogue import resolve_run, runs_of
from rlscape.figures.off_principals import control_shared
from rlscape.figures.style import write_figure
from rlscape.files import read_json, write_json, write_parquet
from rlscape.geometry.pairs import ComparedRun, compare_runs
from rlscape.paths import results_dir
from rlscape.settings.scale import Config
from tests.pair_results import ARCHITECTURE, SETTINGS, WEIGHTS, draw, save_file
from tests.synthetic import small_config, write_geometry

ARMS = ("rlvr", "sft_rl_rate", "rlvr_noise")
STEPS, STEP = 9, 3e-5


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """RL and SFT share what moves them; noise is of its own. RL's steps are twice their rate."""
    config = small_config(tmp_path_factory.mktemp("shared"), dict.fromkeys(ARMS, 2))
    root, random = results_dir(config), torch.Generator().manual_seed(0)
    base = {name: weights.bfloat16().float() for name, weights in draw(0.03, 1, random).items()}
    shared = draw(STEP, 3, random)
    compared = []
    for run in runs_of(config, ARMS):
        own = draw(STEP, 1, random)
        update = own if run.startswith("rlvr_noise") else {name: own[name] + shared[name] for name in own}
        tuned = {name: (weights + update[name]).float() for name, weights in base.items()}
        write_geometry(config, run, base, tuned)
        summary = root / "geometry" / run / "summary.json"
        record = read_json(summary)
        rate = resolve_run(config, run).rl.learning_rate
        record["linear"] |= {"update_rms": 2 * rate * np.sqrt(STEPS), "cosine_to_discarded": 0.25}
        write_json(summary, record)
        write_parquet(root / "runs" / run / "metrics.parquet", pd.DataFrame({"run": run, "step": [0, STEPS]}))
        places = {part: root / part / run for part in ("start", "model")}
        for place, state in zip(places.values(), (base, tuned), strict=True):
            place.mkdir(parents=True)
            save_file(state, place / WEIGHTS)
            write_json(place / "config.json", ARCHITECTURE)
        compared.append(ComparedRun(run=run, base=places["start"], model=places["model"]))
    measured = compare_runs(compared, SETTINGS, random)
    for part, table in measured._asdict().items():
        write_parquet(root / "geometry" / f"{part}_shared.parquet", table)
    return config


def test_a_shared_part_shows_and_noise_has_none(config: Config) -> None:
    frame = control_shared.assemble(config)
    pairs = frame[frame["kind"] == "pair"].set_index(["arm_a", "arm_b", "measure"])["value"]
    assert len(pairs) == 6 * len(control_shared.MEASURES)
    own = frame["arm_a"] == frame["arm_b"]
    assert set(frame.loc[own, "pairs"]) == {1} and set(frame.loc[(frame["kind"] == "pair") & ~own, "pairs"]) == {2}
    for second in ("rlvr", "sft_rl_rate"):
        assert pairs["rlvr", second, "phi_top"] > 0.3 < pairs["rlvr", second, "phi_top_less_binned"] + 0.1
        assert abs(pairs[second, "rlvr_noise", "phi_top"]) < 0.1
    assert abs(pairs["rlvr_noise", "rlvr_noise", "phi_top_less_binned"]) < 0.1


def test_the_size_of_steps_is_in_units_of_the_rate(config: Config) -> None:
    frame = control_shared.assemble(config)
    runs = frame[frame["kind"] == "run"].set_index(["arm", "measure"])["value"]
    assert runs["rlvr", "step_share"].tolist() == pytest.approx([2.0, 2.0])
    assert runs["rlvr", "cosine_to_discarded"].tolist() == [0.25, 0.25]


def test_shares_of_runs_stand_beside_both_nulls(config: Config) -> None:
    frame = control_shared.assemble(config)
    shares = frame[frame["measure"].isin(control_shared.CLUSTERED)]
    assert len(shares) == len(control_shared.CLUSTERED) * len(ARMS) * 2
    assert np.isfinite(shares[["value", *control_shared.NULLS]]).all(axis=None)
    measured = pd.read_parquet(results_dir(config) / "geometry" / "stripes_shared.parquet")
    of_columns = shares.query("arm == 'rlvr_noise' and measure == 'column_stripes'").iloc[-1]
    outputs = measured[(measured["run"] == f"rlvr_noise-s{int(of_columns['seed'])}") & (measured["kind"] == "o")]
    columns = {"value": "column_stripes", "binned": "column_stripes_binned", "spectrum": "column_stripes_spectrum"}
    assert {name: of_columns[name] for name in columns} == {
        name: pytest.approx(outputs[column].mean()) for name, column in columns.items()
    }


def test_figure_is_drawn_and_its_csv_gives_the_same_picture(config: Config, tmp_path) -> None:
    frame = control_shared.assemble(config)
    write_figure(control_shared.draw(frame), frame, tmp_path / "first")
    reread = pd.read_csv(tmp_path / "first.csv")
    write_figure(control_shared.draw(reread), reread, tmp_path / "second")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
