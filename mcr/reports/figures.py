"""The figure that tells the story: losses and accuracies along t, pairs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from types import MappingProxyType
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr.evaluation.table import Table
from mcr.metric import Metric
from mcr.reports.headings import head
from mcr.reports.limits import limits
from mcr.text import figure_text


class Line(NamedTuple):
    """One subspace of a panel: its name ("" for the fitted one) and its table."""

    name: str
    table: Table


class Panel(NamedTuple):
    """One run of a figure.

    Attributes:
        title: Above its column.
        table: Of the fitted path.
        references: Of what it is compared with.
        notes: Axis label to a line that is written above it.
        replicates: Tables of the seeds that the others are the means of; their range is shaded.
        errors: Metric to its standard error over images at each place; shaded where there are no replicates.
    """

    title: str
    table: Table
    references: Sequence[Line]
    notes: Mapping[str, str]
    replicates: Sequence[Table] = ()
    errors: Mapping[str, Sequence[float]] = MappingProxyType({})


BLUE, RED, GREY, ORANGE, PURPLE, GREEN = "#0072b2", "#d55e00", "#7a7a7a", "#e69f00", "#7b3294", "#009e73"
# Okabe and Ito (2008): told apart by the colour-blind; markers and line styles say the same once more.
COLOURS = (BLUE, RED, GREEN, "#cc79a7", ORANGE, "#56b4e9", "#4d4d4d")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES = ("--", "-.", ":")
DARK = "#4d4d4d"
MOST_COLUMNS = 6
WIDE = 44  # letters of a line above a column
FAR = 2.5  # a reference that rises to more than so many times the path would leave nothing to see of the path
ROOM = 1.35  # above the path where such a reference leaves the panel


def rows_of(tables: Sequence[Table]) -> dict[str, list[Metric]]:
    """Axis label to the metrics that share its panel, in order of appearance."""
    found: dict[str, dict[str, Metric]] = {}
    for table in tables:
        for metric in table.metrics:
            if metric.label:
                found.setdefault(metric.label, {})[metric.name] = metric
    return {label: list(metrics.values()) for label, metrics in found.items()}


def axis_title(metrics: Sequence[Metric]) -> str:
    """What an axis says."""
    first = metrics[0]
    label = figure_text(first.label)
    return f"{label} %" if first.unit == "share" else label


def _line_label(metric: Metric, metrics: Sequence[Metric]) -> str:
    """What tells a metric from the others of its panel: the probe's name, or all of its own."""
    alone = sum(other.probe == metric.probe for other in metrics) == 1
    return figure_text((metric.probe if alone and len(metrics) > 1 else metric.name).replace("_", " "))


