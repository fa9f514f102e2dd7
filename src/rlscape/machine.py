"""What the machine has that jobs share."""

import os
from pathlib import Path

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_mb() -> int:
    """Memory of this machine, or of the container that this runs in, in MiB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if CONTAINER_LIMIT.exists() and (text := CONTAINER_LIMIT.read_text().strip()).isdecimal():
        total = min(total, int(text))
    return total // 2**20
