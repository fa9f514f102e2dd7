"""Nothing is downloaded, and one thread: results of tests do not depend on the machine's cores."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parents[1]
