"""Nothing is downloaded, and one thread: results of tests do not depend on the machine's cores."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parents[1]


@pytest.fixture
def precise_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that noise alone makes no run collapse."""
    from tests import synthetic  # imports torch

    monkeypatch.setattr(synthetic, "SAMPLES", 16_384)
