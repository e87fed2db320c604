"""What files hashed to in earlier commands: one file in the store. Losing it costs time only."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

NAME = "digests.sqlite"
TABLE = "CREATE TABLE IF NOT EXISTS digests (path BLOB PRIMARY KEY, state TEXT, digest TEXT) WITHOUT ROWID"
DIGITS = 64  # of a SHA-256
SECONDS = 2.0  # to wait for another process that writes
State = tuple[str | int, ...]  # of a file: its absolute path, and what differs after each change


class DigestMemory:
    """Digests by the state of a file, for the files below some folder.

    A file that has changed since is not found; a memory that is damaged is removed, and begun anew.

    Args:
        store: The folder that holds the memory; where there is none, nothing is known and nothing is kept.
        folder: Of the files.
    """

    def __init__(self, store: Path, folder: Path) -> None:
        self.store = store
        self.prefix = os.fsencode(os.path.join(os.path.abspath(folder), ""))
        self.known: dict[State, str] | None = None

    def recall(self) -> Mapping[State, str]:
        """What earlier commands found of the files below the folder; it is looked up once."""
        if self.known is None:
            self.known = {}
            if (self.store / NAME).is_file():
                self._use(self._read)
        return self.known

    def keep(self, found: Mapping[State, str]) -> None:
        """Add what is new of the files below the folder; an earlier state of the same file is forgotten."""
        known = self.recall()
        new = {state: digest for state, digest in found.items() if state not in known and self._below(state)}
        if new and self.store.is_dir():
            self._use(lambda database: self._write(database, new))
        self.known = {**known, **new}

    def _below(self, state: State) -> bool:
        return os.fsencode(str(state[0])).startswith(self.prefix)

    def _read(self, database: sqlite3.Connection) -> None:
        # All that begins with the prefix: up to the next byte after its last.
        end = self.prefix[:-1] + bytes([self.prefix[-1] + 1])
        rows = database.execute(
            "SELECT path, state, digest FROM digests WHERE path >= ? AND path < ?", (self.prefix, end)
        )
        found: dict[State, str] = {}
        for path, state, digest in rows:
            found[(os.fsdecode(path), *(int(number) for number in state.split()))] = str(digest)
        if any(len(digest) != DIGITS for digest in found.values()):
            raise ValueError("a digest is no digest")
        self.known = found

    @staticmethod
    def _write(database: sqlite3.Connection, new: Mapping[State, str]) -> None:
        rows = [(os.fsencode(str(path)), " ".join(map(str, rest)), digest) for (path, *rest), digest in new.items()]
        database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)
        database.commit()

    def _use(self, use: Callable[[sqlite3.Connection], None]) -> None:
        """Do something with the database; where that fails, files are read."""
        place = self.store / NAME
        try:
            with closing(sqlite3.connect(place, timeout=SECONDS)) as database:
                database.execute("PRAGMA synchronous=OFF")
                database.execute(TABLE)
                use(database)
        except sqlite3.OperationalError:
            pass  # held by another process, or not to be written
        except (sqlite3.Error, ValueError, TypeError, AttributeError):
            with suppress(OSError):
                place.unlink()
