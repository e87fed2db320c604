"""Maps of metrics over a surface or a triangle, and what a simplex of more networks shows instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mcr.evaluation.table import Table
from mcr.metric import Metric
from mcr.numerics.statistics import Values
from mcr.reports.figures import BLUE, COLOURS, DARK, MARKERS, Panel, plain
from mcr.reports.headings import head
from mcr.text import figure_text

MOST_METRICS = 6
DISTANCE = "distance_to_"
CONTOURS = 4  # about so many lines, labelled with what they stand for
INCHES = 3.1  # of a map with its margins
WIDE = 28  # letters of a line above one
EDGE = withStroke(linewidth=2.2, foreground="white")  # dark text is read on any colour
HALO = withStroke(linewidth=1.4, foreground="white", alpha=0.6)  # and so are dark lines


class Cell(NamedTuple):
    """One map: a metric over the places of a table, and the places of a path that is drawn on it."""

    title: str
    table: Table
    metric: Metric
    route: Sequence[int]


def surface_figure(panel: Panel, routes: Mapping[str, Sequence[int]], settings: str = "") -> Figure:
    """A row for each metric: the fitted surface beside what it is compared with, on one scale of colours.

    Args:
        panel: The surface; its references have the same places.
        routes: Metric to the places of the path of least loss that is drawn.
        settings: What all of it has in common, above the figure.
    """
    spaces = [("fitted" if panel.references else "", panel.table), *panel.references]
    cells = [
        [
            Cell(
                f"{name}: {metric.title()}" if name else metric.title(),
                table,
                metric,
                routes.get(metric.name, ()) if not at else (),
            )
            for at, (name, table) in enumerate(spaces)
            if metric in table.metrics
        ]
        for metric in shown([panel.table])
    ]
    return _drawn(cells, settings or panel.title)


def surfaces_figure(panels: Sequence[Panel], settings: str = "") -> Figure:
    """A row for each run: its fitted surface, one map a metric; a metric has one scale of colours in all rows."""
    metrics = shown([panel.table for panel in panels])
    cells = [[Cell(metric.title(), panel.table, metric, ()) for metric in metrics] for panel in panels]
    return _drawn(cells, settings, [panel.title for panel in panels])


def shown(tables: Sequence[Table]) -> list[Metric]:
    """The metrics that are drawn: those that all tables have, on images that nothing was fitted on."""
    first = tables[0]
    known = [metric for metric in first.metrics if metric.label and metric.name not in first.fitted]
    return [metric for metric in known if all(metric in table.metrics for table in tables)][:MOST_METRICS]


def _drawn(cells: Sequence[Sequence[Cell]], settings: str, titles: Sequence[str] = ()) -> Figure:
    """Rows of maps, with titles of their own; a metric has one scale everywhere, and a worse place is brighter."""
    flat = [cell for line in cells for cell in line]
    columns = max(len(line) for line in cells)
    figure = Figure(figsize=(INCHES * columns + 0.5, INCHES * 0.92 * len(cells) + 0.5), layout="constrained")
    axes = figure.subplots(len(cells), columns, squeeze=False)
    scales = {
        metric.name: Normalize(*_range([cell for cell in flat if cell.metric == metric]))
        for metric in dict.fromkeys(cell.metric for cell in flat)
    }
    for line, row in zip(axes, cells, strict=True):
        for axis, cell in zip(line, row, strict=False):
            if len(cell.table.coordinates) == 2:
                map_of(axis, cell, scales[cell.metric.name])
            else:
                by_largest_share(axis, cell)
        for axis in line[len(row) :]:
            axis.set_axis_off()
    drawn = [pair for row, line in zip(cells, axes, strict=True) for pair in zip(row, line, strict=False)]
    for name, scale in scales.items():
        own = [(cell, axis) for cell, axis in drawn if cell.metric.name == name and len(cell.table.coordinates) == 2]
        if own:
            bar = ScalarMappable(scale, colours(own[0][0].metric))
            figure.colorbar(bar, ax=[axis for _, axis in own], shrink=0.8)
    for line, title in zip(axes, titles, strict=False):
        # Above the titles of the maps, across all of them.
        line[0].set_title(f"{fill(figure_text(title), WIDE)}\n\n", loc="left", fontsize=9)
    head(figure, settings)
    return figure


def colours(metric: Metric) -> str:
    """A map that the colour-blind read (Nunez et al. 2018), brighter where the metric is worse."""
    return "cividis_r" if metric.better == "higher" else "cividis"


def _range(cells: Sequence[Cell]) -> tuple[float, float]:
    values = np.concatenate([_values(cell) for cell in cells])
    return float(np.nanmin(values)), float(np.nanmax(values))


def _values(cell: Cell) -> Values:
    found: Values = cell.metric.scale * np.asarray(cell.table.column(cell.metric.name))
    return found


def names_of(table: Table) -> list[str]:
    """The networks at the corners."""
    return [name.removeprefix(DISTANCE) for name in table.rows[0] if name.startswith(DISTANCE)]


def corners_of(table: Table) -> dict[str, int]:
    """Where each network lies: where nothing is nearer to it."""
    return {name: int(np.argmin(table.column(f"{DISTANCE}{name}"))) for name in names_of(table)}


def drawn_at(table: Table) -> tuple[Values, Values]:
    """Where the places are drawn: those of a triangle as an equilateral one, in barycentric coordinates."""
    u, v = (np.asarray(table.column(name)) for name in table.coordinates)
    return (u, v) if len(names_of(table)) == 4 else (u + v / 2, v * sqrt(3) / 2)


def map_of(axis: Axes, cell: Cell, scale: Normalize) -> None:
    """Colours and labelled contours, interpolated linearly between the places; corners, worst place, path.

    Contours follow this map's own values: on a scale that a bad surface stretches they show what a good one has.
    """
    x, y = drawn_at(cell.table)
    values = _values(cell)
    axis.tripcolor(x, y, values, shading="gouraud", cmap=colours(cell.metric), norm=scale)
    if np.ptp(values) > 0:
        lines = axis.tricontour(x, y, values, levels=CONTOURS, colors=DARK, linewidths=0.7)
        lines.set_path_effects([HALO])
        for text in axis.clabel(lines, fontsize=6.5, fmt=lambda value: f"{value:.3g}"):
            text.set_path_effects([EDGE])
    corners = corners_of(cell.table)
    for name, index in corners.items():
        right, top = x[index] > x.mean(), y[index] > y.mean()
        _label(
            axis,
            x[index],
            y[index],
            f"{figure_text(name, 12)}\n{cell.metric.text(values[index] / cell.metric.scale)}",
            right,
            top,
        )
    if len(cell.route) > 1:
        axis.plot(x[list(cell.route)], y[list(cell.route)], color="white", linewidth=2.4)
        axis.plot(x[list(cell.route)], y[list(cell.route)], color=BLUE, linewidth=1.2, linestyle="--")
    worst = int(np.nanargmin(values) if cell.metric.better == "higher" else np.nanargmax(values))
    if worst not in corners.values():
        axis.scatter(x[worst], y[worst], s=64, marker="X", color="black", edgecolors="white", zorder=6, clip_on=False)
        _label(
            axis,
            x[worst],
            y[worst],
            cell.metric.text(values[worst] / cell.metric.scale),
            x[worst] > x.mean(),
            y[worst] > y.mean(),
        )
    axis.set(aspect="equal", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03 * y.max()))
    axis.set_title(figure_text(cell.title), fontsize=8)
    axis.set_xlabel(cell.table.coordinates[0], labelpad=1)
    axis.set_ylabel(cell.table.coordinates[1], labelpad=1)
    axis.tick_params(labelsize=7)
    axis.spines[:].set_visible(False)


def _label(axis: Axes, x: float, y: float, text: str, right: bool, top: bool) -> None:
    """Text beside a place, on the side of the map's middle."""
    axis.annotate(
        text,
        (x, y),
        xytext=(-5 if right else 5, -5 if top else 5),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top" if top else "bottom",
        fontsize=7,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.2},
        zorder=5,  # above the contours and what they are labelled with
    )


def by_largest_share(axis: Axes, cell: Cell) -> None:
    """A metric against the largest share of one network: at 1 the networks themselves, on the left their average."""
    others = np.array([cell.table.column(name) for name in cell.table.coordinates])
    largest = np.maximum(1 - others.sum(0), others.max(0))
    axis.scatter(largest, _values(cell), s=9, color=COLOURS[0], marker=MARKERS[0], alpha=0.6, linewidths=0)
    axis.set_title(figure_text(cell.title), fontsize=8)
    axis.set_xlabel("largest share of one network")
    plain(axis)
