"""A figure on as many sheets as it needs, so that nothing of many jobs is left out or too small."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from matplotlib.figure import Figure

from mcr.reports import figures

Kind = TypeVar("Kind")


def some_at_a_time(columns: Sequence[Kind]) -> list[Sequence[Kind]]:
    """As many as a sheet has room for."""
    return [columns[begin : begin + figures.MOST_COLUMNS] for begin in range(0, len(columns), figures.MOST_COLUMNS)]


def save_sheets(drawn: Sequence[Figure], folder: Path, formats: Sequence[str], dpi: int) -> list[str]:
    """Write figure.*, figure_2.*, ... and nothing else of that name; returns the names without their endings."""
    for stale in folder.glob("figure_*.*"):  # a named folder may hold an earlier, larger sweep
        stale.unlink()
    names = ["figure", *(f"figure_{number}" for number in range(2, len(drawn) + 1))]
    for name, figure in zip(names, drawn, strict=True):
        figures.save(figure, folder, name, formats, dpi)
    return names
