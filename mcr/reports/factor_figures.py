"""The figures of many jobs: a line for each level of one factor, small multiples by the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr.metric import Metric
from mcr.reports.figures import COLOURS, MARKERS, MOST_COLUMNS, Panel, plain, rows_of
from mcr.reports.headings import head
from mcr.reports.limits import limits
from mcr.reports.pivots import said_of, short
from mcr.text import figure_text

STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))  # said once more, for print without colour
MOST_LINES = 6
WIDE = 10  # a row whose values span more than this factor has a logarithmic axis


class Group(NamedTuple):
    """The jobs of the same levels.

    Attributes:
        levels: Factor to level.
        panel: Their means, and the range over replicates.
    """

    levels: Mapping[str, str]
    panel: Panel


class Column(NamedTuple):
    """One small multiple.

    Attributes:
        title: The levels that its lines have in common.
        lines: Level of the factor that tells the lines apart, to what is drawn.
    """

    title: str
    lines: Mapping[str, Panel]


def line_factor(factors: Mapping[str, Sequence[str]]) -> str:
    """The factor whose levels become lines: the one with the most that a panel has room for, else with the fewest."""
    few = [name for name, levels in factors.items() if len(levels) <= MOST_LINES]
    if few:
        return max(few, key=lambda name: len(factors[name]))
    return min(factors, key=lambda name: len(factors[name]))


def columns(groups: Sequence[Group], factors: Mapping[str, Sequence[str]]) -> list[Column]:
    """The small multiples: one for each combination of the other factors, and for each six lines of one."""
    factor = line_factor(factors)
    found: dict[tuple[str, ...], dict[str, Panel]] = {}
    for group in groups:
        others = tuple(said_of(name, level) for name, level in group.levels.items() if name != factor)
        found.setdefault(others, {})[group.levels[factor]] = group.panel
    made = []
    for others, lines in found.items():
        ordered = [level for level in factors[factor] if level in lines]
        for begin in range(0, len(ordered), MOST_LINES):
            part = ordered[begin : begin + MOST_LINES]
            made.append(Column(", ".join(others), {level: lines[level] for level in part}))
    return made


def factor_figures(groups: Sequence[Group], factors: Mapping[str, Sequence[str]], settings: str) -> list[Figure]:
    """Paths by factor, as many figures as the columns need; the range over replicates is shaded.

    Args:
        groups: What is drawn.
        factors: Factor to its levels, at least one.
        settings: What all have in common, above the figure.
    """
    factor, every = line_factor(factors), columns(groups, factors)
    parts = [every[begin : begin + MOST_COLUMNS] for begin in range(0, len(every), MOST_COLUMNS)]
    return [_figure(part, factor, list(factors[factor]), settings) for part in parts]


def _figure(part: Sequence[Column], factor: str, levels: Sequence[str], settings: str) -> Figure:
    tables = [panel.table for column in part for panel in column.lines.values()]
    fitted = {name for table in tables for name in table.fitted}
    metrics = [m for same in rows_of(tables).values() for m in same if m.name not in fitted]
    size = (max(6.4, 2.7 * len(part) + 1.8), 1.9 * len(metrics) + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(metrics), len(part), sharex=True, sharey="row", squeeze=False)
    head(figure, settings)
    for metric, line in zip(metrics, axes, strict=True):
        values = [_drawn(axis, metric, column, levels) for column, axis in zip(part, line, strict=True)]
        _frame(line[0], metric, np.concatenate(values))
    for column, axis in zip(part, axes[0], strict=True):
        axis.set_title(figure_text(column.title), fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("t")
    handles: dict[str, Any] = {}
    for axis in axes.ravel():
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    named = {figure_text(level): handles[figure_text(level)] for level in levels if figure_text(level) in handles}
    axes[0, -1].legend(
        named.values(),
        named,
        title=figure_text(short(factor)),
        fontsize=8,
        title_fontsize=8,
        frameon=False,
        handlelength=3.5,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
    )
    return figure


def _drawn(axis: Axes, metric: Metric, column: Column, levels: Sequence[str]) -> np.ndarray:
    """Draw one metric of one column; returns all values that are drawn."""
    found = [np.empty(0)]
    for level, panel in column.lines.items():
        if metric not in panel.table.metrics:
            continue
        index = levels.index(level) % MOST_LINES
        t, values = panel.table.column("t"), metric.scale * np.array(panel.table.column(metric.name))
        shape: dict[str, Any] = {"color": COLOURS[index], "marker": MARKERS[index], "linestyle": STYLES[index]}
        axis.plot(t, values, markersize=3, linewidth=1.3, label=figure_text(level), **shape)
        found.append(values)
        if panel.replicates:
            seeds = metric.scale * np.array([table.column(metric.name) for table in panel.replicates])
            axis.fill_between(t, seeds.min(0), seeds.max(0), color=COLOURS[index], alpha=0.18, linewidth=0)
            found.append(seeds.ravel())
    plain(axis)
    return np.concatenate(found)


def _frame(axis: Axes, metric: Metric, values: np.ndarray) -> None:
    """The range of a row, in which nothing is cut off; logarithmic where small values would not be seen."""
    label = figure_text(metric.title())
    if metric.unit == "share":
        axis.set_ylim(-3, 103)
    elif len(values) and values.min() > 0 and values.max() > WIDE * values.min():
        axis.set_yscale("log")
        label += " (log)"
    elif len(values):
        axis.set_ylim(*limits(float(values.min()), float(values.max())))
    axis.set_ylabel(label, fontsize=8)
