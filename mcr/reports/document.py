"""The written report of one run, or of a sweep's runs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcr.evaluation.table import Table, markdown
from mcr.metric import Metric
from mcr.reports.claims import Verdict, told

Summary = Mapping[str, Mapping[str, float]]

COLUMNS = ("path", "metric", "ends", "max inside", "at", "above highest end", "above line", "area")
EXPLANATION = (
    "Above highest end: the highest value at a point that is no end minus the highest of the ends, ± its standard "
    "error over images; negative: no barrier. Above line: the largest excess over the blend of the ends' values "
    "(along a path the straight line between them). Area: the mean over the path of that excess. Losses "
    "in nats, errors in percent."
)


@dataclass(frozen=True)
class Barrier:
    """One metric of one subspace as text: losses with three digits, errors in percent with one."""

    metric: str
    ends: tuple[str, ...]
    inside: str
    at: str
    interior: str
    error: str
    above_line: str
    area: str

    @classmethod
    def of(cls, metric: Metric, found: Mapping[str, float], ends: Sequence[str]) -> Barrier:
        """The barrier of a metric.

        Args:
            metric: What it is.
            found: Its statistics.
            ends: Names of the ends.
        """
        highest = max(found[name] for name in ends)
        others = ("interior_se", "interior_low", "interior_high")
        where = [value for name, value in found.items() if name.startswith("interior_") and name not in others]
        return cls(
            metric.title(metric.cost),
            tuple(metric.text(found[name]) for name in ends),
            metric.text(found["interior"] + highest),
            " ".join(f"{value:.2f}" for value in where),
            metric.text(found["interior"], "+"),
            metric.text(found["interior_se"]),
            metric.text(found["barrier_above_line"]),
            metric.text(found["area"]),
        )


def barriers(metrics: Sequence[Metric], summary: Summary, ends: Sequence[str]) -> list[Barrier]:
    """The barriers of one subspace, of the metrics that figures show."""
    return [
        Barrier.of(metric, summary[metric.cost], ends) for metric in metrics if metric.label and metric.cost in summary
    ]


def barrier_rows(name: str, metrics: Sequence[Metric], summary: Summary, ends: Sequence[str]) -> list[list[str]]:
    """The barriers of one subspace, one row a metric, in the order of COLUMNS."""
    return [
        [name, b.metric, " / ".join(b.ends), b.inside, b.at, f"{b.interior} ± {b.error}", b.above_line, b.area]
        for b in barriers(metrics, summary, ends)
    ]


def barrier_records(
    name: str, metrics: Sequence[Metric], summary: Summary, ends: Sequence[str]
) -> list[dict[str, Any]]:
    """The same for a file: with the value at each end."""
    rows = barrier_rows(name, metrics, summary, ends)
    return [
        {**dict(zip(COLUMNS, row, strict=True)), **dict(zip(ends, barrier.ends, strict=True))}
        for row, barrier in zip(rows, barriers(metrics, summary, ends), strict=True)
    ]


def path_rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """A table as text: columns and rows."""
    columns = [*table.coordinates, *(metric.title().replace("accuracy", "acc") for metric in table.metrics)]
    rows = [
        [
            *(f"{row[name]:.3f}" for name in table.coordinates),
            *(metric.text(row[metric.name]) for metric in table.metrics),
        ]
        for row in table.rows
    ]
    return columns, rows


def replicate_rows(found: Summary, metrics: Mapping[str, Metric]) -> list[list[str]]:
    """Of each cost of a path its title, and the mean ± standard error, least and most over replicates."""
    rows = []
    for cost, values in found.items():
        low, mean, high = (metrics[cost].text(values[key], "+") for key in ("min", "mean", "max"))
        rows.append([metrics[cost].title(cost), f"{mean} ± {metrics[cost].text(values['se'])}", low, high])
    return rows


def replicates_section(spread: Mapping[str, Summary], metrics: Mapping[str, Metric]) -> str:
    """The rise above the highest end over replicates, as a Markdown table."""
    rows = [
        [name, title, f"{found[cost]['replicates']}", *spoken]
        for name, found in spread.items()
        for cost, (title, *spoken) in zip(found, replicate_rows(found, metrics), strict=True)
    ]
    columns = ["path", "metric", "replicates", "above highest end", "least", "most"]
    text = (
        "The mean over replicates of the rise above the highest end, ± its standard error over replicates (not images)."
    )
    return f"## Over replicates\n\n{markdown(columns, rows)}\n\n{text}\n"


def claims_section(verdicts: Sequence[tuple[str, Verdict]]) -> str:
    """What held, then what did not and why; then every verdict, as a Markdown table."""
    lines = "\n".join(f"- **{word}**: {text}" for word, text in told(verdicts))
    rows = [[name, v.source, v.statement, f"{v.measured:.3f}", v.word] for name, v in verdicts]
    return f"## Claims\n\n{lines}\n\n" + markdown(["path", "claim", "statement", "measured", "verdict"], rows) + "\n"


def ends_section(rows: Sequence[Mapping[str, Any]]) -> str:
    """The ends with their stored BatchNorm statistics and with refreshed ones."""
    columns = list(rows[0])
    text = [[value if isinstance(value, str) else f"{value:.4f}" for value in row.values()] for row in rows]
    return "## Ends\n\n" + markdown([name.replace("_", " ") for name in columns], text) + "\n"


def path_section(title: str, table: Table) -> str:
    """The table of a subspace, and the length of a path."""
    columns, rows = path_rows(table)
    length = (
        f"Length in weight space: {table.rows[-1]['arc_length']:.2f}.\n\n" if "arc_length" in table.rows[-1] else ""
    )
    return f"## {title}\n\n{length}{markdown(columns, rows)}\n"


def barrier_section(rows: Sequence[Sequence[Any]]) -> str:
    """The barriers of all subspaces."""
    return f"## Barriers\n\n{markdown(COLUMNS, rows)}\n\n{EXPLANATION}\n"


def images_line(images: Mapping[str, int]) -> str:
    """How many images each probe was asked of."""
    return f"Images of each probe: {', '.join(f'{name} {count}' for name, count in images.items())}.\n"
