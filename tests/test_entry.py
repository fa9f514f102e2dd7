"""What every rule's process does before its function runs."""

import ctypes
import subprocess
import sys

import pytest

ALLOCATE = """
import resource, sys
from rlscape.pipeline.entry import keep_freed_memory

size = 2**26
if sys.argv[1] == "kept":
    keep_freed_memory()
b"x" * size
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    b"x" * size
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Takes and frees 64 MiB five times; prints how many pages it was given after the first."""


def pages(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", ALLOCATE, how], capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="the C library is not glibc")
def test_freed_memory_is_used_again() -> None:
    assert pages("given back") > 50 * pages("kept")
