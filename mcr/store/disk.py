"""What the disk has to do for a result: hold it before it gets its name, and say where there is no room left."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# What libraries say whose errors have no number.
SAID = ("No space left", "StorageFull", "Disk quota exceeded")
LEAST_BYTES = 4096  # numpy tells only that less was written than wanted: with less room than a block that is why


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: BaseException, place: Path) -> bool:
    """Whether an error means that there is no room left at a place."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    if any(said in str(error) for said in SAID):
        return True
    return isinstance(error, OSError | RuntimeError) and shutil.disk_usage(place).free < LEAST_BYTES
