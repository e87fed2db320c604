"""The figure of a path's points together. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcr.reports.figures import BLUE, ORANGE

Found = Mapping[str, Any]


def relations_figure(found: Found) -> Figure:
    """Transfer matrix, robust accuracy of single points and of their ensemble, gradient similarity."""
    crossed = "transfer" in found
    figure = Figure(figsize=(10.5, 3.1) if crossed else (4.2, 3.1), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, 3 if crossed else 1, squeeze=False)[0]
    t = found["t"]
    if crossed:
        _transfer(figure, axes[0], t, found["transfer"]["accuracy"])
        own = [100 * line[index] for index, line in enumerate(found["transfer"]["accuracy"])]
        axes[1].plot(t, own, color=BLUE, marker="o", markersize=3, label="single point")
        together = 100 * found["metrics"]["ensemble"]["robust_accuracy"]
        axes[1].axhline(together, color=ORANGE, label=f"ensemble of {len(t)}")
        axes[1].set(xlabel="t", ylabel="robust accuracy %", ylim=(0, None), title="white-box, and the ensemble")
        axes[1].legend(fontsize=7, frameon=False)
    for (name, ends), color in zip(found["gradient_similarity"].items(), (BLUE, ORANGE), strict=False):
        for role, style in (("start", "-"), ("end", "--")):
            axes[-1].plot(t, ends[role], style, color=color, marker="o", markersize=3, label=f"{name}, to {role}")
    axes[-1].set(xlabel="t", ylabel="cosine", title="input gradients: t and an end")
    axes[-1].legend(fontsize=7, frameon=False)
    for axis in axes:
        axis.title.set_fontsize(10)
    for axis in axes[1:] if crossed else axes:
        axis.grid(alpha=0.25, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _transfer(figure: Figure, axis: Axes, t: Sequence[float], accuracy: Sequence[Sequence[float]]) -> None:
    percent = [[100 * value for value in line] for line in accuracy]
    shown = axis.imshow(percent, cmap=matplotlib.colormaps["viridis"], aspect="auto")
    labels = [f"{value:g}" for value in t]
    axis.set_xticks(range(len(t)), labels, fontsize=7)
    axis.set_yticks(range(len(t)), labels, fontsize=7)
    axis.set(xlabel="tried at t", ylabel="made at t", title="robust accuracy %")
    middle = (max(map(max, percent)) + min(map(min, percent))) / 2
    for row, line in enumerate(percent):
        for column, value in enumerate(line):
            color = "white" if value < middle else "black"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color=color)
    figure.colorbar(shown, ax=axis, shrink=0.9)
