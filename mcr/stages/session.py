"""What stages build from the folders of their inputs: networks, images, subspaces and their control points."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcr.architectures.normalization import Normalized
from mcr.curves.curve import Curve
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import augmented_batches
from mcr.evaluation.measured import PLACES
from mcr.stages import model
from mcr.stages.artifacts import CONTROL, PREFIX, STATISTICS, read_material, read_network, read_spec, read_split
from mcr.stages.context import Context
from mcr.store.build import build
from mcr.types import LabelledImages
from mcr.weightspace import files
from mcr.weightspace.layout import Layout
from mcr.weightspace.subspace import Subspace, inner_points
from mcr.weightspace.transform import Transform

Inputs = Mapping[str, Path]
EDGE = "edge "  # the roles of the curves fitted at the edges of a surface
END = "end "  # the roles of the joined networks are "end 0", "end 1", ...


def network(config: Mapping[str, Any], inputs: Inputs, context: Context, seed: str, memory_format: str) -> Normalized:
    """The network of a configuration on the run's device, with weights drawn from a seed."""
    made = model.make(config, read_spec(inputs["data"]), seed).to(context.device_name)
    made.to(memory_format=context.memory_format(memory_format))
    return made


def transforms(config: Mapping[str, Any]) -> list[Transform]:
    """What is done to theta after blending; an empty mapping is nothing."""
    return [build(config["transform"])] if config["transform"] else []


def ends(inputs: Inputs) -> list[dict[str, Tensor]]:
    """The state dicts, on the CPU, of the networks that a subspace joins."""
    return [read_network(inputs[role]) for role in end_roles(inputs)]


def end_roles(inputs: Inputs) -> list[str]:
    """The roles of the networks that a subspace joins, "end 0", "end 1", ... in this order."""
    return sorted((role for role in inputs if role.startswith(END)), key=lambda role: int(role.removeprefix(END)))


def calibration(config: Mapping[str, Any], inputs: Inputs, context: Context) -> Callable[[], Iterator[Tensor]]:
    """Gives the images that estimate BatchNorm, in batches (B, D, H, W), anew and the same whenever it is called.

    They are augmented as in training, and nothing is stamped on them.

    Args:
        config: ``material``, ``augmentation``, ``memory_format``, and of ``batchnorm`` the number of ``images``, the
            ``batch_size``, and the ``seed`` of the augmentation.
    """
    part = config["batchnorm"]
    images = images_to_fit_on(config, inputs, context, part["images"]).images
    augmentation = Augmentation(**config["augmentation"])
    return partial(augmented_batches, images, augmentation, part["batch_size"], config["memory_format"], part["seed"])


def subspace(
    config: Mapping[str, Any], inputs: Inputs, fitted: Path, context: Context, reuse: Normalized | None = None
) -> Subspace:
    """A fitted subspace on the run's device, whose threads and float32 mode are set (``Context.prepare``).

    Args:
        config: Of a ``place`` stage.
        inputs: Folders of data, split and the ends.
        fitted: Folder of the fitted control points.
        context: Names the device.
        reuse: A network of this architecture, on the device and in the memory format, which is overwritten; else a new
            one is made.
    """
    context.prepare()
    curve: Curve = build(config["curve"])
    # All its weights are overwritten: the seed does not matter.
    moved = reuse or network(config, inputs, context, "evaluation", config["memory_format"])
    precision = config["batchnorm"]["precision"]
    images = calibration(config, inputs, context)
    found = Subspace(moved, curve, ends(inputs), images, config["memory_format"], precision, transforms(config))
    found.set_inner_points(read_control(fitted, inner_points(curve), found.layout))
    return found


def read_places(folder: Path) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """The places of a ``place`` stage, float64 (T, dim), and BatchNorm's statistics at each."""
    places = torch.tensor(json.loads((folder / PLACES).read_text(encoding="utf-8"))["places"], dtype=torch.float64)
    statistics: list[dict[str, Tensor]] = [{} for _ in places]
    for name, tensor in files.load(folder / STATISTICS).items():
        index, buffer = name.split("/", 1)
        statistics[int(index)][buffer] = tensor
    return places, statistics


def images_to_fit_on(
    config: Mapping[str, Any], inputs: Inputs, context: Context, limit: int | str, device: str = ""
) -> LabelledImages:
    """The images that something is fitted on, in their recorded order, without held-out ones and without triggers.

    Args:
        config: ``material``.
        inputs: Folders of data and split.
        context: Names the device.
        limit: How many of the first, or "all".
        device: Another one than the run's.
    """
    material, device = config["material"], device or context.device_name
    if material["images"] == "all" and not material["held_out"]:
        # Of a whole split no more than these go to the device.
        return read_split(dict(inputs), material["split"], device, limit)
    part, _ = read_material(dict(inputs), material, device)
    most = None if limit == "all" else int(limit)
    return LabelledImages(part.images[:most], part.labels[:most])


def edges(inputs: Inputs, curve: Curve, ends: Sequence[Tensor], layout: Layout) -> list[list[Tensor]]:
    """The control points (P,) of the fitted curves at a domain's edges, as ``Start.points`` takes them."""
    corners = [tuple(corner.tolist()) for corner in curve.grid(2)]
    found = []
    for number, (first, last) in enumerate(curve.edges()):
        one, other = (ends[corners.index(tuple(corner.tolist()))] for corner in (first, last))
        folder = inputs.get(f"{EDGE}{number}")  # none of a straight edge
        count = len({name.split("/", 1)[0] for name in files.load(folder / CONTROL)}) if folder else 0
        inner = read_control(folder, range(1, 1 + count), layout) if folder else []
        found.append([one, *inner, other])
    return found


def write_control(points: Sequence[Tensor], free: Sequence[int], layout: Layout, folder: Path) -> None:
    """Of all control points (P,) those that were fitted, by index and parameter name ("1/features.0.weight")."""
    named = {
        f"{index}/{name.removeprefix(PREFIX)}": view
        for index in free
        for name, view in layout.views(points[index].cpu()).items()
    }
    files.save(named, folder / CONTROL)


def read_control(folder: Path, free: Sequence[int], layout: Layout) -> list[Tensor]:
    """The control points of some indices, each (P,)."""
    found: dict[str, dict[str, Tensor]] = {str(index): {} for index in free}
    for name, tensor in files.load(folder / CONTROL).items():
        index, parameter = name.split("/", 1)
        if index in found:  # a path with free ends has written these too; they come as the networks "end 0", ...
            found[index][PREFIX + parameter] = tensor
    return [layout.pack(named) for named in found.values()]
