"""Content-addressed store of stages: a folder exists only when complete, and is made once."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from mcr.errors import InputError
from mcr.store import disk, identity, locks, manifest
from mcr.store.stage import Stage

PARTIAL, DAMAGED = ".partial-", ".damaged-"  # before the key
MISSING = "it is not there"
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
State = Literal["hit", "miss", "damaged"]
log = logging.getLogger("mcr")


class Store:
    """Folders ``<root>/<stage>/<key>``, each complete; what is unfinished or damaged lies beside them."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()

    def folder(self, stage: Stage) -> Path:
        return self.root / stage.name / stage.key

    def state(self, stage: Stage, contents: bool = False) -> State:
        """Whether a stage is there, and whole.

        Args:
            stage: What is wanted.
            contents: Whether its files are about to be read: then their digests are compared, and not sizes alone.
        """
        wrong = _wrong(self.folder(stage), stage.key, contents)
        return "hit" if not wrong else "miss" if wrong == MISSING else "damaged"

    def has(self, stage: Stage, contents: bool = False) -> bool:
        """Whether the state is "hit"."""
        return self.state(stage, contents) == "hit"

    def fetch(
        self,
        stage: Stage,
        compute: Callable[[Path], None],
        device: Callable[[], Mapping[str, Any]],
        contents: bool = False,
    ) -> Path:
        """The complete folder of a stage: a hit, or computed under a lock and published by one rename.

        The partial folder survives a killed process, so a computation that leaves checkpoints there can go on. What is
        damaged or incomplete is moved aside, and made anew.

        Args:
            stage: What is wanted.
            compute: Writes the artifact into the folder that it is given.
            device: For the provenance record, asked when the artifact is there.
            contents: See ``state``.

        Raises:
            InputError: Where the stage has to be made, and nothing can be written here.
            OSError: For a full disk, naming the folder.
        """
        folder = self.folder(stage)
        wrong = _wrong(folder, stage.key, contents)
        if not wrong:
            return folder
        partial = folder.with_name(f"{PARTIAL}{stage.key}")
        with _making(folder, stage.label or stage.name, wrong):
            wrong = _wrong(folder, stage.key, contents)
            if not wrong:
                return folder
            aside = _set_aside(folder, wrong) if os.path.lexists(folder) else None
            # A process may have been killed when all but the name was there.
            if manifest.damage(partial, stage.key, contents=True):
                self._make(stage, partial, compute, device)
            os.replace(partial, folder)
            disk.sync(folder.parent)
            if aside is not None:
                _compare(aside, folder)
        return folder

    @staticmethod
    def _make(
        stage: Stage, partial: Path, compute: Callable[[Path], None], device: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Compute an artifact, and write its record.

        Raises:
            Exception: Whatever ``compute`` raises; the folder stays, and the next try goes on in it.
        """
        partial.mkdir(exist_ok=True)
        # What earlier tries took is not known: the record says that its numbers are of the last one alone.
        resumed = {"resumed": True} if any(partial.iterdir()) else {}
        begin = time.perf_counter()
        try:
            compute(partial)
            record = {
                "stage": stage.name,
                "version": stage.version,
                "key": stage.key,
                "config": identity.numbers(stage.config),
                "needs": {role: {"stage": need.name, "key": need.key} for role, need in stage.needs.items()},
                "provenance": {**identity.provenance(time.perf_counter() - begin, device()), **resumed},
            }
            manifest.write(partial, record)
        except Exception as error:
            if disk.is_full(error, partial):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial)) from error
            raise


def _wrong(folder: Path, key: str, contents: bool) -> str:
    return manifest.damage(folder, key, contents) if os.path.lexists(folder) else MISSING


def _set_aside(folder: Path, wrong: str) -> Path:
    """Move a damaged folder out of the way; its files may still be of use to somebody."""
    aside, number = folder.with_name(f"{DAMAGED}{folder.name}"), 1
    while os.path.lexists(aside):
        number += 1
        aside = folder.with_name(f"{DAMAGED}{folder.name}-{number}")
    os.replace(folder, aside)
    log.warning("  %s is damaged (%s): moved to %s, made anew", folder, wrong, aside.name)
    return aside


def _compare(aside: Path, folder: Path) -> None:
    """Results that were made from the earlier files stay: it is told where those had other bytes."""
    other = manifest.differing(aside, folder)
    if other:
        log.warning(
            "  %s: %s has other bytes than before it was damaged (another machine, or number of threads?); results "
            "that were made from it before are kept",
            folder,
            ", ".join(other),
        )


@contextmanager
def _making(folder: Path, label: str, wrong: str) -> Iterator[None]:
    """Hold the lock of a folder that has to be made. Raises InputError where nothing can be written."""
    with ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.held(folder, label))
        except OSError as error:
            if error.errno in READ_ONLY:
                raise InputError(
                    f"{folder} has to be made ({wrong}), but cannot be written ({error.strerror}): make the store "
                    "writable, or choose another place with paths.root="
                ) from None
            raise
        yield
