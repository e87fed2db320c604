"""What a run says at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mcr.reports import document
from mcr.reports.claims import Verdict


def print_results(
    rows: Sequence[Sequence[str]], verdicts: Sequence[tuple[str, Verdict]], places: Mapping[str, Path | str]
) -> None:
    """The table of barriers, the claims, and where everything lies."""
    console = Console()
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    # Area and the excess above the line are in the files; this must fit a terminal.
    for index, column in enumerate(document.BARRIER_COLUMNS[:7]):
        table.add_column(column, justify="left" if index < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row[:7])
    console.print()
    console.print(table)
    if verdicts:
        console.print()
    for name, verdict in verdicts:
        style = "green" if verdict.held else "red"
        line = f"{name}: {verdict.statement}; measured {verdict.measured:.3f}: [{style}]{verdict.word}[/{style}]"
        console.print(line, highlight=False, soft_wrap=True)
    console.print()
    for what, place in places.items():
        console.print(f"{what:<8} {place}", highlight=False, soft_wrap=True)
