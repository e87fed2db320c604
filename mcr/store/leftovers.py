"""What lies beside results and is none: unfinished and damaged folders, locks, files of killed commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcr.store import locks
from mcr.store.locks import LOCK
from mcr.store.store import DAMAGED, PARTIAL

# Below the root: temporary files of the logging library, of a run and of a job of a sweep.
TEMPORARY = ("runs/*/wandb/.cache/tmp", "sweeps/*/*/wandb/.cache/tmp")


@dataclass(frozen=True)
class Leftover:
    """Something that may go.

    Attributes:
        place: The file or folder.
        what: "unfinished", "damaged", "lock" or "temporary".
        bytes: Of all files in it.
    """

    place: Path
    what: str
    bytes: int

    def remove(self) -> bool:
        """Delete it, unless a process has taken hold of it meanwhile; whether it is gone."""
        with locks.claimed(_guarded(self.place, self.what)) as free:
            if free and self.what != "lock":
                shutil.rmtree(self.place, ignore_errors=True)
        return not os.path.lexists(self.place)


def find(root: Path, store: Path) -> list[Leftover]:
    """All that nobody holds, in the order of its places. Nothing is written, and no result is among it.

    Args:
        root: Of runs and sweeps.
        store: Of the stages.
    """
    return [
        Leftover(place, what, _size(place))
        for place, what in sorted(_candidates(root, store))
        if locks.is_free(_guarded(place, what))
    ]


def _candidates(root: Path, store: Path) -> Iterator[tuple[Path, str]]:
    for place in store.glob("*/.*"):
        if place.name.startswith(PARTIAL):
            yield place, "unfinished"
        elif place.name.startswith(DAMAGED):
            yield place, "damaged"
        elif place.name.startswith(LOCK):
            yield place, "lock"
    for pattern in TEMPORARY:
        for place in root.glob(pattern):
            if any(place.iterdir()):
                yield place, "temporary"
        for lock in root.glob(f"{os.path.dirname(pattern)}/{LOCK}tmp"):
            yield lock, "lock"


def _guarded(place: Path, what: str) -> Path:
    """The folder whose lock says whether something is in use."""
    if what == "unfinished":
        return place.with_name(place.name.removeprefix(PARTIAL))
    return place.with_name(place.name.removeprefix(LOCK)) if what == "lock" else place


def _size(place: Path) -> int:
    files = (
        [Path(folder) / name for folder, _, names in os.walk(place) for name in names] if place.is_dir() else [place]
    )
    return sum(file.lstat().st_size for file in files if os.path.lexists(file))
