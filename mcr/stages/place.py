"""Stand at the places of a grid: what a network there has that the control points do not say."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

from mcr.errors import InputError
from mcr.evaluation.measured import PLACES
from mcr.progress import bar
from mcr.stages import session
from mcr.stages.artifacts import STATISTICS
from mcr.stages.context import Context
from mcr.store import jsonfile
from mcr.store.stage import Stage
from mcr.weightspace import files, locus
from mcr.weightspace.subspace import Subspace
from mcr.weightspace.survey import Survey


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """BatchNorm's statistics at every place, kilobytes; where it lies, and how far from each end."""
    config = stage.config
    space = session.subspace(config, inputs, inputs["subspace"], context)
    places = locus.places(space.curve, config["at"], "evaluation.grid")
    with bar(stage.label, len(places), "places") as progress:
        found = Survey.of(space, places, config["ends"], progress.reach)
    write(stage.label, space, found, folder)


def write(label: str, space: Subspace, found: Survey, folder: Path) -> None:
    """Places and statistics as files.

    Raises:
        InputError: For a place that is infinitely far.
    """
    for at, row in zip(found.places.tolist(), found.rows, strict=True):
        for name, value in row.items():
            if not isfinite(value):
                raise InputError(f"{label}: {name} is {value} at {at}: the fit diverged; lower the learning rate")
    named = {f"{index}/{name}": value for index, one in enumerate(found.statistics) for name, value in one.items()}
    files.save(named, folder / STATISTICS)
    written = {
        "coordinates": locus.coordinates(space.curve.dim),
        "places": found.places.tolist(),
        "shares": found.shares(space),
        "rows": found.rows,
    }
    jsonfile.write(folder / PLACES, written)
