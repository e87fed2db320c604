"""What a report says of merged networks: averages, soups, best points and ensembles beside the single networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from mcr.evaluation.measured import Measure
from mcr.evaluation.table import markdown
from mcr.metric import Metric
from mcr.numerics.statistics import Values, standard_error
from mcr.text import markdown_cell

NAME = "merges"  # what claims call them: merges.soup.accuracy
PAIRED = ("accuracy", "nll", "robust_accuracy")  # of which the difference from the best network is told
SHARE = Metric("accuracy", "share", "higher", "")
NATS = Metric("nll", "nats", "lower", "")
ALIGN = (
    "align networks of different trainings before they are averaged: edit=match_weights, of files align=match_weights"
)
EXPLANATION = (
    "On test images. Cost: forward passes per image. Gain: accuracy less that of the best network, which was chosen on "
    "validation images; ± the standard error over images, paired. Of several networks the probabilities are averaged, "
    "and the attack is on that average. Disagree: pairs of networks that predict different classes. Diversity: entropy "
    "of the mean answer less the mean entropy of the answers, in nats. Of all, BatchNorm is estimated anew."
)


@dataclass(frozen=True)
class Merged:
    """One merge, tested.

    Attributes:
        name: Its name in the configuration.
        label: What people call it.
        measures: Probe to answers.
        picked: ``tried``: the candidates with their scores, ``data`` and ``images``: what they were judged on.
    """

    name: str
    label: str
    measures: Mapping[str, Measure]
    picked: Mapping[str, Any]

    @property
    def one(self) -> Measure:
        """Any of the measures: all are at the same places."""
        return next(iter(self.measures.values()))

    @property
    def cost(self) -> int:
        """Forward passes per image."""
        return len(self.one.grid.places)

    @property
    def corners(self) -> bool:
        """Whether it is all given networks and nothing else."""
        shares = self.one.grid.shares
        return shares.shape[0] == shares.shape[1] and bool(np.allclose(shares, np.eye(len(shares))))

    @property
    def kept(self) -> str:
        """Of what it is made, in words: the share of each network, or a place."""
        grid = self.one.grid
        if self.cost > 1:
            return f"{self.cost} places"
        if len(grid.coordinates) == len(grid.ends) - 1 > 1 and np.allclose(grid.places[0], grid.shares[0][1:]):
            held = [
                f"{share:.2f} {name}" for share, name in zip(grid.shares[0], grid.ends, strict=True) if share > 1e-9
            ]
            return " + ".join(held)
        return ", ".join(f"{name} = {value:.2f}" for name, value in zip(grid.coordinates, grid.places[0], strict=True))

    def values(self, metric: str) -> Values | None:
        """Of each image, (N,), or of each member and image; None where nobody asked."""
        found = (
            values for one in self.measures.values() for name, values in one.values.items() if _is(name, one, metric)
        )
        first = next(found, None)
        return None if first is None else first.astype(np.float64)

    def numbers(self, best: Merged) -> dict[str, float]:
        """All statistics, and the gains over the best network with their standard errors, paired over images."""
        known = {name: value for one in self.measures.values() for name, value in one.statistics.items()}
        for metric in PAIRED:
            own, other = self.values(metric), best.values(metric)
            if own is not None and other is not None:
                known |= {
                    f"{metric}_gain": float((own - other).mean()),
                    f"{metric}_gain_se": standard_error(own - other),
                }
        return {"cost": float(self.cost), **known}


def _is(name: str, one: Measure, metric: str) -> bool:
    return name in {f"{known.probe}_{metric}" for known in one.metrics}


def known(merges: Sequence[Merged]) -> dict[str, float]:
    """Every number by "merge.statistic", as claims name them."""
    found = {one.name: one.numbers(merges[0]) for one in merges}
    return {f"{name}.{key}": value for name, numbers in found.items() for key, value in numbers.items()}


def claimable(numbers: Mapping[str, Sequence[str]]) -> list[str]:
    """The names of ``known`` before anything is measured.

    Args:
        numbers: Merge to the statistics of its probes.
    """
    return [
        f"{merge}.{name}"
        for merge, names in numbers.items()
        for name in ["cost", *names, *(f"{m}_gain{se}" for m in PAIRED if m in names for se in ("", "_se"))]
    ]


def singles(merges: Sequence[Merged]) -> dict[str, dict[str, float]]:
    """The given networks, each by itself, by their names; nothing where their ensemble is none of the merges."""
    whole = next((one for one in merges if one.corners and one.values("member_accuracy") is not None), None)
    best = merges[0].values("accuracy")
    if whole is None or best is None:
        return {}
    found = {}
    for index, name in enumerate(whole.one.grid.ends):
        values = {m: whole.values(f"member_{m}")[index] for m in ("accuracy", "nll", "ece")}  # type: ignore[index]
        values["accuracy_gain"] = values["accuracy"] - best
        numbers = {key: float(value.mean()) for key, value in values.items()}
        found[name] = {"cost": 1.0, **numbers, **{f"{key}_se": standard_error(value) for key, value in values.items()}}
    return found


def records(merges: Sequence[Merged]) -> list[dict[str, Any]]:
    """One row a merge and one a given network, for a file."""
    rows: list[dict[str, Any]] = [
        {"merge": one.name, "label": one.label, "kept": one.kept, **one.numbers(merges[0])} for one in merges
    ]
    return rows + [{"merge": "", "label": name, "kept": "", **found} for name, found in singles(merges).items()]


def section(merges: Sequence[Merged]) -> str:
    """The tables of a report, 80 columns wide where names are short."""
    rows = [(row["label"], row) for row in records(merges)]
    first = [
        [
            label,
            f"{row['cost']:.0f}",
            _with_error(SHARE, row, "accuracy"),
            _with_error(SHARE, row, "accuracy_gain", "+"),
            _with_error(NATS, row, "nll"),
            SHARE.text(row["ece"]),
        ]
        for label, row in rows
    ]
    tables = [markdown(["networks", "cost", "acc %", "gain", "NLL", "ECE %"], first)]
    several = [(one, row) for one, (_, row) in zip(merges, rows, strict=False)]
    second = [
        [
            one.label,
            _with_error(SHARE, row, "robust_accuracy"),
            _with_error(SHARE, row, "robust_accuracy_gain", "+"),
            SHARE.text(row["disagreement"]) if one.cost > 1 else "",
            NATS.text(row["diversity"]) if one.cost > 1 else "",
        ]
        for one, row in several
    ]
    tables.append(markdown(["networks", "robust acc %", "gain", "disagree %", "diversity"], second))
    lines = [f"- {markdown_cell(one.label)}: {markdown_cell(one.kept)}{_judged(one)}" for one in merges]
    counts = ", ".join(f"{name} {one.images}" for name, one in merges[0].measures.items())
    return (
        "## Merged networks\n\n" + "\n\n".join([*tables, "\n".join(lines), f"Images: {counts}. {EXPLANATION}"]) + "\n"
    )


def _judged(one: Merged) -> str:
    tried = len(one.picked["tried"])
    return f"; {tried} candidates judged on {one.picked['images']} {one.picked['data']} images" if tried else ""


def _with_error(metric: Metric, row: Mapping[str, Any], key: str, sign: str = "") -> str:
    return f"{metric.text(row[key], sign)}{metric.error(row.get(f'{key}_se'))}" if key in row else ""


def warnings(merges: Sequence[Merged], far: float) -> list[str]:
    """Averages whose accuracy lies far below that of the best network.

    Args:
        merges: The best network first.
        far: By what share of the images.
    """
    found = []
    for one in merges[1:]:
        gain = one.numbers(merges[0]).get("accuracy_gain", 0.0)
        if one.cost == 1 and isfinite(gain) and gain < -far:
            found.append(f"the {one.label} is {-100 * gain:.1f} points less accurate than the best network; {ALIGN}")
    return found
