"""What a run says at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mcr.reports import document
from mcr.reports.claims import Verdict
from mcr.reports.document import Metrics

COLUMNS = ("path", "metric", "start", "inside", "at t", "end", "above higher end", "straight")


def print_results(
    paths: Sequence[tuple[str, Metrics, Metrics | None]],
    verdicts: Sequence[tuple[str, Verdict]],
    places: Mapping[str, Path | str],
) -> None:
    """The table of barriers, the claims, and where everything lies.

    Args:
        paths: Name, metrics of the curve, and of the straight line if it was measured.
        verdicts: Path name and verdict.
        places: What, and where it lies.
    """
    console = Console()
    # Eighty columns are enough: area and the excess above the line are in the files.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if index < 2 else "right", no_wrap=True)
    for name, metrics, straight in paths:
        for index, metric in enumerate(metric for metric in document.SHOWN if metric in metrics):
            row = document.Barrier.of(metric, metrics)
            other = document.Barrier.of(metric, straight).interior if straight else ""
            label = name if index == 0 else ""
            table.add_row(
                label, row.metric, row.start, row.inside, row.at, row.end, f"{row.interior} ± {row.error}", other
            )
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
