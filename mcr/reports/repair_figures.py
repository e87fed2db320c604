"""Figures of repairs: the candidates of one, and several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr.metric import Metric
from mcr.reports.cards import candidate
from mcr.reports.factor_figures import STYLES
from mcr.reports.figures import BLUE, COLOURS, GREY, MARKERS, plain
from mcr.reports.headings import head
from mcr.text import figure_text


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
    ends_known = list(card["ends"])
    metrics = [Metric(**found) for found in card["descriptions"].values() if found["label"]]
    for index, metric in enumerate(metrics):
        color, values = COLOURS[index % len(COLOURS)], [100 * row[metric.name] for row in rows]
        label = figure_text(metric.name.replace("_", " "))
        axis.plot(places, values, color=color, marker=marker, markersize=3, linewidth=1.6 if along else 0, label=label)
        before = [100 * card["metrics"][metric.name][end] for end in ends_known][: len(ends)]
        told: dict[str, Any] = {"label": "the networks before"} if index == 0 else {}
        axis.plot(ends, before, color=color, marker="D", markersize=5, linewidth=0, markerfacecolor="white", **told)
    held = [100 * row["accuracy"] for row in rows]
    axis.plot(places, held, color=GREY, linewidth=1, linestyle="--", label="accuracy, held-out images")
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
            if card["taken"]["how"] == "refitted":
                after = [100 * card["metrics"][metric.name]["after"] for metric in metrics]
                label = "made once more, on all images"
                axis.scatter([place] * len(after), after, 60, COLOURS[: len(after)], marker="*", label=label)
    for index, (low, high) in enumerate(card["allowed_t"]):
        half = (rows[1]["t"] - rows[0]["t"]) / 2 if len(rows) > 1 else 0.05
        shown: dict[str, Any] = {"label": "allowed"} if index == 0 else {}
        axis.axvspan(low - half, high + half, color=BLUE, alpha=0.07, linewidth=0, **shown)
    axis.set(ylim=(-3, 103), ylabel="%", xlabel="t" if along else "candidate")
    axis.set_title(figure_text(f"{card['repair'].replace('_', ' ')}, {card['images']} clean images"), fontsize=10)
    if not along:
        axis.set_xticks(
            [-1, *places],
            [figure_text(ends_known[0]), *(candidate(row) for row in rows)],
            rotation=30,
            fontsize=7,
        )
    plain(axis)
    axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def methods_figure(rows: Sequence[Mapping[str, Any]], settings: str = "") -> Figure:
    """Clean accuracy and the attack's success after each repair, against the number of clean images.

    Args:
        rows: One for each setting, method and number of images; settings side by side.
        settings: What all have in common, above the figure.
    """
    columns = list(dict.fromkeys(row["setting"] for row in rows))
    methods = list(dict.fromkeys(row["repair"] for row in rows))
    attacks = ("attack_success", "injection_success")
    known = {
        setting: next((a for row in rows if row["setting"] == setting for a in attacks if f"{a}_after" in row), "")
        for setting in columns
    }
    lines = ["clean accuracy %", *(["attack success %"] if any(known.values()) else [])]
    size = (3.0 * len(columns) + 2.2, 2.2 * len(lines) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(lines), len(columns), sharex=True, sharey="row", squeeze=False)
    counts = sorted({row["images"] for row in rows})
    for column, setting in enumerate(columns):
        axes[0, column].set_title(figure_text(setting), fontsize=10)
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
                _method(axis, index, method, metric, found)
            first = next(row for row in rows if row["setting"] == setting)
            axis.axhline(100 * first[f"{metric}_before"], color=GREY, linestyle=":", linewidth=1, label="before")
            axis.set_xscale("log")
            axis.set_xticks(counts, [str(count) for count in counts], fontsize=8)
            axis.minorticks_off()
            axis.set_ylim(-3, 103)
            if column == 0:
                axis.set_ylabel(label)
            plain(axis)
    head(figure, settings)
    axes[0, -1].legend(fontsize=7, frameon=False, handlelength=3.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _method(axis: Axes, index: int, method: str, metric: str, found: Sequence[Mapping[str, Any]]) -> None:
    """One method: its means over replicates against the number of clean images, and their standard errors."""
    places = np.array([row["images"] for row in found])
    values, errors = (np.array([100 * row[f"{metric}_{part}"] for row in found]) for part in ("after", "after_se"))
    color = COLOURS[index % len(COLOURS)]
    axis.plot(
        places,
        values,
        color=color,
        marker=MARKERS[index % len(MARKERS)],
        linestyle=STYLES[index % len(STYLES)],
        markersize=4,
        linewidth=2.2 if index == 0 else 1.2,
        label=figure_text(method.replace("_", " ")),
    )
    known = np.isfinite(errors)  # of one replicate there is none, and no bar that would say it is zero
    if known.any():
        axis.errorbar(places[known], values[known], errors[known], color=color, linestyle="none", capsize=2)
