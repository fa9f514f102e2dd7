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


def training_mb(parameters: int, cached: int = 0, *, kept: bool = False) -> int:
    """What training or sampling a checkpoint takes, in MiB: an update, or generation before it, whichever is more.

    Args:
        parameters: numbers in fp32, of which an update has copies (masters, two moments, gradients, the generator's)
            and activations of a micro-batch.
        cached: numbers in fp32 that the generator's cache of keys and values holds at most.
        kept: also during updates, as where sequences are in flight then.
    """
    update, generation = 8.5 * parameters + cached * kept, 4 * parameters + cached
    return max(3600 + int(4 * update) // 2**20, 1500 + 4 * generation // 2**20)
