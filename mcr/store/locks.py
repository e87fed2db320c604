"""One process at a time makes a stage; what a dead process held is free."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mcr.text import printable

LOCK = ".lock-"  # before the name of the folder that is locked
MOST = 200  # characters of the name of a process and its machine
AT_ONCE, FOREVER = 0.0, -1.0  # seconds to wait, in the words of filelock
log = logging.getLogger("mcr")


def lock_file(folder: Path) -> Path:
    """The file whose lock stands for a folder's; it is there only while somebody holds it, or was killed."""
    return folder.with_name(f"{LOCK}{folder.name}")


@contextmanager
def held(folder: Path, label: str) -> Iterator[None]:
    """Hold a folder's lock, waiting for whoever has it. Raises OSError where it cannot be written."""
    lock = FileLock(lock_file(folder))
    try:
        _acquire(lock, AT_ONCE)
    except Timeout:
        log.info("  %-20s %s  %s makes it: waiting", label, folder.name, _owner(lock))
        _acquire(lock, FOREVER)
    with _released(lock):
        Path(lock.lock_file).write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield


def _owner(lock: FileLock) -> str:
    """Who holds a lock, as that process has written into it."""
    try:
        said = Path(lock.lock_file).read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has just been released
        said = ""
    return printable(said, MOST) or "another process"


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock if nobody does; gives whether it is held now."""
    lock = FileLock(lock_file(folder))
    try:
        _acquire(lock, AT_ONCE)
    except Timeout:
        yield False
        return
    with _released(lock):
        yield True


def is_free(folder: Path) -> bool:
    """Whether nobody holds a folder's lock now; writes nothing."""
    lock = FileLock(lock_file(folder))
    if not os.path.lexists(lock.lock_file):
        return True
    try:
        with lock.acquire(timeout=0):
            return True
    except Timeout:
        return False


def _acquire(lock: FileLock, timeout: float) -> None:
    while True:
        try:
            lock.acquire(timeout=timeout)
        except OSError as error:
            # On a network's file system: another machine has removed the file since this one opened it.
            if error.errno != errno.ESTALE:
                raise
        else:
            return


@contextmanager
def _released(lock: FileLock) -> Iterator[None]:
    try:
        yield
    finally:
        # While it is held: who waits for this file sees that it has no name any more, and takes a new one.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
