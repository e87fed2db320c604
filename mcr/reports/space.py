"""All that a report says of one subspace: tables, barriers, correlations, spreads. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mcr.evaluation.bootstrap import Bootstrap
from mcr.evaluation.measured import Measured
from mcr.evaluation.routes import Route
from mcr.evaluation.summary import summarize
from mcr.evaluation.table import Table
from mcr.metric import Metric
from mcr.reports import corners, robustness

Summary = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Space:
    """What the report knows of one subspace.

    Attributes:
        measured: All that was asked.
        parts: What a file's name has after the subspace's, to what stands there: "" for the grid, "_PROBE" for a probe
            with places of its own.
        tables: The same as tables.
        summary: Cost to its statistics.
        related: Pair of metrics to its correlation.
        routes: Cost to the paths of least loss between the networks; nothing of a path.
    """

    measured: Measured
    parts: Mapping[str, Measured]
    tables: Mapping[str, Table]
    summary: Summary
    related: Summary
    routes: Mapping[str, Sequence[Route]]

    @classmethod
    def of(cls, one: Measured, told: Collection[str], correlations: list[list[str]], bootstrap: Bootstrap) -> Space:
        """All that follows from the measures.

        Args:
            one: The measures.
            told: Probes that have a section of their own.
            correlations: Pairs of metrics.
            bootstrap: Of the intervals.
        """
        parts = {"": one, **{f"_{probe}": part for probe, part in one.apart(told).items()}}
        summaries = [summarize(part.grid, part.costs(), bootstrap) for part in parts.values()]
        return cls(
            one,
            parts,
            {suffix: part.table() for suffix, part in parts.items()},
            {metric: found for summary in summaries for metric, found in summary.items()},
            robustness.correlated(one, correlations, bootstrap),
            {
                cost: one.grid.routes(values.mean(axis=1))
                for cost, values in (one.costs() if one.grid.coordinates != ("t",) else {}).items()
            },
        )

    @property
    def metrics(self) -> list[Metric]:
        return [metric for table in self.tables.values() for metric in table.metrics]

    @property
    def known(self) -> dict[str, Mapping[str, Any]]:
        """What a claim may name."""
        return {**self.summary, **self.related}

    def given(self) -> list[dict[str, Any]]:
        """The ends with their own BatchNorm statistics and with those of their place: one row each."""
        parts = zip(*(part.given() for part in self.parts.values()), strict=True)
        return [{name: value for row in rows for name, value in row.items()} for rows in parts]

    def spread(self) -> list[dict[str, Any]]:
        """Quantiles over images of what is neither a loss nor a share: one row a metric and place."""
        return [row for part in self.parts.values() for row in part.spread()]

    def describe(self) -> dict[str, Any]:
        """For summary.json."""
        described = {suffix.removeprefix("_"): table.describe() for suffix, table in self.tables.items()}
        return {
            "label": self.measured.label,
            "table": described.pop(""),
            "apart": described,
            "metrics": self.summary,
            "correlations": self.related,
            "images": self.measured.counts,
            "distances": [asdict(one) for one in corners.networks(self.measured)],
            "nearest": corners.nearest(self.measured),
            "routes": {cost: [asdict(route) for route in found] for cost, found in self.routes.items()},
        }
