"""The written report of one run, or of a sweep's runs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from mcr.evaluation.table import Table, markdown
from mcr.metric import Metric
from mcr.reports import images
from mcr.reports.claims import Verdict, told
from mcr.text import markdown_cell

Summary = Mapping[str, Mapping[str, float]]

COLUMNS = ("path", "metric", "ends", "max inside", "at", "above highest end", "above line", "area")
MOST = 4000  # characters of a sentence that names many paths
EXPLANATION = (
    "Above highest end: the highest value at a point that is no end minus the highest of the ends, ± its standard "
    "error over images; negative: no barrier. Above line: the largest excess over the blend of the ends' values "
    "(along a path the straight line between them). Area: the mean over the path of that excess. Losses "
    "in nats, errors in percent."
)


@dataclass(frozen=True)
class Barrier:
    """One metric of one subspace as text: losses with three digits, errors in percent with one.

    ``error`` is empty where the standard error is not known, as of a single image.
    """

    metric: str
    ends: tuple[str, ...]
    inside: str
    at: str
    interior: str
    error: str
    above_line: str
    area: str

    @property
    def rise(self) -> str:
        """Above the highest end, with its standard error."""
        return f"{self.interior}{self.error}"

    @classmethod
    def of(cls, metric: Metric, found: Mapping[str, float], ends: Sequence[str]) -> Barrier:
        """The barrier of a metric.

        Args:
            metric: What it is.
            found: Its statistics.
            ends: Names of the ends.
        """
        highest = max(found[name] for name in ends)
        others = ("interior_se", "interior_low", "interior_high", "interior_bca")
        where = [value for name, value in found.items() if name.startswith("interior_") and name not in others]
        return cls(
            metric.title(metric.cost),
            tuple(metric.text(found[name]) for name in ends),
            metric.text(found["interior"] + highest),
            " ".join(f"{value:.2f}" for value in where),
            metric.text(found["interior"], "+"),
            metric.error(found["interior_se"]),
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
        [name, b.metric, " / ".join(b.ends), b.inside, b.at, b.rise, b.above_line, b.area]
        for b in barriers(metrics, summary, ends)
    ]


def barrier_records(
    name: str, metrics: Sequence[Metric], summary: Summary, ends: Sequence[str], counts: images.Counts
) -> list[dict[str, Any]]:
    """The same for a file: with the value at each end, and of how many images of which split they are."""
    rows = barrier_rows(name, metrics, summary, ends)
    shown = [metric for metric in metrics if metric.label and metric.cost in summary]
    return [
        {
            **dict(zip(COLUMNS, row, strict=True)),
            **dict(zip(ends, barrier.ends, strict=True)),
            **{side: metric.text(summary[metric.cost][f"interior_{side}"], "+") for side in ("low", "high")},
            "interval": "BCa" if summary[metric.cost]["interior_bca"] else "percentile",
            **{key: counts[metric.name][key] for key in ("images", "data")},
        }
        for row, barrier, metric in zip(rows, barriers(metrics, summary, ends), shown, strict=True)
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
        rows.append([metrics[cost].title(cost), f"{mean}{metrics[cost].error(values['se'])}", low, high])
    return rows


def replicates_section(spread: Mapping[str, Summary], metrics: Mapping[str, Metric], notes: Sequence[str] = ()) -> str:
    """The rise above the highest end over replicates, as a Markdown table.

    Args:
        spread: Path and cost to the rise over replicates.
        metrics: Cost to its metric.
        notes: Sentences below it.
    """
    rows = [
        [name, title, f"{found[cost]['replicates']}", *spoken]
        for name, found in spread.items()
        for cost, (title, *spoken) in zip(found, replicate_rows(found, metrics), strict=True)
    ]
    columns = ["path", "metric", "replicates", "above highest end", "least", "most"]
    text = (
        "The mean over replicates of the rise above the highest end, ± its standard error over replicates (not images)."
    )
    return "## Over replicates\n\n" + _with_notes(markdown(columns, rows), [text, *notes])


def claims_section(verdicts: Sequence[tuple[str, Verdict]]) -> str:
    """What held, then what did not and why; then every verdict, as a Markdown table."""
    lines = "\n".join(f"- **{word}**: {markdown_cell(text, MOST)}" for word, text in told(verdicts))
    rows = [[name, v.source, v.statement, v.value, v.word] for name, v in verdicts]
    return f"## Claims\n\n{lines}\n\n" + markdown(["path", "claim", "statement", "measured", "verdict"], rows) + "\n"


def ends_section(rows: Sequence[Mapping[str, Any]], counts: images.Counts) -> str:
    """The ends with their stored BatchNorm statistics and with refreshed ones."""
    columns = list(rows[0])
    text = [[value if isinstance(value, str) else _mean(value) for value in row.values()] for row in rows]
    table = markdown([name.replace("_", " ") for name in columns], text)
    return "## Ends\n\n" + _with_notes(table, [images.line([("", images.spoken(counts, columns))])])


def _mean(value: float) -> str:
    return f"{value:.4f}" if isfinite(value) else "not finite"


def path_section(title: str, table: Table, counts: images.Counts) -> str:
    """The table of a subspace, and the length of a path."""
    columns, rows = path_rows(table)
    last = table.rows[-1].get("arc_length")
    length = "" if last is None else f"Length in weight space, from place to place: {last:.2f}.\n\n"
    said = images.spoken(counts, [metric.name for metric in table.metrics])
    return f"## {markdown_cell(title)}\n\n{length}" + _with_notes(markdown(columns, rows), [images.line([("", said)])])


def barrier_section(rows: Sequence[Sequence[Any]], notes: Sequence[str] = ()) -> str:
    """The barriers of all subspaces.

    Args:
        rows: In the order of COLUMNS.
        notes: Sentences below them: of how many images they are, what the marks beside names mean.
    """
    return "## Barriers\n\n" + _with_notes(markdown(COLUMNS, rows), [*notes, EXPLANATION])


def many_section(names: Sequence[str], notes: Sequence[str]) -> str:
    """Where the numbers of many jobs lie one by one; which they are."""
    listed = markdown_cell("; ".join(names), MOST)
    text = f"{len(names)} jobs: {listed}. Their barriers are in barriers.csv, the tables of each in its own folder."
    return "## Jobs\n\n" + _with_notes(text, notes)


def _with_notes(table: str, notes: Sequence[str]) -> str:
    """A table with sentences below it, which may name anything."""
    return "\n\n".join([table, *(markdown_cell(note, MOST) for note in notes)]) + "\n"
