"""What was measured of networks, read from the folders of a report's needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mcr.evaluation.measured import Measure
from mcr.reports.merged import Merged
from mcr.stages.artifacts import PICK
from mcr.store import jsonfile
from mcr.store.stage import Stage

MERGE = "merge/"  # the roles of what was asked of merged networks are "merge/NAME/PROBE"


def measures(stage: Stage, inputs: Mapping[str, Path], name: str) -> dict[str, Measure]:
    """Probe to its answers, of what stands under "name/PROBE" among the needs."""
    found = {}
    for role, need in stage.needs.items():
        if role.startswith(f"{name}/"):
            place = need.needs["place"]
            folder = inputs[role].parent.parent / place.name / place.key
            found[role.removeprefix(f"{name}/")] = Measure.read(
                inputs[role], folder, tuple(place.config["ends"]), need.config["data"]
            )
    return found


def merges(stage: Stage, inputs: Mapping[str, Path]) -> list[Merged]:
    """The merged networks, the best single one first; none where no merge was asked for."""
    found = []
    for name, label in (stage.config.get("merges") or {"labels": {}})["labels"].items():
        asked = measures(stage, inputs, f"{MERGE}{name}")
        role, need = next((role, need) for role, need in stage.needs.items() if role.startswith(f"{MERGE}{name}/"))
        pick = need.needs["place"]
        picked = jsonfile.read(inputs[role].parent.parent / pick.name / pick.key / PICK)
        found.append(Merged(name, label, asked, picked))
    return found
