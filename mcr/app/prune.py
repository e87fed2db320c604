"""``mcr prune``: what lies beside the results and may go; ``mcr prune --yes`` removes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mcr.store import leftovers

YES = "--yes"
TOLD = {
    "unfinished": "a training that was interrupted or diverged: its command would go on from here",
    "damaged": "was moved aside, and made anew",
    "lock": "of a process that was killed",
    "temporary": "files of a command that was killed",
}


def prune(paths: Mapping[str, Any], remove: bool) -> None:
    """Print what nobody holds and how much it is, and remove it where that is wanted; results stay.

    Args:
        paths: ``root`` and ``store`` of the configuration.
        remove: Whether to remove it.
    """
    console = Console()
    root = Path(paths["root"])
    found = leftovers.find(root, Path(paths["store"]))
    if remove:
        found = [one for one in found if one.remove()]
    table = Table("what", "MB", "place", "", box=None, pad_edge=False)
    for one in found:
        table.add_row(one.what, f"{one.bytes / 1e6:.1f}", escape(str(one.place)), TOLD[one.what])
    if found:
        console.print(table)
    size = sum(one.bytes for one in found) / 1e6
    said = "removed" if remove else f"may go: mcr prune {YES} removes them"
    console.print(f"{len(found)} leftovers, {size:.1f} MB, {said}" if found else f"nothing to remove below {root}")
