"""The figure of many repairs at few numbers of clean images: what each left of the attack, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr.reports.figures import COLOURS, GREY, MARKERS, plain
from mcr.reports.headings import head
from mcr.text import figure_text

ATTACKS = ("attack_success_after", "injection_success_after")
MANY = 7  # repairs: as many as there are colours
LEFT, LOST = "attack success left %", "points of accuracy lost"


def fits(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the rows are of many repairs, or of one number of images, so that lines over it would say little."""
    return len({row["repair"] for row in rows}) > MANY or len({row["images"] for row in rows}) == 1


def dots_figure(rows: Sequence[Mapping[str, Any]], settings: str = "") -> Figure:
    """A line for each repair, the best on top, a dot for each setting, a stroke for their mean; N one below the other.

    Args:
        rows: One for each setting, method and number of images.
        settings: What all have in common, above the figure.
    """
    counts = sorted({row["images"] for row in rows}, reverse=True)
    named = list(dict.fromkeys(row["setting"] for row in rows))
    attack = next((name for name in ATTACKS if all(name in row for row in rows)), "")
    panels = [*([(attack, LEFT)] if attack else []), ("lost", LOST)]
    methods = len({row["repair"] for row in rows})
    size = (3.4 * len(panels) + 2.6, (0.2 * methods + 0.9) * len(counts) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(counts), len(panels), sharey="row", squeeze=False)
    for count, line in zip(counts, axes, strict=True):
        part = [row for row in rows if row["images"] == count]
        order = _ranked(part)
        for (quantity, label), axis in zip(panels, line, strict=True):
            _dots(axis, part, order, named, quantity)
            axis.set_xlabel(label)
        line[0].set_yticks(range(len(order)), [figure_text(name.replace("_", " ")) for name in order], fontsize=8)
        line[0].set_ylim(len(order) - 0.5, -0.5)
        line[0].set_title(f"N = {count} clean images", fontsize=9, loc="left")
    head(figure, settings)
    axes[0, -1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _ranked(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Repairs, the one of the greatest mean effectiveness first; where no attack is known, of the least mean loss."""
    key = "der" if all("der" in row for row in rows) else "lost"
    sign = -1 if key == "der" else 1
    methods = dict.fromkeys(row["repair"] for row in rows)
    return sorted(methods, key=lambda name: sign * float(np.mean([row[key] for row in rows if row["repair"] == name])))


def _dots(
    axis: Axes, rows: Sequence[Mapping[str, Any]], order: Sequence[str], named: Sequence[str], quantity: str
) -> None:
    for index, setting in enumerate(named):
        found = [row for row in rows if row["setting"] == setting]
        places = [order.index(row["repair"]) + 0.12 * (index - (len(named) - 1) / 2) for row in found]
        axis.scatter(
            [100 * row[quantity] for row in found],
            places,
            s=16,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            label=figure_text(setting),
            zorder=3,
        )
    means = [100 * float(np.mean([row[quantity] for row in rows if row["repair"] == name])) for name in order]
    axis.scatter(means, range(len(order)), s=160, color="black", marker="|", label="mean", zorder=2)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.grid(axis="x", linewidth=0.4, alpha=0.5)
    plain(axis)
    axis.grid(axis="y", visible=False)
