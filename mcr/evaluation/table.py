"""The table of a subspace: one row a place. No torch."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from mcr.metric import Metric
from mcr.text import csv_cell, markdown_cell


@dataclass(frozen=True)
class Table:
    """Means at the places of a subspace, one row a place.

    Attributes:
        coordinates: Columns that say where a place lies.
        metrics: Columns that were measured.
        rows: Column to value; distances are Euclidean in weight space, losses in nats, accuracies in [0, 1].
        fitted: Metrics on the images that the subspace was fitted on.
    """

    coordinates: tuple[str, ...]
    metrics: tuple[Metric, ...]
    rows: tuple[Mapping[str, float], ...]
    fitted: frozenset[str]

    def column(self, name: str) -> list[float]:
        """The values of a column, place by place."""
        return [row[name] for row in self.rows]

    def write(self, folder: Path, name: str) -> None:
        """The rows as NAME.csv."""
        write_csv(folder / f"{name}.csv", self.rows)

    @classmethod
    def read(cls, folder: Path, name: str, described: Mapping[str, Any]) -> Table:
        """What ``write`` wrote.

        Args:
            folder: Where it lies.
            name: Of the table.
            described: ``coordinates``, ``metrics`` and ``fitted``, as ``describe`` gives them.
        """
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
        metrics = tuple(Metric(**metric) for metric in described["metrics"])
        return cls(tuple(described["coordinates"]), metrics, tuple(rows), frozenset(described["fitted"]))

    @classmethod
    def mean(cls, tables: Sequence[Table]) -> Table:
        """The mean of tables of the same places, number by number. Raises ValueError for tables of other places."""
        first = tables[0]
        places = [[[row[name] for name in first.coordinates] for row in table.rows] for table in tables]
        if any(other != places[0] for other in places):
            raise ValueError("tables of different places have no mean")
        rows = [
            {name: sum(row[name] for row in same) / len(same) for name in same[0] if all(name in row for row in same)}
            for same in zip(*(table.rows for table in tables), strict=True)
        ]
        known = tuple(metric for metric in first.metrics if all(metric in table.metrics for table in tables))
        return cls(first.coordinates, known, tuple(rows), first.fitted)

    def describe(self) -> dict[str, Any]:
        """What a file of comma-separated values cannot say of its columns, as plain values."""
        return {
            "coordinates": self.coordinates,
            "metrics": [asdict(metric) for metric in self.metrics],
            "fitted": sorted(self.fitted),
        }


def metrics_of(described: Mapping[str, Any]) -> list[Metric]:
    """The metrics of a subspace, from what a report's summary says of it: of its table, and of those beside it."""
    tables = [described["table"], *described["apart"].values()]
    return [Metric(**metric) for table in tables for metric in table["metrics"]]


def write_csv(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Rows as CSV; the columns are those of all rows, in order of appearance.

    A number that is not finite is left empty; see ``csv_cell`` for text.
    """
    rows = [{name: _number_or_text(value) for name, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerow(map(csv_cell, columns))
        csv.DictWriter(stream, columns, lineterminator="\n").writerows(rows)


def _number_or_text(value: object) -> object:
    return "" if isinstance(value, float) and not isfinite(value) else csv_cell(value)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers aligned to the right; whatever a cell says, it is a cell of text."""
    lines = [list(map(markdown_cell, line)) for line in (columns, *rows)]
    widths = [max(3, *(len(line[index]) for line in lines)) for index in range(len(columns))]

    def render(line: Sequence[str]) -> str:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        return "| " + " | ".join(cells) + " |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([render(lines[0]), render(rule), *map(render, lines[1:])])
