"""Content-addressed store of stages: a folder exists only when complete, and is made once."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mcr.store import identity
from mcr.store.stage import Stage

RECORD = "stage.json"
log = logging.getLogger("mcr")


class Store:
    """Folders ``<root>/<stage>/<key>``; the only code that creates or removes one."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()

    def folder(self, stage: Stage) -> Path:
        return self.root / stage.name / stage.key

    def has(self, stage: Stage) -> bool:
        return (self.folder(stage) / RECORD).is_file()

    def fetch(self, stage: Stage, compute: Callable[[Path], None], device: str) -> Path:
        """The complete folder of a stage: a hit, or computed under a lock and published by one rename.

        The partial folder survives a killed process, so a computation that leaves checkpoints there can go on.

        Args:
            stage: What is wanted.
            compute: Writes the artifact into the folder that it is given.
            device: For the provenance record.
        """
        folder = self.folder(stage)
        if self.has(stage):
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(f".partial-{stage.key}")
        with _lock(folder, stage.label or stage.name):
            if self.has(stage):
                return folder
            partial.mkdir(exist_ok=True)
            begin = time.perf_counter()
            compute(partial)
            record = {
                "stage": stage.name,
                "version": stage.version,
                "key": stage.key,
                "config": identity.numbers(stage.config),
                "needs": {role: {"stage": need.name, "key": need.key} for role, need in stage.needs.items()},
                "provenance": identity.provenance(time.perf_counter() - begin, device),
            }
            (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            os.replace(partial, folder)
        return folder


@contextmanager
def _lock(folder: Path, label: str) -> Iterator[None]:
    lock = FileLock(folder.with_name(f".lock-{folder.name}"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("  %-20s %s  another process makes it: waiting", label, folder.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
