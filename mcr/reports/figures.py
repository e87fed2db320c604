"""The figure that tells the story: losses and accuracies along t, pairs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr.evaluation.table import PathTable, is_share


class Panel(NamedTuple):
    """One path of a figure.

    Attributes:
        title: Above its column.
        table: Of the path.
        reference: Of the path beside it (the straight line), if any.
        note: Written into the row of the eigenvalue.
    """

    title: str
    table: PathTable
    reference: PathTable | None
    note: str


BLUE, RED, GREY, ORANGE, PURPLE, GREEN = "#2166ac", "#b2182b", "#7a7a7a", "#d95f02", "#7b3294", "#1b7837"
CURVATURE = "input eigenvalue"
ROWS = (
    ("clean loss", (("test_loss", "test", BLUE), ("train_loss", "train", "#92c5de"))),
    ("robust loss", (("robust_loss", "under attack", RED),)),
    (CURVATURE, (("input_eigenvalue", "largest, mean", GREEN),)),
    ("accuracy %", (("test_accuracy", "clean", BLUE), ("robust_accuracy", "under attack", RED))),
    ("attack success %", (("attack_success", "backdoor", ORANGE), ("injection_success", "injected errors", PURPLE))),
)
METHODS = (BLUE, RED, ORANGE, PURPLE, "#1b7837", "#4d4d4d")
MOST_COLUMNS = 6


def path_figure(panels: Sequence[Panel], reference_name: str = "") -> Figure:
    """One column per path; solid the curve, dashed the reference; dotted the level of the higher end.

    Args:
        panels: What the columns show, at most MOST_COLUMNS.
        reference_name: What the legend calls the reference.
    """
    rows = [row for row in ROWS if any(name in panel.table.metrics for panel in panels for name, _, _ in row[1])]
    size = (3.0 * len(panels) + 2.4, 2.15 * len(rows) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), len(panels), sharex=True, sharey="row", squeeze=False)
    for column, panel in enumerate(panels):
        for (label, lines), axis in zip(rows, axes[:, column], strict=True):
            _draw(axis, lines, panel.table, panel.reference, reference_name)
            if column == 0:
                axis.set_ylabel(label)
            if label == CURVATURE and panel.note:
                axis.set_title(panel.note, fontsize=8, color=GREY)
        axes[0, column].set_title(panel.title, fontsize=10)
        axes[-1, column].set_xlabel("t")
    for (label, _), line in zip(rows, axes, strict=True):
        line[0].set_ylim(*((-3, 103) if label.endswith("%") else (0, None)))
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
        scale = 100 if is_share(name) else 1
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
    rows = [row for row in ROWS if any(name in panel.table.metrics for panel in panels for name, _, _ in row[1])]
    figure = Figure(figsize=(7.5, 2.3 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    colors = matplotlib.colormaps["viridis"]
    for index, (title, table, _, _) in enumerate(panels):
        color = colors(0.9 * index / max(1, len(panels) - 1))
        for (label, lines), axis in zip(rows, axes, strict=True):
            name = next(
                (name for name, _, _ in reversed(lines) if name in table.metrics and name != "train_loss"), None
            )
            if name is not None:
                scale = 100 if is_share(name) else 1
                axis.plot(table.column("t"), [scale * v for v in table.column(name)], color=color, label=title)
                axis.set_ylabel(f"{name.split('_')[0]} {label}" if scale == 100 else label)
    axes[-1].set_xlabel("t")
    axes[0].legend(fontsize=6, frameon=False, ncols=2, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def card_figure(rows: Sequence[Mapping[str, Any]], card: Mapping[str, Any]) -> Figure:
    """A repair's candidates: clean accuracy and, where it is known, the attack's success; the chosen one is marked.

    Args:
        rows: Candidates of one learning rate, as ``along.csv`` has them.
        card: The card.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    along = "t" in rows[0]
    places = [row["t"] for row in rows] if along else list(range(len(rows)))
    ends = [0.0, 1.0] if along else [-1.0]
    marker = "o" if along else "s"
    lines = [
        ("clean_accuracy", "clean accuracy", BLUE),
        ("attack_success", "attack success", ORANGE),
        ("injection_success", "injected errors", PURPLE),
    ]
    for metric, label, color in lines:
        if metric not in rows[0]:
            continue
        values = [100 * row[metric] for row in rows]
        axis.plot(places, values, color=color, marker=marker, markersize=3, linewidth=1.6 if along else 0, label=label)
        before = [100 * card["metrics"][metric][end] for end in ("start", "end")][: len(ends)]
        axis.plot(ends, before, color=color, marker="D", markersize=5, linewidth=0, markerfacecolor="white")
    held = [100 * row["accuracy"] for row in rows]
    axis.plot(places, held, color="#92c5de", linewidth=1, linestyle="--", label="accuracy, held-out images")
    axis.axhline(
        100 * card["better_less_margin"],
        color=GREY,
        linewidth=0.8,
        linestyle=":",
        label="better network less the margin",
    )
    for place, row in zip(places, rows, strict=True):
        if row["chosen"]:
            axis.axvline(place, color="black", linewidth=1, label="chosen")
    for low, high in card["allowed_t"]:
        half = (rows[1]["t"] - rows[0]["t"]) / 2 if len(rows) > 1 else 0.05
        axis.axvspan(low - half, high + half, color=BLUE, alpha=0.07, linewidth=0)
    axis.set(ylim=(-3, 103), ylabel="%", xlabel="t" if along else "candidate")
    axis.set_title(f"{card['repair'].replace('_', ' ')}, {card['images']} clean images", fontsize=10)
    if not along:
        axis.set_xticks([-1, *places], ["start", *(_candidate_name(row) for row in rows)], rotation=30, fontsize=7)
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _candidate_name(row: Mapping[str, Any]) -> str:
    return f"rate {row['rate']:g}" if "rate" in row else f"draw {row['draw']:g}"


