"""The figure that tells the story: losses and accuracies along t, pairs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr.evaluation.table import PathTable

Panel = tuple[str, PathTable, PathTable | None]
"""Title, the path's table, and the reference's (the straight line), if any."""

BLUE, RED, GREY = "#2166ac", "#b2182b", "#7a7a7a"
ROWS = (
    ("clean loss", (("test_loss", "test", BLUE), ("train_loss", "train", "#92c5de"))),
    ("robust loss", (("robust_loss", "under attack", RED),)),
    ("accuracy %", (("test_accuracy", "clean", BLUE), ("robust_accuracy", "under attack", RED))),
)
MOST_COLUMNS = 6


def path_figure(panels: Sequence[Panel], reference_name: str = "") -> Figure:
    """One column per path; solid the curve, dashed the reference; dotted the level of the higher end.

    Args:
        panels: What the columns show, at most MOST_COLUMNS.
        reference_name: What the legend calls the reference.
    """
    rows = [row for row in ROWS if any(name in panel[1].metrics for panel in panels for name, _, _ in row[1])]
    size = (3.0 * len(panels) + 2.4, 2.15 * len(rows) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(panels), sharex=True, sharey="row", squeeze=False)
    for column, (title, table, reference) in enumerate(panels):
        for (label, lines), axis in zip(rows, axes[:, column], strict=True):
            _draw(axis, lines, table, reference, reference_name)
            if column == 0:
                axis.set_ylabel(label)
        axes[0, column].set_title(title, fontsize=10)
        axes[-1, column].set_xlabel("t")
    for (label, _), line in zip(rows, axes, strict=True):
        line[0].set_ylim(*((-3, 103) if label.startswith("accuracy") else (0, None)))
        # Beside the row, where it covers no line; from the column with the most to show, as one may lack a metric.
        fullest = max(line, key=lambda axis: len(axis.get_legend_handles_labels()[0]))
        handles = fullest.get_legend_handles_labels()
        line[-1].legend(*handles, fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _draw(
    axis: Axes,
    lines: Sequence[tuple[str, str, str]],
    table: PathTable,
    reference: PathTable | None,
    reference_name: str,
) -> None:
    for name, label, color in lines:
        if name not in table.metrics:
            continue
        scale = 100 if name.endswith("accuracy") else 1
        values = [scale * value for value in table.column(name)]
        axis.plot(table.column("t"), values, color=color, marker="o", markersize=2.6, linewidth=1.6, label=label)
        if name.endswith("loss") and name != "train_loss":
            axis.axhline(max(values[0], values[-1]), color=color, linestyle=":", linewidth=0.9)
        if reference is not None and name != "train_loss":
            straight = [scale * value for value in reference.column(name)]
            axis.plot(
                reference.column("t"),
                straight,
                color=color,
                linestyle="--",
                linewidth=1.0,
                alpha=0.6,
                label=f"{label}, {reference_name}",
            )
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def overlay_figure(panels: Sequence[Panel]) -> Figure:
    """Many paths in one column, one colour each."""
    rows = [row for row in ROWS if any(name in panel[1].metrics for panel in panels for name, _, _ in row[1])]
    figure = Figure(figsize=(7.5, 2.3 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    colors = matplotlib.colormaps["viridis"]
    for index, (title, table, _) in enumerate(panels):
        color = colors(0.9 * index / max(1, len(panels) - 1))
        for (label, lines), axis in zip(rows, axes, strict=True):
            name = next(
                (name for name, _, _ in reversed(lines) if name in table.metrics and name != "train_loss"), None
            )
            if name is not None:
                scale = 100 if name.endswith("accuracy") else 1
                axis.plot(table.column("t"), [scale * v for v in table.column(name)], color=color, label=title)
                axis.set_ylabel(f"{name.split('_')[0]} {label}" if scale == 100 else label)
    axes[-1].set_xlabel("t")
    axes[0].legend(fontsize=6, frameon=False, ncols=2, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def save(figure: Figure, folder: Path, name: str, formats: Sequence[str], dpi: int) -> list[Path]:
    """Write the figure in each format, byte for byte the same for the same numbers."""
    paths = []
    with matplotlib.rc_context({"svg.hashsalt": "mcr", "svg.fonttype": "none"}):
        for kind in formats:
            path = folder / f"{name}.{kind}"
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(path, dpi=dpi, metadata=metadata)
            paths.append(path)
    return paths
