"""What a run says at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mcr.reports import document
from mcr.reports.claims import Verdict

COLUMNS = ("metric", "start", "inside", "at t", "end", "above higher end")
WIDTHS = (14, 6, 6, 4, 6, 16)


def print_results(
    paths: Sequence[tuple[str, Mapping[str, Any]]],
    verdicts: Sequence[tuple[str, Verdict]],
    places: Mapping[str, Path | str],
) -> None:
    """The table of barriers, the claims, and where everything lies; eighty columns are enough.

    Args:
        paths: Name and summary of each path.
        verdicts: Path name and verdict.
        places: What, and where it lies.
    """
    console = Console()
    for name, summary in paths:
        reference = summary.get("reference", {"name": "", "metrics": None})
        # Area and the excess above the line are in the files.
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for index, (column, width) in enumerate(zip(COLUMNS, WIDTHS, strict=True)):
            table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True, min_width=width)
        if reference["metrics"]:
            table.add_column(reference["name"], justify="right", no_wrap=True)
        for metric in (metric for metric in document.SHOWN if metric in summary["curve"]["metrics"]):
            row = document.Barrier.of(metric, summary["curve"]["metrics"])
            other = [document.Barrier.of(metric, reference["metrics"]).interior] if reference["metrics"] else []
            table.add_row(row.metric, row.start, row.inside, row.at, row.end, f"{row.interior} ± {row.error}", *other)
        console.print()
        console.print(escape(name), style="bold", soft_wrap=True, highlight=False)
        console.print(table)
    if verdicts:
        console.print()
    for name, verdict in verdicts:
        style = "green" if verdict.held else "red"
        line = (
            f"{escape(name)}: {verdict.statement}; measured {verdict.measured:.3f}: [{style}]{verdict.word}[/{style}]"
        )
        console.print(line, highlight=False, soft_wrap=True)
    console.print()
    for what, place in places.items():
        console.print(escape(f"{what:<8} {place}"), highlight=False, soft_wrap=True)
