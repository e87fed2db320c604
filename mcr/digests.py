"""Digests of what is read from outside: files, and the code behind an import path."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from math import inf
from pathlib import Path

from mcr import modules
from mcr.digest_memory import DigestMemory, State
from mcr.errors import InputError

SETTLED_SECONDS = 2.0  # after its last change: the coarsest clock of a file system
_digests: dict[State, str] = {}  # of the files that this process has read, or recalls
_memories: dict[tuple[str, str], DigestMemory] = {}  # by store and folder: each is looked up once a process


def file_digest(path: str, most_megabytes: float = inf) -> str:
    """SHA-256 of a file's bytes.

    A file is read once a process: its digest is remembered, and forgotten with the next change of the file.

    Args:
        path: The file, or a link to it.
        most_megabytes: A larger file is refused unread.

    Raises:
        InputError: Where there is no such file, or none that ends (a device, a pipe), or it is larger than allowed.
    """
    try:
        before = os.stat(path)
        if not stat.S_ISREG(before.st_mode):
            raise InputError(f"{path} is no plain file")
        size = before.st_size / 1e6
        if size > most_megabytes:
            raise InputError(f"{path} holds {size:.1f} MB, the limit is {most_megabytes:g} MB (most_megabytes)")
        if before.st_size == 0:
            # Not opened: files of the system's own (/proc) say so too, and may never end.
            return hashlib.sha256().hexdigest()
        state = _state(path, before)
        if state in _digests:
            return _digests[state]
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            after = os.fstat(stream.fileno())
    except OSError as error:
        raise InputError(f"cannot read the file {path}: {error.strerror}") from None
    # Times are coarse: a file that has just changed could change again and look the same.
    if state == _state(path, after) and time.time() - max(after.st_mtime, after.st_ctime) > SETTLED_SECONDS:
        _digests[state] = digest
    return digest


def _state(path: str, found: os.stat_result) -> State:
    """What differs after each change of a file, without reading it."""
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return (os.path.abspath(path), found.st_dev, found.st_ino, found.st_size, *times)


@contextmanager
def remembered(store: str, folder: Path) -> Iterator[None]:
    """Within this, files below a folder that have not changed since an earlier command are not read again.

    Args:
        store: The folder that holds the memory; one that does not exist is not made.
        folder: Of the files.
    """
    place = (os.path.abspath(store), os.path.abspath(folder))
    memory = _memories.setdefault(place, DigestMemory(Path(store), folder))
    _digests.update(memory.recall())
    yield
    memory.keep(_digests)


def source_digest(target: str) -> str:
    """What stands behind an import path: SHA-256 of a user's module or package, or an installed package's version.

    A user's own network is edited between runs; without this, an old result would be taken for the new code's.
    """
    top = target.split(".")[0]
    spec = modules.find(top)
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        raise InputError(f"no module holds {target}: is its folder on PYTHONPATH?")
    if not spec.has_location and not spec.submodule_search_locations:
        raise InputError(f"{target} is a part of Python itself")
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    if not folders and not Path(str(spec.origin)).is_file():  # built into Python, or frozen
        raise InputError(f"{target} is a part of Python, no network or class of your own")
    files = sorted(path for folder in folders for path in folder.rglob("*.py")) or [Path(str(spec.origin))]
    if {"site-packages", "dist-packages"} & set(files[0].parts):
        names = metadata.packages_distributions().get(top, [])
        return " ".join(f"{name}=={metadata.version(name)}" for name in sorted(set(names))) or "installed"
    return hashlib.sha256("".join(file_digest(str(path)) for path in files).encode()).hexdigest()
