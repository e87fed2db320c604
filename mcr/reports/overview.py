"""How a sweep ended, in a few lines. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcr.reports.factors import Levels


@dataclass(frozen=True)
class Overview:
    """How a sweep ended, in a few lines.

    Attributes:
        finished: Jobs with a report.
        failed: The others.
        factors: Factor to its levels.
        replicates: All replicates.
        title: What the table holds.
        note: What stands behind its means.
        head: Its columns; none where there is nothing that all jobs measured.
        rows: Its text.
        labels: How many of the columns are names of rows.
    """

    finished: int
    failed: int
    factors: Mapping[str, Levels]
    replicates: Levels
    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int
