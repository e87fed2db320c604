"""What was measured at the places of subspaces, from the folders of a report's needs. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcr.evaluation.measured import Measure
from mcr.store.stage import Stage


def answers(stage: Stage, inputs: Mapping[str, Path], name: str) -> dict[str, Measure]:
    """Probe to what it measured, of what stands under one name in a report's needs.

    Args:
        stage: The report's.
        inputs: Role to folder.
        name: Of a subspace.
    """
    found = {}
    for role, need in stage.needs.items():
        if role.startswith(f"{name}/"):
            ends = tuple(need.needs["place"].config["ends"])
            found[role.split("/", 1)[1]] = Measure.read(inputs[role], _folder(inputs, need), ends, need.config["data"])
    return found


def _folder(inputs: Mapping[str, Path], measure: Stage) -> Path:
    """Of the places where something was measured; a report has no need of its own of it."""
    place = measure.needs["place"]
    return next(iter(inputs.values())).parent.parent / place.name / place.key
