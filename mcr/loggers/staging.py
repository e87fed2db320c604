"""Where a logging library puts what it makes on the way: beside a run's files, not among those of the whole machine."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mcr.store import locks

TEMPORARY = "tmp"


@contextmanager
def temporary_files(cache_folder: Path) -> Iterator[None]:
    """Python's temporary files are made below a folder for a while; it is there for as long as this process lives.

    The variable TMPDIR stays: sockets that programs make there would have names too long for a socket.
    """
    before = tempfile.tempdir
    tempfile.tempdir = str(_place(cache_folder))
    try:
        yield
    finally:
        tempfile.tempdir = before


@cache
def _place(cache_folder: Path) -> Path:
    place = cache_folder / TEMPORARY
    place.mkdir(parents=True, exist_ok=True)
    # Held to the end of the process: so it is known what a killed one has left.
    lock = locks.claimed(place)
    lock.__enter__()
    atexit.register(lock.__exit__, None, None, None)
    return place
