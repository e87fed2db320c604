"""The written report of one path, or of a sweep's paths together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcr.evaluation.table import PathTable, is_share, markdown
from mcr.reports.claims import Verdict

Metrics = Mapping[str, Mapping[str, float]]

BARRIER_COLUMNS = ("path", "metric", "start", "end", "max inside", "at t", "above higher end", "above line", "area")
SHOWN = (
    *("test_loss", "test_error", "robust_loss", "robust_error", "input_eigenvalue"),
    *("attack_success", "injection_success"),
)
EXPLANATION = (
    "Above higher end: the highest value at an interior t minus the higher of the two ends, ± its standard error over "
    "images; negative: no barrier. Above line: the largest excess over the straight line between the ends' values. "
    "Area: the integral over t of that excess. Losses in nats, errors in percent."
)


@dataclass(frozen=True)
class Barrier:
    """One metric of one path as text: losses with three digits, errors in percent with one."""

    metric: str
    start: str
    end: str
    inside: str
    at: str
    interior: str
    error: str
    above_line: str
    area: str

    @classmethod
    def of(cls, metric: str, metrics: Metrics) -> Barrier:
        found = metrics[metric]
        scale, digits = (100, 1) if is_share(metric) else (1, 3)
        values = {name: f"{scale * value:.{digits}f}" for name, value in found.items()}
        return cls(
            metric.replace("_", " ").replace("error", "error %").replace("success", "success %"),
            values["start"],
            values["end"],
            f"{scale * (found['interior'] + max(found['start'], found['end'])):.{digits}f}",
            f"{found['interior_t']:.2f}",
            f"{scale * found['interior']:+.{digits}f}",
            values["interior_se"],
            values["barrier_above_line"],
            values["area"],
        )


def barrier_rows(name: str, metrics: Metrics) -> list[list[str]]:
    """The barriers of one path, one row a metric, in the order of BARRIER_COLUMNS."""
    found = [Barrier.of(metric, metrics) for metric in SHOWN if metric in metrics]
    return [
        [name, b.metric, b.start, b.end, b.inside, b.at, f"{b.interior} ± {b.error}", b.above_line, b.area]
        for b in found
    ]


def path_rows(table: PathTable) -> tuple[list[str], list[list[str]]]:
    """The table along t as text: columns and rows."""
    columns = ["t", *table.metrics]
    rows = [
        [
            f"{row['t']:.3f}",
            *(f"{100 * row[m]:.1f}" if is_share(m) else f"{row[m]:.3f}" for m in table.metrics),
        ]
        for row in table.rows
    ]
    return [
        name.replace("_", " ").replace("accuracy", "acc %").replace("success", "success %") for name in columns
    ], rows


def replicates_section(spread: Mapping[str, Metrics]) -> str:
    """The rise above the higher end over replicates, as a Markdown table."""
    rows = []
    for name, metrics in spread.items():
        for metric, found in metrics.items():
            scale, digits = (100, 1) if is_share(metric) else (1, 3)
            low, mean, high = (f"{scale * found[key]:+.{digits}f}" for key in ("min", "mean", "max"))
            label = metric.replace("_", " ").replace("error", "error %").replace("success", "success %")
            rows.append(
                [name, label, f"{found['replicates']}", f"{mean} ± {scale * found['se']:.{digits}f}", low, high]
            )
    columns = ["path", "metric", "replicates", "above higher end", "least", "most"]
    text = (
        "The mean over replicates of the rise above the higher end, ± its standard error over replicates (not images)."
    )
    return f"## Over replicates\n\n{markdown(columns, rows)}\n\n{text}\n"


def claims_section(verdicts: Sequence[tuple[str, Verdict]]) -> str:
    """The claims with their verdicts, as a Markdown table."""
    rows = [[name, v.source, v.statement, f"{v.measured:.3f}", v.word] for name, v in verdicts]
    return "## Claims\n\n" + markdown(["path", "claim", "statement", "measured", "verdict"], rows) + "\n"


def ends_section(rows: Sequence[Mapping[str, str]]) -> str:
    """The ends with their stored BatchNorm statistics and with refreshed ones."""
    columns = list(rows[0])
    text = [
        [value if name in ("end", "batchnorm") else f"{float(value):.4f}" for name, value in row.items()]
        for row in rows
    ]
    return "## Ends\n\n" + markdown([name.replace("_", " ") for name in columns], text) + "\n"


def path_section(title: str, table: PathTable, length: float) -> str:
    columns, rows = path_rows(table)
    return f"## {title}\n\nLength in weight space: {length:.2f}.\n\n{markdown(columns, rows)}\n"


def barrier_section(rows: Sequence[Sequence[Any]]) -> str:
    return f"## Barriers\n\n{markdown(BARRIER_COLUMNS, rows)}\n\n{EXPLANATION}\n"
