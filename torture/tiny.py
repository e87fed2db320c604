"""The job that is broken: networks, path and report of a second or two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import TINY

# Two ends with another recipe each, one of them attacked: several epochs, so that there is something to go on from.
REPORT = ("report", *TINY, "endpoint@endpoints.end=adversarial", "training.epochs=3", "logger=none")
RECORD, SUMMARY = "stage.json", "summary.json"
MADE = b"## How this was made"  # the end of a report: the command and its date
VOLATILE = frozenset({"provenance", "seconds"})  # of a record: when and where it was made


def published(root: Path) -> dict[str, bytes | str]:
    """All files of the store and of the last run's tables, by their place; of a record what does not depend on time."""
    found: dict[str, bytes | str] = {}
    for path in _files(root / "store"):
        found[path.relative_to(root).as_posix()] = _record(path) if path.name == RECORD else path.read_bytes()
    runs = sorted((root / "runs").iterdir()) if (root / "runs").is_dir() else []
    for path in _files(runs[-1]) if runs else ():
        if path.suffix in (".csv", ".md", ".json") and ".hydra" not in path.parts:
            found[f"run/{path.relative_to(runs[-1]).as_posix()}"] = _undated(path)
    return found


def _undated(path: Path) -> bytes | str:
    """A file of a run without when and by which command it was made."""
    if path.name == SUMMARY:
        content = json.loads(path.read_bytes())
        return json.dumps({name: value for name, value in content.items() if name != "made"})
    return path.read_bytes().partition(MADE)[0]


def difference(expected: dict[str, bytes | str], found: dict[str, bytes | str]) -> str:
    """What differs between two runs' results; "" for nothing."""
    missing, more = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    other = sorted(name for name in set(expected) & set(found) if expected[name] != found[name])
    parts = [("missing", missing), ("left over", more), ("other bytes in", other)]
    return "; ".join(f"{len(names)} {what}: {', '.join(names[:3])}" for what, names in parts if names)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".lock-", ".damaged-")) for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden and "wandb" not in path.parts:
            yield path


def _record(path: Path) -> bytes | str:
    try:
        record = json.loads(path.read_bytes())
    except ValueError:  # damaged: shown as it is
        return path.read_bytes()
    return json.dumps({name: value for name, value in record.items() if name not in VOLATILE}, sort_keys=True)
