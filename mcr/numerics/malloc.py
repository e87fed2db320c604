"""Where the memory of large tensors comes from."""

from __future__ import annotations

import ctypes
from contextlib import suppress

# Parameters of glibc's mallopt (malloc.h), which no Python module names.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST = 2**30  # bytes of a block that still comes from the heap
LARGEST_BEFORE = 2**25
MOST_FREE = 2**31 - 1  # bytes at the heap's end that are kept


def keep_freed_memory() -> None:
    """Let the next large tensor have the memory of the last one, instead of fresh pages of the system.

    By default glibc hands the memory of a large tensor back when it is freed and asks for new pages, which the system
    fills with zeros, for the next: a tenth to a fifth of a training step on a CPU. Numbers do not depend on it. Other
    systems and C libraries are left as they are.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        # Before 2.35 glibc refuses more than 32 MiB; to set the other alone would make things worse there.
        if mallopt(MMAP_THRESHOLD, LARGEST) or mallopt(MMAP_THRESHOLD, LARGEST_BEFORE):
            mallopt(TRIM_THRESHOLD, MOST_FREE)
