"""Pick places of a subspace by a rule that knows validation images alone; then stand there, as ``place`` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mcr.curves.curve import Curve
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.merges.merge import Judge, Merge
from mcr.probes.risk import risk
from mcr.progress import bar
from mcr.stages import session
from mcr.stages.artifacts import read_split
from mcr.stages.context import Context
from mcr.stages.place import write
from mcr.store.build import build
from mcr.store.stage import Stage
from mcr.weightspace.subspace import Subspace, shares_of_ends
from mcr.weightspace.survey import Survey


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The picked places with BatchNorm's statistics, and what validation images said of every place that was tried.

    Raises:
        InputError: Where there is no validation image.
    """
    config = stage.config
    context.prepare()
    space = session.subspace(config, inputs, inputs["subspace"], context)
    part = read_split(inputs, "validation", context.device_name)
    if not len(part.labels):
        raise InputError(f"{stage.label}: there is no validation image to pick by: dataset.split.validation=500")
    batches = EvaluationBatches(part.images, part.labels, config["batch_size"], config["memory_format"])
    tried: dict[tuple[float, ...], tuple[float, float]] = {}
    rule: Merge = build(config["merge"])
    with bar(stage.label, 1, "pick") as progress:
        picked = rule(Judge(space.curve, corners(space.curve), _asked(space, batches, tried)))
        found = Survey.of(space, torch.stack(list(picked)), config["ends"], lambda count: None)
        progress.reach(1, f"{len(picked)} of {max(len(tried), len(picked))} places")
    said = [{"place": list(u), "loss": loss, "accuracy": accuracy} for u, (loss, accuracy) in tried.items()]
    write(stage.label, space, found, folder, {"tried": said, "images": len(part.labels)})


def corners(curve: Curve) -> Tensor:
    """Where the networks of a curve lie, in their order: float64 (N, dim)."""
    places = curve.grid(2)
    shares = torch.stack([shares_of_ends(curve, u) for u in places])
    return places[shares.argmax(0)]


def _asked(
    space: Subspace, batches: EvaluationBatches, tried: dict[tuple[float, ...], tuple[float, float]]
) -> Callable[[Tensor], tuple[float, float]]:
    """Mean loss and accuracy of the network at a place, each place once."""

    def ask(u: Tensor) -> tuple[float, float]:
        key = tuple(u.tolist())
        if key not in tried:
            losses, hits = risk(space.at(u), batches)
            tried[key] = (float(losses.double().mean()), float(hits.double().mean()))
        return tried[key]

    return ask
