"""Ask one probe along a subspace."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.evaluation.measured import MEASURE, PER_IMAGE, PLACES
from mcr.probes.answers import Answers, ask, ask_together
from mcr.progress import bar
from mcr.stages import session, worst
from mcr.stages.artifacts import read_split
from mcr.stages.context import Context
from mcr.stages.injected import injected_images
from mcr.stages.spread import spread
from mcr.store import jsonfile
from mcr.store.build import build_tree
from mcr.store.stage import Stage
from mcr.weightspace import files
from mcr.weightspace.subspace import Subspace

Network = Callable[[], nn.Module]  # gives the network of a place; the next call may move it elsewhere


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Per-image values at every place and of the ends as they were given; their means, and what the metrics are.

    Raises:
        InputError: Where the mean of a single network is no finite number; what several have together may be unknown.
    """
    config = stage.config
    context.prepare()
    found = json.loads((inputs["place"] / PLACES).read_text(encoding="utf-8"))
    shares = found["shares"]
    indices = worst.asked(config, shares, inputs) if config["at"] == worst.WORST else list(range(len(shares)))
    probe = build_tree(config["probe"])
    data = _data(stage, inputs, context)
    with bar(stage.label, len(indices), "places") as progress:
        if hasattr(probe, "ask"):
            asked, between = ([found[name][index] for index in indices] for name in ("places", "shares"))
            _, at = _at(stage, inputs, indices, context)
            answers = ask_together(probe, at, data, config["seed"], asked, between)
            progress.reach(len(indices))
        else:
            ends = range(len(session.end_roles(inputs)))
            work = partial(_answers, stage, inputs)
            answers = spread(work, indices, ends, context, lambda count, row: progress.reach(count, _note(row)))
    metrics = [metric.of(config["name"]) for metric in probe.metrics]
    _refuse_infinite(stage, answers, found, indices)
    named, given_named = (
        {f"{config['name']}_{name}": value for name, value in part.items()} for part in (answers.values, answers.given)
    )
    files.save(named | {f"given/{name}": value for name, value in given_named.items()}, folder / PER_IMAGE)
    jsonfile.write(
        folder / MEASURE,
        {
            "metrics": [asdict(metric) for metric in metrics],
            "indices": indices,
            "images": len(data.labels),
            "means": {name: value.double().nanmean(-1).tolist() for name, value in named.items()},
            "given": {name: value.double().mean(-1).tolist() for name, value in given_named.items()},
            "statistics": answers.statistics,
        },
    )


def _at(
    stage: Stage, inputs: dict[str, Path], indices: Sequence[int], context: Context
) -> tuple[Subspace, list[Network]]:
    """The subspace, and what gives its network at some places."""
    space = session.subspace(stage.needs["place"].config, inputs, inputs["subspace"], context)
    places, statistics = session.read_places(inputs["place"])
    at: list[Network] = [partial(space.at_with, places[index], statistics[index]) for index in indices]
    return space, at


def _answers(
    stage: Stage,
    inputs: dict[str, Path],
    indices: Sequence[int],
    ends: Sequence[int],
    context: Context,
    reached: Callable[[int, Mapping[str, Tensor]], None],
) -> Answers:
    """Of a probe that is asked of one network at a time, at some places and of some ends as they were given."""
    space, at = _at(stage, inputs, indices, context)
    given = [partial(space.end_as_given, end) for end in ends]
    probe, data = build_tree(stage.config["probe"]), _data(stage, inputs, context)
    return ask(probe, at, given, data, stage.config["seed"], reached)


def _data(stage: Stage, inputs: dict[str, Path], context: Context) -> EvaluationBatches:
    """The images that the probe is asked on, by the name that its configuration gives them."""
    config, placed = stage.config, stage.needs["place"].config
    kind, limit = config["data"], config["images"]
    if kind == "fitted":
        part = session.images_to_fit_on(placed, inputs, context, limit)
    elif kind in ("injected", "restored"):
        found = injected_images(inputs, context.device_name, kind)
        if found is None:
            raise InputError(f"{stage.label}: no image was attacked by an injection: leave the probe out")
        part = found
    else:
        part = read_split(inputs, kind, context.device_name, limit)
    return EvaluationBatches(part.images, part.labels, config["batch_size"], placed["memory_format"])


def _note(row: Mapping[str, Tensor]) -> str:
    return "  ".join(f"{name} {float(value.double().mean()):.3f}" for name, value in list(row.items())[:2])


def _refuse_infinite(stage: Stage, answers: Answers, found: Mapping[str, Any], indices: list[int]) -> None:
    """Of single networks, at the places or as they were given; what pairs of them have may be unknown, and is told."""
    single = {name: value for name, value in answers.values.items() if value.dim() == 2}
    for name, value in single.items():
        for index, mean in zip(indices, value.double().mean(1).tolist(), strict=True):
            if not isfinite(mean):
                where = dict(zip(found["coordinates"], found["places"][index], strict=True))
                at = ", ".join(f"{coordinate} = {value:g}" for coordinate, value in where.items())
                raise InputError(
                    f"{stage.label}: {name} is {mean} at {at}: the fit diverged there; lower the learning rate"
                )
    for name, value in answers.given.items():
        for end, mean in enumerate(value.double().mean(-1).tolist()):
            if not isfinite(mean):
                why = "its training diverged, or its file holds such numbers"
                raise InputError(f"{stage.label}: {name} of network {end} as it was given is {mean}: {why}")
