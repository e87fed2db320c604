"""What a report and a card know of the networks at the ends of a path: how they were made, and how well they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcr.evaluation.measured import Measured
from mcr.reports.soundness import BACKDOOR, ERRORS, End, Score
from mcr.stages.artifacts import TRAINING
from mcr.store import identity, jsonfile
from mcr.store.stage import Stage

# The one of a stage's needs that is the network, or the path, which it is made from.
BEFORE = ("init", "path")
TRAININGS = "training "  # the roles of all trainings that a report's numbers follow from


def end(name: str, stage: Stage, asked: Mapping[str, Any], classes: int, scores: tuple[Score, ...]) -> End:
    """An end of a path.

    Args:
        name: What people call it.
        stage: That makes it.
        asked: What it was asked: two ends are compared where this, too, is the same.
        classes: C.
        scores: What was measured.
    """
    recipe = identity.key({"made": _recipe(stage), "asked": asked})
    return End(name, recipe, _robust(stage), tuple(sorted(set(_planted(stage)))), classes, scores)


def scores_of(measured: Measured, needs: Mapping[str, Stage], corner: int) -> tuple[Score, ...]:
    """Accuracies at an end, clean and under attack, and how often what was planted there works.

    Args:
        measured: Of a subspace.
        needs: Probe to the stage that asked it.
        corner: The number of the end's place on the grid.
    """
    found = []
    for probe, one in measured.along.items():
        kind = about(needs[probe].config)
        for metric in one.metrics:
            values = one.values[metric.name][corner].astype(float)
            wanted = "accuracy" if kind in ("clean", "robust") else "success"
            if kind and metric.name.endswith(wanted):
                found.append(Score(kind, metric.name, float(values.mean()), len(values)))
    return tuple(found)


def about(config: Mapping[str, Any]) -> str:
    """What a probe's answers are about: "clean" or "robust" networks, BACKDOOR, ERRORS, or "" for something else."""
    probe = config["probe"]
    if "backdoor" in probe:
        return BACKDOOR
    if config["data"] in ("injected", "restored"):
        return ERRORS
    if config["data"] == "test" and "attacks" not in probe:
        return "robust" if "attack" in probe else "clean"
    return ""


def stopped(inputs: Mapping[str, Path]) -> list[str]:
    """Trainings that ended early: what they say changes every number of the report."""
    return [f"{name} ended early: {told['stopped']}" for name, told in _trainings(inputs) if told["stopped"]]


def faults(inputs: Mapping[str, Path]) -> list[str]:
    """What was found wrong with the networks when they were tried, the same for many: each once."""
    return list(dict.fromkeys(line for _, told in _trainings(inputs) for line in told["warnings"]))


def _trainings(inputs: Mapping[str, Path]) -> list[tuple[str, Any]]:
    """The label of each training, and what it told."""
    places = {role: place for role, place in inputs.items() if role.startswith(TRAININGS)}
    return [(role.removeprefix(TRAININGS), jsonfile.read(place / TRAINING)) for role, place in places.items()]


def _history(stage: Stage) -> Iterator[Stage]:
    """A network's stage and those before it, the last one first."""
    while True:
        yield stage
        before = next((stage.needs[role] for role in BEFORE if role in stage.needs), None)
        if before is None:
            return
        stage = before


def _recipe(stage: Stage) -> dict[str, Any]:
    """All that a stage follows from, without the seeds of what it and its needs draw; data and split as they are."""
    if stage.name in ("data", "split"):
        return {"key": stage.key}
    config = {name: value for name, value in stage.config.items() if name != "seed"}
    needs = {role: _recipe(need) for role, need in stage.needs.items()}
    return {"name": stage.name, "config": config, "needs": needs}


def _robust(stage: Stage) -> bool:
    """Whether its latest training was under attack."""
    for one in _history(stage):
        if "recipe" in one.config:
            return "attack" in one.config["recipe"]["objective"]
    return False


def _planted(stage: Stage) -> Iterator[str]:
    for one in _history(stage):
        if "poison" in one.needs:
            yield BACKDOOR
        # Noise aims at no image.
        if one.config.get("edit", {}).get("injection", {}).get("attacked", 0):
            yield ERRORS
