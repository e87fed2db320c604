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
    "unfinished": "interrupted or refused; where it is a training, its command would go on from there",
    "damaged": "moved aside, and made anew",
    "lock": "of a command that was killed",
    "temporary": "of a command that was killed",
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
    kept = [one for one in found if not one.remove()] if remove else []
    found = [one for one in found if one not in kept]
    table = Table("what", box=None, pad_edge=False)
    table.add_column("MB", justify="right")
    table.add_column(escape(f"below {root}"), overflow="fold")
    for one in found:
        place = one.place.relative_to(root) if one.place.is_relative_to(root) else one.place
        table.add_row(one.what, f"{one.bytes / 1e6:.1f}", escape(str(place)))
    if found:
        console.print(table)
        for what in dict.fromkeys(one.what for one in found):
            console.print(f"{what}: {TOLD[what]}", style="dim", highlight=False, soft_wrap=True)
    for one in kept:
        console.print(
            f"{one.place} stays: a process has taken hold of it, or it cannot be removed", markup=False, soft_wrap=True
        )
    size = sum(one.bytes for one in found) / 1e6
    said = "removed" if remove else f"may go: mcr prune {YES} removes them"
    count = f"{len(found)} leftover{'s' if len(found) > 1 else ''}"
    console.print(f"{count}, {size:.1f} MB, {said}" if found else f"nothing to remove below {root}", markup=False)