def methods_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Clean accuracy and the attack's success after each repair, against the number of clean images.

    Args:
        rows: One for each setting, method and number of images; settings side by side.
    """
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    methods = list(dict.fromkeys(row["repair"] for row in rows))
    attacks = ("attack_success", "injection_success")
    known = {
        setting: next((a for row in rows if row["setting"] == setting for a in attacks if f"{a}_after" in row), "")
        for setting in settings
    }
    lines = ["clean accuracy %", *(["attack success %"] if any(known.values()) else [])]
    size = (3.0 * len(settings) + 2.2, 2.2 * len(lines) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(lines), len(settings), sharex=True, sharey="row", squeeze=False)
    counts = sorted({row["images"] for row in rows})
    for column, setting in enumerate(settings):
        axes[0, column].set_title(setting, fontsize=10)
        axes[-1, column].set_xlabel("clean images N")
        for label, axis in zip(lines, axes[:, column], strict=True):
            metric = "clean_accuracy" if label.startswith("clean") else known[setting]
            if not metric:
                continue
            for index, method in enumerate(methods):
                found = sorted(
                    (row for row in rows if (row["setting"], row["repair"]) == (setting, method)),
                    key=lambda row: int(row["images"]),
                )
                axis.errorbar(
                    [row["images"] for row in found],
                    [100 * row[f"{metric}_after"] for row in found],
                    [np.nan_to_num(100 * row[f"{metric}_after_se"]) for row in found],
                    color=METHODS[index % len(METHODS)],
                    marker="o",
                    markersize=4,
                    linewidth=2.2 if index == 0 else 1.2,
                    capsize=2,
                    label=method.replace("_", " "),
                )
            first = next(row for row in rows if row["setting"] == setting)
            axis.axhline(100 * first[f"{metric}_start"], color=GREY, linestyle=":", linewidth=1, label="start network")
            axis.set_xscale("log")
            axis.set_xticks(counts, [str(count) for count in counts], fontsize=8)
            axis.minorticks_off()
            axis.set_ylim(-3, 103)
            if column == 0:
                axis.set_ylabel(label)
            axis.grid(alpha=0.25, linewidth=0.5)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, -1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
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
