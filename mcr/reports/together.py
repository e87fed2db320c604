"""The figure of networks of a path that are asked together. No torch."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr.evaluation.measured import Measure
from mcr.metric import Metric
from mcr.reports.figures import COLOURS, GREY, MARKERS
from mcr.text import figure_text


def together_figure(found: Mapping[str, Measure]) -> Figure:
    """Matrices as maps, values of single networks as lines: one panel for each metric that has a label."""
    shown = [
        (probe, one, metric)
        for probe, one in found.items()
        for metric in one.metrics
        if metric.label and one.values[metric.name].ndim > 1
    ]
    figure = Figure(figsize=(3.6 * len(shown), 3.1), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (probe, one, metric) in zip(axes, shown, strict=True):
        mean = metric.scale * one.mean(metric.name)
        if mean.ndim == 2:
            _map(figure, axis, one.where, mean, metric)
        else:
            _line(axis, one, mean, metric)
        title = f"{probe.replace('_', ' ')}: {metric.title().split(' ', 1)[-1]}"
        axis.set_title(figure_text(title), fontsize=9)
    return figure


def _line(axis: Axes, one: Measure, mean: np.ndarray, metric: Metric) -> None:
    axis.plot(range(len(mean)), mean, color=COLOURS[0], marker=MARKERS[0], markersize=3, label="single network")
    together = one.statistics.get("robust_accuracy")
    if together is not None:
        axis.axhline(metric.scale * together, color=COLOURS[1], linestyle="--", label=f"all {len(mean)} together")
    axis.set_xticks(range(len(mean)), one.where, fontsize=7)
    axis.set_ylim(0, 1.05 * max(1.0, float(mean.max()), metric.scale * float(together or 0)))
    axis.set_xlabel(" ".join(one.grid.coordinates))
    axis.legend(fontsize=7, frameon=False)
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def _map(figure: Figure, axis: Axes, where: list[str], mean: np.ndarray, metric: Metric) -> None:
    # From zero to what is possible, so that noise does not look like structure.
    low, high = (0, 100) if metric.unit == "share" else (min(0.0, float(np.nanmin(mean))), 1.0)
    shown = axis.imshow(mean, cmap=matplotlib.colormaps["viridis"], aspect="auto", vmin=low, vmax=high)
    axis.set_xticks(range(len(where)), where, fontsize=7, rotation=90)
    axis.set_yticks(range(len(where)), where, fontsize=7)
    for row, line in enumerate(mean):
        for column, value in enumerate(line):
            text = "" if np.isnan(value) else f"{value:.{0 if metric.unit == 'share' else 2}f}"
            color = "white" if value < (low + high) / 2 else "black"
            axis.text(column, row, text, ha="center", va="center", fontsize=6, color=color)
    figure.colorbar(shown, ax=axis, shrink=0.9).ax.tick_params(labelsize=7, color=GREY)
