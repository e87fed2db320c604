"""What a sweep's report says of merged networks: means over replicates. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mcr.evaluation.summary import over_replicates
from mcr.evaluation.table import markdown
from mcr.reports.merged import NAME, NATS, SHARE

COMPARED = {"accuracy": SHARE, "accuracy_gain": SHARE, "robust_accuracy": SHARE, "nll": NATS, "ece": SHARE}


def replicates(groups: Sequence[str], summaries: Sequence[Mapping[str, Any]], level: float) -> list[dict[str, Any]]:
    """Over replicates, one row a group, merge and statistic: number, mean, interval (Student), extremes.

    Args:
        groups: Of each job the name of what it is a replicate of.
        summaries: Of each job.
        level: Of the intervals.
    """
    members: dict[str, list[Mapping[str, float]]] = {}
    for group, summary in zip(groups, summaries, strict=True):
        if NAME in summary["together"]:
            members.setdefault(group, []).append(summary["together"][NAME])
    return [
        {
            "path": group,
            "merge": key.partition(".")[0],
            "statistic": key.partition(".")[2],
            **over_replicates(values, level),
        }
        for group, found in members.items()
        for key in found[0]
        if not key.endswith("_se") and all(key in one for one in found)
        for values in [[one[key] for one in found]]
        if len(values) > 1 and all(value is not None for value in values)
    ]


def replicates_section(rows: Iterable[Mapping[str, Any]]) -> str:
    """Those that people compare: one row a merge, its mean and half of the interval; 80 columns wide for one path."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    counts = set()
    for row in rows:
        metric = COMPARED.get(row["statistic"])
        if metric is not None:
            sign = "+" if row["statistic"].endswith("_gain") else ""
            cell = f"{metric.text(row['mean'], sign)} ± {metric.text(row['high'] - row['mean'])}"
            found.setdefault((row["path"], row["merge"]), {})[row["statistic"]] = cell
            counts.add(row["replicates"])
    paths = {path for path, _ in found}
    lines = [
        [*([path] if len(paths) > 1 else []), merge, *(cells.get(name, "") for name in COMPARED)]
        for (path, merge), cells in found.items()
    ]
    columns = [*(["path"] if len(paths) > 1 else []), "merge", "acc %", "gain", "robust %", "NLL", "ECE %"]
    number = " or ".join(map(str, sorted(counts)))
    text = f"Means over {number} replicates, ± half of Student's interval over them, not images. All: merges.csv."
    return "## Merged networks over replicates\n\n" + markdown(columns, lines) + f"\n\n{text}\n"
