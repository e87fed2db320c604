"""Ask one probe along a subspace."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcr.build import build_tree
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.probes.probe import GroupProbe, Probe
from mcr.progress import bar
from mcr.seeding import generator
from mcr.stages import session
from mcr.stages.artifacts import MEASURE, PER_IMAGE, PLACES, read_split, write_json
from mcr.stages.context import Context
from mcr.stages.injected import injected_images
from mcr.store import Stage
from mcr.weightspace import files
from mcr.weightspace.subspace import Subspace


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Per-image values at every place and of the ends as they were given; their means, and what the metrics are.

    Raises:
        InputError: For a mean that is no finite number.
    """
    config, placed = stage.config, stage.needs["place"].config
    space = session.subspace(placed, inputs, inputs["subspace"], context)
    found = json.loads((inputs["place"] / PLACES).read_text())
    places, statistics = session.read_places(inputs["place"])
    indices = _asked(config, found, inputs)
    probe = build_tree(config["probe"])
    data = _data(stage, inputs, context)
    with bar(stage.label, len(indices), "places") as progress:

        def at(index: int) -> torch.nn.Module:
            return space.back_at(places[index], statistics[index])

        if hasattr(probe, "ask"):
            values, given, summed = _together(
                probe, [copy.deepcopy(at(index)) for index in indices], data, config, found, indices
            )
            progress.reach(len(indices))
        else:
            rows = []
            for count, index in enumerate(indices, start=1):
                rows.append(probe(at(index), data, _draw(probe, config)))
                progress.reach(count, _note(stage, rows[-1]))
            values = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
            given, summed = _given(probe, space, data, config), {}
    metrics = [metric.of(config["name"]) for metric in probe.metrics]
    _refuse_infinite(stage, values, found, indices)
    named = {f"{config['name']}_{name}": value for name, value in values.items()}
    files.save(named | {f"given/{config['name']}_{name}": value for name, value in given.items()}, folder / PER_IMAGE)
    write_json(
        folder / MEASURE,
        {
            "metrics": [asdict(metric) for metric in metrics],
            "indices": indices,
            "images": len(data.labels),
            "means": {name: value.double().nanmean(-1).tolist() for name, value in named.items()},
            "given": {f"{config['name']}_{name}": value.double().mean(-1).tolist() for name, value in given.items()},
            "statistics": summed,
        },
    )


def _draw(probe: Probe | GroupProbe, config: Mapping[str, Any]) -> torch.Generator:
    """The same random numbers at every place."""
    return generator(config["seed"], probe.draws)


def _given(probe: Probe, space: Subspace, data: EvaluationBatches, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The answers of the ends with their own BatchNorm statistics, (N ends, images)."""
    rows = [probe(space.given(index), data, _draw(probe, config)) for index in range(len(space.ends))]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _together(
    probe: GroupProbe,
    networks: list[torch.nn.Module],
    data: EvaluationBatches,
    config: Mapping[str, Any],
    found: Mapping[str, Any],
    indices: Sequence[int],
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float | str]]:
    values = dict(probe.ask(networks, data, _draw(probe, config)))
    where = [" ".join(f"{value:.2f}" for value in found["places"][index]) for index in indices]
    ends = [number for number, index in enumerate(indices) if 1 in found["shares"][index]]
    return values, {}, dict(probe.statistics(values, where, ends))


def _asked(config: Mapping[str, Any], found: Mapping[str, Any], inputs: Mapping[str, Path]) -> list[int]:
    """The numbers of the places that are asked: all, or the ends and the worst one inside by another measure."""
    shares = found["shares"]
    if config["at"] != WORST:
        return list(range(len(shares)))
    means = json.loads((inputs["worst"] / MEASURE).read_text())["means"][config["worst"]]
    ends = [index for index, row in enumerate(shares) if max(row) == 1]
    inner = max((index for index in range(len(shares)) if index not in ends), key=lambda index: means[index])
    return sorted({*ends, inner})


WORST = "worst"


def _data(stage: Stage, inputs: dict[str, Path], context: Context) -> EvaluationBatches:
    """The images that the probe is asked on, by the name that its configuration gives them."""
    config, placed = stage.config, stage.needs["place"].config
    kind, limit = config["data"], config["images"]
    if kind == "fitted":
        part = session.fitted_images(placed, inputs, context, limit)
    elif kind in ("injected", "restored"):
        found = injected_images(inputs, context.device_name, kind)
        if found is None:
            raise InputError(f"{stage.label}: no image was attacked by an injection: leave the probe out")
        part = found
    else:
        part = read_split(inputs, kind, context.device_name, limit)
    return EvaluationBatches(part.images, part.labels, config["batch_size"], placed["memory_format"])


def _note(stage: Stage, row: Mapping[str, Tensor]) -> str:
    return "  ".join(f"{name} {float(value.double().mean()):.3f}" for name, value in list(row.items())[:2])


def _refuse_infinite(stage: Stage, values: Mapping[str, Tensor], found: Mapping[str, Any], indices: list[int]) -> None:
    for name, value in values.items():
        if value.dim() == 2:
            for index, mean in zip(indices, value.double().mean(1).tolist(), strict=True):
                if mean - mean != 0:
                    where = dict(zip(found["coordinates"], found["places"][index], strict=True))
                    raise InputError(
                        f"{stage.label}: {name} is {mean} at {', '.join(f'{k} = {v:g}' for k, v in where.items())}: "
                        "the fit diverged there; lower the learning rate"
                    )
