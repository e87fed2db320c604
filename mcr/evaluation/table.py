"""The table of a path: one row per t. No torch."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PLACE_COLUMNS = ("t", "arc_length", "distance_to_start", "distance_to_end")
METRIC_COLUMNS = (
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "robust_loss",
    "robust_accuracy",
    "input_eigenvalue",
    "input_gradient_norm",
    "eigenvector_alignment",
    "attack_success",
    "without_trigger",
    "injection_success",
    "restored_accuracy",
)


def is_share(metric: str) -> bool:
    """Whether people read a metric in percent: accuracies, errors and success rates, but no losses."""
    return metric.endswith(("accuracy", "error", "success", "trigger"))


@dataclass(frozen=True)
class PathTable:
    """Rows of a walk along a path, in order of t.

    Attributes:
        rows: Column name to value; distances are Euclidean in weight space, losses in nats, accuracies in [0, 1].
    """

    rows: tuple[Mapping[str, float], ...]

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.rows]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metric columns that this table has."""
        return tuple(name for name in METRIC_COLUMNS if name in self.rows[0])

    def write_csv(self, path: Path) -> None:
        write_csv(path, self.rows)

    @classmethod
    def read_csv(cls, path: Path) -> PathTable:
        with path.open(newline="") as stream:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
        return cls(tuple(rows))


def write_csv(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Rows as CSV; the columns are those of all rows, in order of appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, numbers aligned to the right."""
    lines = [list(columns), *map(list, rows)]
    widths = [max(3, *(len(line[index]) for line in lines)) for index in range(len(columns))]

    def render(line: Sequence[str]) -> str:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        return "| " + " | ".join(cells) + " |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([render(lines[0]), render(rule), *map(render, lines[1:])])
