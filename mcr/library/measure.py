"""Asking probes over a subspace: a table, its summary, its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.evaluation.bootstrap import Bootstrap
from mcr.evaluation.measured import Measure, Measured
from mcr.evaluation.summary import Grid, summarize
from mcr.evaluation.table import Table, markdown
from mcr.library.data import Data, labelled
from mcr.library.options import composed, option, section
from mcr.library.subspace import Subspace
from mcr.metric import Metric
from mcr.probes.answers import ask, ask_together
from mcr.probes.probe import GroupProbe, Probe
from mcr.progress import bar
from mcr.reports import document, figures, robustness, together
from mcr.reports.surface_figures import surface_figure
from mcr.text import figure_text
from mcr.weightspace import locus
from mcr.weightspace.survey import Survey

Asked = str | Probe | GroupProbe


@dataclass(frozen=True)
class Measures:
    """What probes say at the places of a subspace.

    Attributes:
        measured: Per-image values and where they were asked.
        bootstrap: Of the intervals of the summary.
    """

    measured: Measured
    bootstrap: Bootstrap

    @cached_property
    def table(self) -> Table:
        """One row a place: coordinates, distances from the ends, means over images."""
        return self.measured.table()

    def summary(self) -> dict[str, dict[str, float]]:
        """Of each metric, worse when higher: its ends, barrier, area and standard errors; see ``summarize``.

        What a probe of several networks at once says stands under its own name.
        """
        found: dict[str, dict[str, float]] = summarize(self.measured.grid, self.measured.costs(), self.bootstrap)
        return found | {name: dict(one.statistics) for name, one in self._together.items()}

    @property
    def _together(self) -> dict[str, Measure]:
        """What was asked of several networks at once."""
        return {name: one for name, one in self.measured.measures.items() if one.together}

    def plot(self, title: str = "", **references: Measures) -> Figure:
        """The metrics along a path, or maps of them over a surface; of group probes alone what they say of the places.

        Args:
            title: Above it.
            **references: Other measures of the same probes, drawn dashed ("straight_line").
        """
        if not self.measured.along:
            figure = together.together_figure(self._together)
            figure.suptitle(figure_text(title))
            return figure
        lines = [figures.Line(name.replace("_", " "), one.table) for name, one in references.items()]
        panel = figures.Panel(title, self.table, lines, {}, errors=self.measured.errors())
        if len(self.table.coordinates) == 1:
            return figures.path_figure([panel])
        return surface_figure(panel, {})

    def write(self, folder: str | Path, name: str) -> None:
        """The table as NAME.csv."""
        self.table.write(Path(folder), name)

    def __str__(self) -> str:
        """The barriers as a table of text, and what was asked of several networks at once."""
        found, metrics = self.summary(), list(self.measured.metrics.values())
        rows = [
            [b.metric, " / ".join(b.ends), b.inside, b.at, b.rise, b.above_line]
            for b in document.barriers(metrics, found, self.measured.grid.ends)
        ]
        head = ("metric", "ends", "inside", "at", "above highest end", "above line")
        said = [
            f"{name.replace('_', ' ')}: "
            + ", ".join(f"{key.replace('_', ' ')} {robustness.number(value)}" for key, value in one.items())
            for name, one in found.items()
            if name in self._together
        ]
        return "\n".join([*([markdown(head, rows)] if rows else []), *said])


def measure(
    space: Subspace,
    data: Data,
    probes: Mapping[str, Asked] | Sequence[str],
    **settings: Any,
) -> Measures:
    """Ask probes at the places of a subspace, all at the same networks.

    Args:
        space: The subspace.
        data: The images that are asked about; of a ``DataLoader`` all, read once.
        probes: Name in the table to probe: the name of an option of the group ``probe`` ("risk", "robust_risk",
            "calibration", ...) or an object; or just a list of such names.
        **settings: ``at``, a number of places along each edge or a list of them (``evaluation.grid``); and, of the
            section ``evaluation``, batch_size and seed.

    Raises:
        InputError: For an unknown probe or setting, or a place outside of the subspace.
    """
    config = composed()
    evaluation = config["evaluation"]
    known = {"at": evaluation["grid"], **{key: evaluation[key] for key in ("batch_size", "seed")}}
    chosen = section(known, settings)
    if chosen["batch_size"] < 1:
        raise InputError(f"batch_size={chosen['batch_size']} must be at least 1")
    places = locus.places(space.curve, chosen["at"], "at")
    images = labelled(data)
    device = next(space.network.parameters()).device
    batches = EvaluationBatches(
        images.images.to(device),
        images.labels.to(device),
        chosen["batch_size"],
        "channels_last" if space.layout.channels_last else "contiguous",
    )
    with bar("places", len(places), "places") as progress:
        survey = Survey.of(space, places, space.names, progress.reach)
    named = probes if isinstance(probes, Mapping) else {name: name for name in probes}
    found = {
        name: _measure(space, survey, name, option("probe", one) if isinstance(one, str) else one, batches, chosen)
        for name, one in named.items()
    }
    statistics = config["statistics"]
    return Measures(Measured("curve", found), Bootstrap(statistics["draws"], statistics["level"]))


def _measure(
    space: Subspace,
    survey: Survey,
    name: str,
    probe: Probe | GroupProbe,
    batches: EvaluationBatches,
    chosen: Mapping[str, Any],
) -> Measure:
    shares = survey.shares(space)
    at = [partial(space.at_with, u, kept) for u, kept in zip(survey.places, survey.statistics, strict=True)]
    with bar(name, len(at), "places") as progress:
        if not callable(probe):
            answers = ask_together(probe, at, batches, chosen["seed"], survey.places.tolist(), shares)
            progress.reach(len(at))
        else:
            given = [partial(space.end_as_given, end) for end in range(len(space.ends))]
            answers = ask(probe, at, given, batches, chosen["seed"], lambda count, _: progress.reach(count))
    metrics: tuple[Metric, ...] = tuple(metric.of(name) for metric in probe.metrics)
    return Measure(
        metrics,
        Grid(
            locus.coordinates(space.curve.dim),
            survey.places.numpy(),
            np.asarray(shares),
            space.names,
            np.asarray([row["arc_length"] for row in survey.rows if "arc_length" in row]),
        ),
        tuple(survey.rows),
        {f"{name}_{metric}": value.numpy() for metric, value in answers.values.items()},
        {f"{name}_{metric}": value.double().mean(-1).tolist() for metric, value in answers.given.items()},
        len(batches.labels),
        answers.statistics,
        data="given",
    )
