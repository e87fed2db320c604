"""What a run measured, read back from the tables of its report."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any


def rows(made: dict[str, Any], name: str = "path") -> list[dict[str, float]]:
    """The table of one subspace, place by place."""
    with (Path(made["report"][0]) / f"{name}.csv").open(newline="") as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def column(made: dict[str, Any], metric: str, name: str = "path") -> list[float]:
    return [row[metric] for row in rows(made, name)]
