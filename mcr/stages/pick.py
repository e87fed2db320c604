"""Choose places of a subspace on validation images, and stand there: what a merge is, before it is tested."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mcr.datasets.batches import EvaluationBatches
from mcr.merges.judge import Judge, Score
from mcr.numerics.precision import autocast
from mcr.probes.risk import risk
from mcr.progress import bar
from mcr.stages import session
from mcr.stages.artifacts import PICK, read_split
from mcr.stages.context import Context
from mcr.stages.place import write
from mcr.store import jsonfile
from mcr.store.build import build
from mcr.store.stage import Stage
from mcr.weightspace.survey import Survey


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The same files as of a ``place`` stage, for the places that the rule picks, and the scores of all candidates."""
    config = stage.config
    space = session.subspace(config, inputs, inputs["subspace"], context)
    part = read_split(inputs, config["data"], context.device_name, config["images"])
    data = EvaluationBatches(part.images, part.labels, config["batch_size"], config["memory_format"])
    with bar(stage.label, 1, "choice") as progress:

        def look(u: Tensor) -> Score:
            network = space.at(u)
            with autocast(config["batchnorm"]["precision"], data.images.device):
                losses, hits = risk(network, data)
            return Score(float(hits.double().mean()), float(losses.double().mean()))

        judge = Judge(space.curve, look)
        picked = torch.stack(list(build(config["merge"]).pick(judge)))
        progress.reach(1, f"{len(picked)} of {len(judge.tried)} tried" if judge.tried else f"{len(picked)} places")
        found = Survey.of(space, picked, config["ends"], lambda count: None)
    write(stage.label, space, found, folder)
    tried = [{"place": place.tolist(), **score._asdict()} for place, score in judge.tried]
    jsonfile.write(folder / PICK, {"tried": tried, "data": config["data"], "images": len(data.labels)})
