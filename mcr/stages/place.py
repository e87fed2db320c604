"""Stand at the places of a grid: what a network there has that the control points do not say."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mcr.progress import bar
from mcr.stages import session
from mcr.stages.artifacts import PLACES, STATISTICS, write_json
from mcr.stages.context import Context
from mcr.store import Stage
from mcr.weightspace import files, locus
from mcr.weightspace.subspace import shares_of_ends


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """BatchNorm's statistics at every place, kilobytes; where it lies, and how far from each end.

    One estimate serves every question that is asked there, and a repair, so that one theta(u) is one network.
    """
    config = stage.config
    space = session.subspace(config, inputs, inputs["subspace"], context)
    places = locus.places(space.curve, config["at"], "evaluation.grid")
    names = locus.coordinates(space.curve.dim)
    ends = [space.layout.pack(state).to(space.points[0].device) for state in space.ends]
    statistics: dict[str, Tensor] = {}
    rows: list[dict[str, float]] = []
    arc, before = 0.0, None
    with bar(stage.label, len(places), "places") as progress:
        for index, u in enumerate(places):
            space.at(u)
            statistics |= {f"{index}/{name}": value for name, value in space.statistics().items()}
            assert space.model is not None
            theta = space.model.theta
            row = dict(zip(names, u.tolist(), strict=True))
            if len(names) == 1:
                arc += 0.0 if before is None else float(torch.dist(theta, before))
                row["arc_length"] = arc
            distances = {
                f"distance_to_{name}": float(torch.dist(theta, end))
                for name, end in zip(config["ends"], ends, strict=True)
            }
            rows.append(row | distances)
            before = theta
            progress.reach(index + 1)
    files.save(statistics, folder / STATISTICS)
    shares = [shares_of_ends(space.curve, u).tolist() for u in places]
    write_json(folder / PLACES, {"coordinates": names, "places": places.tolist(), "shares": shares, "rows": rows})
