"""What was measured at the places of subspaces and of merges, from the folders of a report's needs. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcr.evaluation.measured import PLACES, Measure
from mcr.reports.merged import ANSWER, Merged
from mcr.store import jsonfile
from mcr.store.stage import Stage

MERGED = "merged "  # before a merge's name in the roles of its measures


def answers(stage: Stage, inputs: Mapping[str, Path], name: str) -> dict[str, Measure]:
    """Probe to what it measured, of what stands under one name in a report's needs.

    Args:
        stage: The report's.
        inputs: Role to folder.
        name: Of a subspace, or of a merge.
    """
    found = {}
    for role, need in stage.needs.items():
        if role.startswith(f"{name}/"):
            ends = tuple(need.needs["place"].config["ends"])
            found[role.split("/", 1)[1]] = Measure.read(inputs[role], _folder(inputs, need), ends, need.config["data"])
    return found


def merges(stage: Stage, inputs: Mapping[str, Path]) -> list[Merged]:
    """The merged networks, in the order of the configuration."""
    names = dict.fromkeys(role.partition("/")[0] for role in stage.needs if role.startswith(MERGED))
    return [
        Merged(
            name.removeprefix(MERGED),
            answers(stage, inputs, name),
            jsonfile.read(_folder(inputs, stage.needs[f"{name}/{ANSWER}"]) / PLACES),
        )
        for name in names
    ]


def _folder(inputs: Mapping[str, Path], measure: Stage) -> Path:
    """Of the places where something was measured; a report has no need of its own of it."""
    place = measure.needs["place"]
    return next(iter(inputs.values())).parent.parent / place.name / place.key
