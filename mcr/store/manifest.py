"""The record of a published folder: what it came from, and the size and digest of every file in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcr.digests import file_digest
from mcr.errors import InputError
from mcr.store import identity
from mcr.store.disk import sync

RECORD = "stage.json"


def write(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the record beside the files that it lists; all of it is on the disk when this returns.

    Args:
        folder: Holds the finished files.
        facts: stage, version, key, config, needs and provenance.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / RECORD:
            sync(path)
            size, digest = path.stat().st_size, file_digest(str(path))
            files[path.relative_to(folder).as_posix()] = {"bytes": size, "sha256": digest}
    record = folder / RECORD
    record.write_text(json.dumps({**facts, "files": files}, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    mode = record.stat().st_mode
    for path in (folder / name for name in files):
        path.chmod(mode)  # some libraries write by way of temporary files, which only their user may read
    for path in (record, *(place for place in folder.rglob("*") if place.is_dir()), folder):
        sync(path)


def damage(folder: Path, key: str, contents: bool = False) -> str:
    """What is wrong with a published folder, in words that name the file; "" where nothing is.

    Args:
        folder: Of a stage.
        key: Of the stage.
        contents: Whether digests are compared too, and not sizes alone.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        said = {record["key"], identity.stage_key(record) if contents else key}
        files = [(name, wanted["bytes"], wanted["sha256"]) for name, wanted in record["files"].items()]
    except FileNotFoundError:
        return f"{RECORD} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return f"{RECORD} cannot be read"
    if said != {key}:
        return f"{RECORD} is not what was written"
    for name, size, digest in files:
        try:
            found = (folder / name).stat().st_size
            if found != size:
                return f"{name} holds {found} bytes, {size} were written"
            if contents and file_digest(str(folder / name)) != digest:
                return f"{name} is not what was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except (OSError, InputError):
            return f"{name} cannot be read"
    return ""


def differing(one: Path, other: Path) -> list[str]:
    """The files that two folders of a stage list with different bytes; none where a record cannot tell."""
    try:
        first, second = (json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"] for folder in (one, other))
        return sorted(name for name in first.keys() & second.keys() if first[name] != second[name])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def check(folder: Path) -> dict[str, Any]:
    """The record of a folder outside of a plan, after all its files were compared with it.

    Raises:
        InputError: Where one of them is damaged or missing.
    """
    wrong = damage(folder, folder.name, contents=True)
    if wrong:
        raise InputError(f"{folder} is damaged: {wrong}; remove its {RECORD} and repeat the command that made it")
    found: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return found
