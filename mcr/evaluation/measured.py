"""What probes have measured along one subspace: made by the library, or read from the folders of stages. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from mcr.evaluation.summary import Grid
from mcr.evaluation.table import Table
from mcr.metric import Metric
from mcr.numerics.statistics import Values, standard_error
from mcr.store import jsonfile

FITTED = "fitted"  # the images that a subspace was fitted on
# The files of the stages place and measure that are read here.
PLACES, MEASURE, PER_IMAGE = "places.json", "measure.json", "per_image.safetensors"


@dataclass(frozen=True)
class Measure:
    """The answers to one probe.

    Attributes:
        metrics: What they are.
        grid: Where the probe was asked.
        rows: Of each place what is known of it beside the metrics.
        values: Metric to per-image values: (T, N); of a probe that is asked of T networks at once also (N,) or
            (T, T, N).
        given: Metric to the mean of each end as it was given (E).
        images: N.
        statistics: Named numbers of a probe that is asked of several networks at once.
        data: Which images: test, fitted (those that the subspace was fitted on), validation, clean, ...
    """

    metrics: tuple[Metric, ...]
    grid: Grid
    rows: tuple[Mapping[str, float], ...]
    values: Mapping[str, Values]
    given: Mapping[str, list[float]]
    images: int
    statistics: Mapping[str, Any]
    data: str

    @classmethod
    def read(cls, folder: Path, place: Path, ends: tuple[str, ...], data: str) -> Measure:
        """The artifact of a ``measure`` stage.

        Args:
            folder: Of the stage.
            place: Folder of the ``place`` stage whose networks were asked.
            ends: Names of the ends.
            data: Which images.
        """
        found, placed = jsonfile.read(folder / MEASURE), jsonfile.read(place / PLACES)
        indices = found["indices"]
        rows = tuple(placed["rows"][index] for index in indices)
        grid = Grid(
            tuple(placed["coordinates"]),
            np.asarray(placed["places"])[indices],
            np.asarray(placed["shares"])[indices],
            ends,
            np.asarray([row["arc_length"] for row in rows if "arc_length" in row]),
        )
        values = {name: value for name, value in load_file(folder / PER_IMAGE).items() if not name.startswith("given/")}
        metrics = tuple(Metric(**metric) for metric in found["metrics"])
        given = {name: [_number(mean) for mean in means] for name, means in found["given"].items()}
        statistics = {name: _number(value) for name, value in found["statistics"].items()}
        return cls(metrics, grid, rows, values, given, found["images"], statistics, data)

    @property
    def together(self) -> bool:
        """Whether the probe was asked of several networks at once: only such a probe has statistics."""
        return bool(self.statistics)

    @property
    def where(self) -> list[str]:
        """What people call each place."""
        return [" ".join(f"{value:.2f}" for value in place) for place in self.grid.places]

    @property
    def counts(self) -> dict[str, dict[str, Any]]:
        """Metric to how many images its values are of, and which: of some probes they are fewer than were asked."""
        return {
            metric.name: {"probe": metric.probe, "images": self.values[metric.name].shape[-1], "data": self.data}
            for metric in self.metrics
        }

    def mean(self, metric: str) -> Values:
        """Over images, those with NaN left out; NaN where none is left."""
        values = self.values[metric].astype(np.float64)
        known = ~np.isnan(values)
        mean: Values = np.full(values.shape[:-1], np.nan)
        np.divide(np.where(known, values, 0).sum(-1), known.sum(-1), out=mean, where=known.any(-1))
        return mean


def _number(value: Any) -> Any:
    """A value of a file, where NaN is written as null."""
    return float("nan") if value is None else value


@dataclass(frozen=True)
class Measured:
    """All that is known of one subspace.

    Attributes:
        label: What people call it.
        measures: Probe to its answers.
    """

    label: str
    measures: Mapping[str, Measure]

    @cached_property
    def along(self) -> dict[str, Measure]:
        """The probes of single networks that were asked at the same places as most of them: those are the grid."""
        single = {name: one for name, one in self.measures.items() if not one.together}
        grids = Counter(one.grid.places.tobytes() for one in single.values())
        usual = max(grids, key=lambda places: (grids[places], len(places)), default=b"")
        return {name: one for name, one in single.items() if one.grid.places.tobytes() == usual}

    def apart(self, told: Collection[str]) -> dict[str, Measured]:
        """Those that were asked of one network at a time at places of their own, each by itself.

        Args:
            told: Probes that are left out, as the report has a section of their own.
        """
        kept = {name: one for name, one in self.measures.items() if not one.together and name not in self.along}
        return {name: Measured(f"{self.label}, {name}", {name: one}) for name, one in kept.items() if name not in told}

    @property
    def grid(self) -> Grid:
        """The places of the grid; where only several networks at once were asked, theirs."""
        return next(iter((self.along or self.measures).values())).grid

    @property
    def metrics(self) -> dict[str, Metric]:
        """Name to metric, of those that are known at every place."""
        return {metric.name: metric for one in self.along.values() for metric in one.metrics}

    @property
    def fitted(self) -> frozenset[str]:
        """Metrics on the images that the subspace was fitted on."""
        return frozenset(metric.name for one in self.along.values() if one.data == FITTED for metric in one.metrics)

    @property
    def counts(self) -> dict[str, dict[str, Any]]:
        """Of every metric how many images it is a mean over, and which."""
        return {name: count for one in self.measures.values() for name, count in one.counts.items()}

    def table(self) -> Table:
        """One row a place: where it lies, and the means."""
        first = next(iter((self.along or self.measures).values()))
        means = {metric.name: one.mean(metric.name).tolist() for one in self.along.values() for metric in one.metrics}
        rows = [
            {**row, **{name: values[index] for name, values in means.items()}} for index, row in enumerate(first.rows)
        ]
        return Table(self.grid.coordinates, tuple(self.metrics.values()), tuple(rows), self.fitted)

    def errors(self) -> dict[str, list[float]]:
        """Of every metric along the grid the standard error over images at each place."""
        return {
            metric.name: [standard_error(values) for values in one.values[metric.name].astype(np.float64)]
            for one in self.along.values()
            for metric in one.metrics
        }

    def costs(self) -> dict[str, Values]:
        """Every metric along the grid that has a better side as a cost, worse when higher: ``Metric.cost`` to (T, N).

        Accuracies become errors.
        """
        found = {}
        for one in self.along.values():
            for metric in one.metrics:
                if metric.better != "neither":
                    values = one.values[metric.name].astype(np.float64)
                    kept = metric.better == "lower"
                    found[metric.cost] = values if kept else (1 - values if metric.unit == "share" else -values)
        return found

    def given(self) -> list[dict[str, Any]]:
        """The ends with their own BatchNorm statistics and with those of their place: one row each."""
        rows = []
        for end, (name, corner) in enumerate(zip(self.grid.ends, self.grid.corners, strict=True)):
            stored = {m.name: one.given[m.name][end] for one in self.along.values() for m in one.metrics}
            place = {m.name: float(one.mean(m.name)[corner]) for one in self.along.values() for m in one.metrics}
            rows += [{"end": name, "batchnorm": "stored", **stored}, {"end": name, "batchnorm": "refreshed", **place}]
        return rows

    def spread(self) -> list[dict[str, Any]]:
        """Quantiles over images of labelled metrics that are neither losses nor shares: one row a metric and place."""
        levels = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
        rows = []
        for one in self.along.values():
            for metric in (metric for metric in one.metrics if metric.unit == "1" and metric.label):
                for index, values in enumerate(one.values[metric.name].astype(np.float64)):
                    quantiles = dict(zip(levels, np.quantile(values, list(levels.values())).tolist(), strict=True))
                    extremes = {"mean": values.mean(), "min": values.min(), "max": values.max()}
                    numbers = {**quantiles, **{name: float(value) for name, value in extremes.items()}}
                    numbers["images"] = len(values)
                    rows.append({"metric": metric.name, **one.grid.where(index), **numbers})
        return rows
