"""Merged networks beside the best single one: averages, soups, points of a subspace, ensembles. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcr.evaluation.measured import Measure
from mcr.evaluation.table import markdown
from mcr.numerics.statistics import standard_error
from mcr.reports import images
from mcr.text import markdown_cell

ANSWER, ATTACKED = "answer", "ensemble"  # the probes of merged networks
BEST = "best_network"  # the merge that all others are compared with
NUMBERS = ("members", "accuracy", "accuracy_se", "gain", "gain_se", "nll", "nll_se", "ece", "disagreement")
COLUMNS = ("merge", "networks", "accuracy %", "gain", "NLL", "ECE %", "differ %", "robust %")
EXPLANATION = (
    "Picked by validation images, judged by test images. Networks: forward passes an image costs. Gain: accuracy in "
    "points above best_network, ± its standard error over images. Differ: images for which two members disagree. "
    "Robust: accuracy of all together under the run's attack."
)


@dataclass(frozen=True)
class Merged:
    """What test images say of one merge.

    Attributes:
        name: Of the merge.
        answers: Probe to its answers.
        picked: What validation images said of the places that were tried.
    """

    name: str
    answers: Mapping[str, Measure]
    picked: Mapping[str, Any]

    def numbers(self, best: Merged | None) -> dict[str, float]:
        """Named numbers, all that were measured: what a claim may name as ``merged_NAME.NUMBER``.

        Args:
            best: The best single network, if it was asked for.
        """
        found = {name: float(value) for name, value in self.answers[ANSWER].statistics.items()}
        if best is not None:
            found |= {f"gain{end}": value for end, value in zip(("", "_se"), self._gain(best), strict=True)}
        if ATTACKED in self.answers:
            statistics = self.answers[ATTACKED].statistics
            found |= {name: float(statistics[name]) for name in ("robust_accuracy", "robust_loss")}
        return found

    def _gain(self, best: Merged) -> tuple[float, float]:
        """Accuracy above the best network's, paired over images, and its standard error."""
        key = f"{ANSWER}_accuracy"
        difference = (part.answers[ANSWER].values[key].astype(np.float64) for part in (self, best))
        paired = np.subtract(*difference)
        return float(paired.mean()), standard_error(paired)

    @property
    def where(self) -> str:
        """The picked place, where it is one, and by what it was picked."""
        grid = self.answers[ANSWER].grid
        if len(grid.places) > 1:
            return f"{self.name}: {len(grid.places)} places"
        place = ", ".join(f"{name} = {value:.2f}" for name, value in grid.where(0).items())
        tried, count = len(self.picked["tried"]), self.picked["images"]
        return f"{self.name}: {place}" + (f", of {tried} places tried on {count} images" if tried else "")


def numbers(found: Sequence[Merged]) -> dict[str, dict[str, float]]:
    """Name to the numbers of each merge."""
    best = next((one for one in found if one.name == BEST), None)
    return {one.name: one.numbers(best) for one in found}


def merged_section(found: Sequence[Merged]) -> str:
    """One row a merge, as a Markdown table; where each was picked."""
    rows = [[name, *_row(known)] for name, known in numbers(found).items()]
    counts = found[0].answers[ANSWER].counts
    said = images.line([("", images.spoken(counts, list(counts)[:1]))])
    notes = [said, "; ".join(one.where for one in found) + ".", EXPLANATION]
    return "## Merged networks\n\n" + "\n\n".join([markdown(COLUMNS, rows), *map(markdown_cell, notes)]) + "\n"


def _row(known: Mapping[str, float]) -> list[str]:
    gain = f"{100 * known['gain']:+.1f} ± {100 * known['gain_se']:.1f}" if "gain" in known else ""
    shares = {name: f"{100 * known[name]:.1f}" for name in ("accuracy", "ece", "disagreement")}
    robust = f"{100 * known['robust_accuracy']:.1f}" if "robust_accuracy" in known else ""
    one = known["members"] == 1
    return [
        f"{known['members']:.0f}",
        shares["accuracy"],
        gain,
        f"{known['nll']:.3f}",
        shares["ece"],
        "" if one else shares["disagreement"],
        robust,
    ]