def path_figure(panels: Sequence[Panel], settings: str = "") -> Figure:
    """One column per run; solid the fitted path, dashed what it is compared with; dotted the level of the highest end.

    Args:
        panels: What the columns show, at most MOST_COLUMNS.
        settings: What all have in common, above the figure.
    """
    rows = rows_of([panel.table for panel in panels])
    probes = list(dict.fromkeys(metric.probe for metrics in rows.values() for metric in metrics))
    size = (3.0 * len(panels) + 2.4, 2.15 * len(rows) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(panels), sharex=True, sharey="row", squeeze=False)
    for column, panel in enumerate(panels):
        for (label, metrics), axis in zip(rows.items(), axes[:, column], strict=True):
            _draw(axis, metrics, probes, panel)
            if column == 0:
                axis.set_ylabel(axis_title(metrics))
            if panel.notes.get(label):
                axis.set_title(figure_text(panel.notes[label]), fontsize=8, color=GREY)
        axes[0, column].set_title(fill(figure_text(panel.title), WIDE), fontsize=10)
        axes[-1, column].set_xlabel("t")
    head(figure, settings)
    for metrics, line in zip(rows.values(), axes, strict=True):
        _frame(line, metrics, panels)
        # Beside the row, where it covers no line; from the column with the most to show, as one may lack a metric.
        fullest = max(line, key=lambda axis: len(axis.get_legend_handles_labels()[0]))
        handles = fullest.get_legend_handles_labels()
        line[-1].legend(*handles, fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _draw(axis: Axes, metrics: Sequence[Metric], probes: Sequence[str], panel: Panel) -> None:
    """One panel; a probe has one colour and marker in all of them."""
    for metric in metrics:
        if metric not in panel.table.metrics:
            continue
        index = probes.index(metric.probe)
        color, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        label, fitted = _line_label(metric, metrics), metric.name in panel.table.fitted
        values = [metric.scale * value for value in panel.table.column(metric.name)]
        shape: dict[str, Any] = {"color": color, "marker": marker, "markersize": 2.6}
        axis.plot(
            panel.table.column("t"),
            values,
            linewidth=1.0 if fitted else 1.6,
            alpha=0.5 if fitted else 1,
            label=label,
            **shape,
        )
        if not fitted and (band := _band(panel, metric)) is not None:
            axis.fill_between(panel.table.column("t"), *band, color=color, alpha=0.2, linewidth=0)
        if fitted:  # what the path was fitted on is context, not compared
            continue
        if metric.unit != "share":
            axis.axhline(max(values[0], values[-1]), color=color, linestyle=":", linewidth=0.9)
        for style, reference in zip(STYLES, panel.references, strict=False):
            if metric in reference.table.metrics:
                straight = [metric.scale * value for value in reference.table.column(metric.name)]
                axis.plot(
                    reference.table.column("t"),
                    straight,
                    color=color,
                    linestyle=style,
                    linewidth=1.0,
                    alpha=0.6,
                    label=f"{label}, {figure_text(reference.name)}",
                )
    plain(axis)


def _band(panel: Panel, metric: Metric) -> np.ndarray | None:
    """What is shaded around a line, below and above (2, T): the range over seeds, or the standard error over images."""
    if panel.replicates:
        seeds = metric.scale * np.array([table.column(metric.name) for table in panel.replicates])
        return np.stack([seeds.min(0), seeds.max(0)])
    if metric.name not in panel.errors:
        return None
    mean, error = _values(panel.table, metric), metric.scale * np.array(panel.errors[metric.name])
    return np.stack([mean - error, mean + error])


def _frame(line: Sequence[Axes], metrics: Sequence[Metric], panels: Sequence[Panel]) -> None:
    """The range of a row: that of the paths where a reference rises far above them, which is then said."""
    if metrics[0].unit == "share":
        line[0].set_ylim(-3, 103)
        return
    paths, beside = [], []
    for panel in panels:
        known = [metric for metric in metrics if metric in panel.table.metrics]
        paths += [found for m in known for found in (_values(panel.table, m), *_bands(panel, m))]
        beside += [_values(one.table, m) for one in panel.references for m in known if m in one.table.metrics]
    low, top = (float(np.nanmin(np.concatenate([*paths, *beside]))), float(np.nanmax(np.concatenate(paths))))
    highest = max((float(np.nanmax(values)) for values in beside), default=top)
    if not 0 < FAR * top < highest:
        line[0].set_ylim(*limits(low, max(top, highest)))
        return
    line[0].set_ylim(limits(low, top)[0], ROOM * top)
    for axis, panel in zip(line, panels, strict=True):
        peaks = {
            one.name: max(float(np.nanmax(_values(one.table, m))) for m in metrics if m in one.table.metrics)
            for one in panel.references
            if any(m in one.table.metrics for m in metrics)
        }
        said = [f"{figure_text(name)} up to {peak:.3g}" for name, peak in peaks.items() if peak > ROOM * top]
        note = "\n".join(said)
        axis.text(0.5, 0.97, note, transform=axis.transAxes, fontsize=7, color=DARK, ha="center", va="top")


def _values(table: Table, metric: Metric) -> np.ndarray:
    return metric.scale * np.array(table.column(metric.name))


def _bands(panel: Panel, metric: Metric) -> list[np.ndarray]:
    band = None if metric.name in panel.table.fitted else _band(panel, metric)
    return [] if band is None else [band.ravel()]


def plain(axis: Axes) -> None:
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, folder: Path, name: str, formats: Sequence[str], dpi: int) -> list[Path]:
    """Write the figure in each format, byte for byte the same for the same numbers."""
    paths = []
    figure.set_dpi(dpi)
    arrange = figure.get_layout_engine()
    assert arrange is not None  # all figures of this package ask for a constrained layout
    arrange.execute(figure)
    # Arranged once: matplotlib would do it twice for each format, which takes longer than drawing.
    figure.set_layout_engine(None)
    with matplotlib.rc_context({"svg.hashsalt": "mcr", "svg.fonttype": "none"}):
        for kind in formats:
            path = folder / f"{name}.{kind}"
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(path, dpi=dpi, metadata=metadata)
            paths.append(path)
    return paths
