"""A stage of the store: what it is, what made it, and what it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from mcr.app import differences
from mcr.errors import InputError
from mcr.store import manifest
from mcr.store.stage import Stage

LEAST = 6  # digits of a key that name a stage
MOST = 12  # settings of a recipe that are told


@dataclass(frozen=True)
class MadeStage:
    """A folder of the store.

    Attributes:
        folder: It.
        record: Its ``stage.json``.
        names: What runs below the root call it, and the folder of each such run.
    """

    folder: Path
    record: Mapping[str, Any]
    names: Sequence[tuple[str, Path]]

    @classmethod
    def of(cls, digits: str, store: Path, root: Path) -> MadeStage:
        """A stage by the first digits of its key.

        Args:
            digits: At least six.
            store: Folder of the store.
            root: Below it lie runs and sweeps.

        Raises:
            InputError: Where none or several have such a key, or the record cannot be read.
        """
        every = [path for path in sorted(store.glob("*/*")) if not path.name.startswith(".") and path.is_dir()]
        found = [path for path in every if path.name.startswith(digits)]
        if not found:
            close = get_close_matches(digits, [path.name[: len(digits)] for path in every], n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "mcr show has keys"
            raise InputError(f"no stage of {store} has a key that begins with {digits}; {hint}")
        if len(found) > 1:
            raise InputError(f"several stages have keys that begin with {digits}: {', '.join(p.name for p in found)}")
        record = manifest.check(found[0])
        links = [*root.glob("runs/*/stages/*"), *root.glob("sweeps/*/*/stages/*")]
        named = [(link.name, link.parent.parent) for link in sorted(links) if link.resolve() == found[0].resolve()]
        return cls(found[0], record, named)

    def print(self, console: Console, planned: Sequence[Stage]) -> None:
        """All of it, in a few lines.

        Args:
            console: Where.
            planned: Stages to compare its recipe with: those of the configuration as it is.
        """
        record, made = self.record, self.record["provenance"]
        files = record["files"]
        size = sum(file["bytes"] for file in files.values()) / 1e6
        time = datetime.fromtimestamp((self.folder / manifest.RECORD).stat().st_mtime)
        names = ", ".join(dict.fromkeys(name for name, _ in self.names)) or "no run below the root has it"
        runs = [run for _, run in self.names]
        needs = ", ".join(f"{role}: {need['stage']}/{need['key']}" for role, need in record["needs"].items())
        console.print(Text(f"{record['stage']} {record['key']}", style="bold"))
        told = {
            "called": f"{names}{f', last in {runs[-1]}' if runs else ''}",
            "folder": str(self.folder),
            "size": f"{size:.1f} MB in {len(files)} files: {', '.join(files)}",
            "made": f"{time:%Y-%m-%d %H:%M} in {made['seconds']:.1f} s, {made['device']}, {made['threads']} threads, "
            f"commit {made['commit']}",
            "needs": needs or "nothing",
            "recipe": self.differing(planned),
        }
        for name, text in told.items():
            console.print(Padding(Text(f"{name:<8}{text}"), (0, 0, 0, 2)))

    def differing(self, planned: Sequence[Stage]) -> str:
        """What of the recipe is otherwise than in the stage of this kind that is most like it, in words."""
        own = dict(_leaves(self.record["config"]))
        others = [dict(_leaves(stage.config)) for stage in planned if stage.name == self.record["stage"]]
        if not others:
            return "no stage of this kind is in the plan of this configuration"

        def changed(other: Mapping[str, Any]) -> list[str]:
            return [key for key in {**own, **other} if own.get(key) != other.get(key)]

        nearest = min(others, key=lambda other: len(changed(other)))
        keys = changed(nearest)
        if not keys:
            return "as in the plan of this configuration"
        told = [
            f"{key}={differences.said(own[key])} ({differences.said(nearest[key]) if key in nearest else 'not there'})"
            if key in own
            else f"no {key} ({differences.said(nearest[key])})"
            for key in keys[:MOST]
        ]
        more = f" and {len(keys) - MOST} more" if len(keys) > MOST else ""
        return f"otherwise than here (in brackets): {', '.join(told)}{more}"


def _leaves(tree: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted keys of nested mappings that hold no mapping, with their values; numbers as numbers."""
    for key, value in tree.items():
        path = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        else:
            yield path, value
