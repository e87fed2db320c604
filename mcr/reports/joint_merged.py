"""Merged networks of several jobs: means over replicates. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcr.evaluation.summary import over_replicates
from mcr.evaluation.table import markdown
from mcr.reports.merged import COLUMNS, EXPLANATION
from mcr.text import markdown_cell

Numbers = Mapping[str, Mapping[str, float]]
# Of each column the number, what it is multiplied by, and its format.
SHOWN = {
    "accuracy %": ("accuracy", 100, ".1f"),
    "gain": ("gain", 100, "+.1f"),
    "NLL": ("nll", 1, ".3f"),
    "ECE %": ("ece", 100, ".1f"),
    "differ %": ("disagreement", 100, ".1f"),
    "robust %": ("robust_accuracy", 100, ".1f"),
}


def joint_section(found: Mapping[str, Sequence[Numbers]], level: float) -> str:
    """Of each group of replicates one row a merge: the mean, and half of its interval over replicates (Student).

    Args:
        found: Name of a group to the numbers of each of its jobs, merge by merge; nothing of jobs that merge nothing.
        level: Of the intervals.
    """
    rows = [
        [group, merge, f"{jobs[0][merge]['members']:.0f}", *(_cell(jobs, merge, column, level) for column in SHOWN)]
        for group, jobs in found.items()
        for merge in (jobs[0] if jobs else ())
        if all(merge in job for job in jobs)
    ]
    if not rows:
        return ""
    path = 0 if len(found) > 1 else 1  # a single group needs no name in each row
    counts = ", ".join(sorted({f"{len(jobs)}" for jobs in found.values() if jobs}))
    said = f"Means over replicates ({counts} of each), ± half of the interval of level {level:g} over replicates."
    notes = "\n\n".join(map(markdown_cell, (said, EXPLANATION)))
    return f"## Merged networks\n\n{markdown(('path', *COLUMNS)[path:], [row[path:] for row in rows])}\n\n{notes}\n"


def _cell(jobs: Sequence[Numbers], merge: str, column: str, level: float) -> str:
    name, scale, form = SHOWN[column]
    values = [scale * job[merge][name] for job in jobs if name in job[merge]]
    if len(values) < len(jobs) or (name == "disagreement" and jobs[0][merge]["members"] == 1):
        return ""
    spread = over_replicates(values, level)
    half = f" ± {spread['high'] - spread['mean']:{form.lstrip('+')}}" if len(values) > 1 else ""
    return f"{spread['mean']:{form}}{half}"
