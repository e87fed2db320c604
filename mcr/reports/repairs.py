"""Repairs side by side: methods against the number of clean images, over replicates. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mcr.evaluation.summary import over_replicates
from mcr.evaluation.table import markdown
from mcr.metric import Metric
from mcr.reports.cards import percent, spoken
from mcr.reports.claims import Verdict, judge
from mcr.reports.joint import MARK
from mcr.reports.soundness import KINDS, Doubt, questioned
from mcr.text import markdown_cell

Summary = Mapping[str, Any]
MOST = 4000  # characters of a note
EFFECT = {"der": "defence effectiveness %", "lost": "points of accuracy lost"}


def compared(summary: Summary) -> dict[str, Metric]:
    """The metrics of a summary in which better or worse can be told."""
    metrics = {name: Metric(**found) for name, found in summary["descriptions"].items()}
    return {name: metric for name, metric in metrics.items() if metric.better != "neither"}


def rows(names: Sequence[str], summaries: Sequence[Summary], level: float) -> list[dict[str, Any]]:
    """One row for each setting, method and number of images: mean and standard error over replicates, in [0, 1].

    Args:
        names: The setting of each job, its replicate, method and number of images aside.
        summaries: Of the jobs.
        level: Of intervals over replicates.
    """
    groups: dict[tuple[str, str, int], list[Summary]] = {}
    for name, summary in zip(names, summaries, strict=True):
        groups.setdefault((name, summary["repair"], summary["images"]), []).append(summary)
    found = []
    for (name, repair, images), members in groups.items():
        row: dict[str, Any] = {"setting": name, "repair": repair, "images": images, "replicates": len(members)}
        row["note"] = "; ".join(dict.fromkeys(note for member in members for note in notes(member)))
        first = members[0]["ends"][0]
        for metric in compared(members[0]):
            for network in (*members[0]["ends"], "untampered", "scratch", "after"):
                if network in members[0]["metrics"][metric]:
                    spread = over_replicates([member["metrics"][metric][network] for member in members], level)
                    row[f"{metric}_{network}"], row[f"{metric}_{network}_se"] = spread["mean"], spread["se"]
            row[f"{metric}_before"] = row[f"{metric}_{first}"]
        for name in (name for name in EFFECT if name in members[0]["metrics"]["effect"]):
            spread = over_replicates([member["metrics"]["effect"][name] for member in members], level)
            row[name], row[f"{name}_se"] = spread["mean"], spread["se"]
        found.append(row)
    return found


def notes(summary: Summary) -> list[str]:
    """Why the numbers of a repair are to be read with care: trainings that ended early, and networks in doubt."""
    return [*summary["stopped"], *(doubt["reason"] for doubt in summary["doubts"])]


def cell(row: Mapping[str, Any], quantity: str) -> str:
    """A value in percent, with its standard error over replicates where there are several."""
    error = row[f"{quantity}_se"]
    return percent(row[quantity]) + ("" if np.isnan(error) else f" ± {percent(error)}")


def section(title: str, found: Sequence[Mapping[str, Any]], summary: Summary) -> str:
    """The table of one setting: a line for each method, a column for each number of images, after each metric."""
    counts = sorted({row["images"] for row in found}, reverse=True)
    methods = list(dict.fromkeys(row["repair"] for row in found))
    places = {(row["repair"], row["images"]): row for row in found}
    marks = {row["repair"]: MARK for row in found if row["note"]}
    lines = []
    for metric, described in compared(summary).items():
        for network in ("untampered", *summary["ends"]):
            if f"{metric}_{network}" in found[0]:
                cells = [cell(found[0], f"{metric}_{network}")] * len(counts)
                lines.append([described.title(), spoken(network), *cells])
        for method in methods:
            cells = [
                cell(places[method, count], f"{metric}_after") if (method, count) in places else "" for count in counts
            ]
            lines.append([described.title(), f"{method.replace('_', ' ')}{marks.get(method, '')}", *cells])
    for name in (name for name in EFFECT if name in found[0]):
        for method in methods:
            cells = [cell(places[method, count], name) if (method, count) in places else "" for count in counts]
            lines.append([EFFECT[name], f"{method.replace('_', ' ')}{marks.get(method, '')}", *cells])
    replicates = sorted({row["replicates"] for row in found})
    below = [f"{' or '.join(map(str, replicates))} replicate(s); ± is the standard error over replicates."]
    measured = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in summary["measured_on"]["metrics"].items())
    below.append(f"N: clean images of the repair. Measured on {summary['measured_on']['which']}: {measured}.")
    below += [
        markdown_cell(f"{MARK.strip()} {row['repair']}, N = {row['images']}: {row['note']}.", MOST)
        for row in found
        if row["note"]
    ]
    head = ["metric", "network", *(f"N = {count}" for count in counts)]
    return "\n\n".join([f"## {markdown_cell(title)}", markdown(head, lines), *below]) + "\n"


def verdicts(
    names: Sequence[str], summaries: Sequence[Summary], claims: Sequence[Mapping[str, Any]], level: float
) -> list[tuple[str, Verdict]]:
    """The claims that set one method against another, at each number of images: the mean difference over replicates.

    Args:
        names: The setting of each job.
        summaries: Of the jobs.
        claims: Those with ``against`` are looked at.
        level: Of intervals over replicates.
    """
    values: dict[tuple[str, str, int], dict[int, Summary]] = {}
    for name, summary in zip(names, summaries, strict=True):
        place = values.setdefault((name, summary["repair"], summary["images"]), {})
        place[summary["replicate"]] = summary
    found = []
    for claim in (claim for claim in claims if "against" in claim):
        metric, _, statistic = claim["quantity"].partition(".")
        for name, repair, images in values:
            other = values.get((name, claim["against"], images))
            if repair != claim["repair"] or other is None:
                continue
            mine = values[name, repair, images]
            pairs = [(mine[r], other[r]) for r in sorted(mine.keys() & other.keys()) if metric in mine[r]["metrics"]]
            if not pairs:
                continue
            differences = [
                first["metrics"][metric][statistic] - second["metrics"][metric][statistic] for first, second in pairs
            ]
            spread = over_replicates(differences, level)
            doubts = [
                Doubt(doubt["end"], f"replicate {one['replicate']}: {doubt['reason']}", doubt["about"])
                for pair in pairs
                for one in pair
                for doubt in one["doubts"]
            ]
            statistics = {statistic: spread["mean"], f"{statistic}_se": spread["se"]}
            verdict = judge(claim, {metric: statistics}, over="replicates")
            if verdict is not None:
                text = f"{repair} less {claim['against']}: {verdict.statement}"
                verdict = questioned(verdict, doubts, KINDS.get(metric, ()), statistic)
                found.append((f"{name}, N = {images}", replace(verdict, statement=text)))
    return found
