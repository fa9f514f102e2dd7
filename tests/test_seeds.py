"""Which seeds a scale's runs have."""

from pathlib import Path

import pytest

from rlscape.catalogue import first_run, load_scale, resolve_run, runs_of, seeds_of
from tests.test_config import REPOSITORY, SCALES, relative


def test_seeds_start_where_the_scale_says() -> None:
    seeds = {"sft": 3, "rlvr": 2, "sft_then_rl": 2}
    config = load_scale(REPOSITORY / "config" / "smoke.yaml").changed(first_seed=7, seeds=seeds)
    assert runs_of(config, ["rlvr", "sft"]) == ["rlvr-s7", "rlvr-s8", "sft-s7", "sft-s8", "sft-s9"]
    assert first_run(config, "sft") == "sft-s7"
    assert list(seeds_of(config, "rlvr", "sft")) == [7, 8]
    starts = {resolve_run(config, run).start for run in runs_of(config, ["sft_then_rl"])}
    assert starts <= set(runs_of(config, ["sft"]))


@pytest.mark.parametrize("file", SCALES, ids=relative)
def test_no_seed_that_chose_a_testbed_decides_a_claim(file: Path) -> None:
    config = load_scale(file)
    assert max(seeds_of(config, arm)[-1] for arm in config.seeds) < 100
