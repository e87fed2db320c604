"""Fit a path between two ends."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mcr.architectures.normalization import Normalized
from mcr.build import build
from mcr.datasets.batches import EvaluationBatches, TrainingBatches
from mcr.evaluation.table import write_csv
from mcr.stages import model
from mcr.stages.artifacts import (
    CONTROL,
    HISTORY,
    PREFIX,
    read_material,
    read_network,
    read_spec,
    read_split,
    write_network,
)
from mcr.stages.context import Context
from mcr.stages.loggers import training_loggers
from mcr.stages.train import batches, fitting, parts
from mcr.store import Stage
from mcr.training.curve import CurveModule, FreeEndsModule
from mcr.training.fit import fit
from mcr.weightspace import batchnorm, files
from mcr.weightspace.layout import Layout

WATCHED = 256  # images attacked after each epoch of a robust path


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The free control points by parameter name ("1/features.0.weight"), none for a straight line; the history.

    Where the ends are free as well, they are written too, each with the BatchNorm statistics of the training images.
    """
    config = stage.config
    if "recipe" not in config:
        files.save({}, folder / CONTROL)
        return
    recipe = config["recipe"]
    context.prepare()
    spec = read_spec(inputs["data"])
    network = model.make(config, spec, config["seed"])
    network.to(memory_format=context.memory_format(recipe))
    layout = Layout.of(network, recipe["memory_format"])
    start, end = (layout.pack(read_network(inputs[role])) for role in ("start", "end"))
    device = context.training_data_device
    if "material" in config:
        train, _ = read_material(inputs, config["material"], device)
    else:
        train = read_split(inputs, recipe["split"], device)
    training = batches(config, train, inputs)
    kind = FreeEndsModule if "free_ends" in config else CurveModule
    module = kind(
        curve=build(config["curve"]),
        layout=layout,
        ends=(start, end),
        weight_decay=recipe["weight_decay"],
        ema_decay=recipe.get("ema_decay", 0.0),
        network=network,
        num_classes=len(spec.classes),
        seed=config["seed"],
        **parts(recipe),
    )
    with training_loggers(stage, context) as loggers:
        arguments = fitting(recipe, context)
        watched = _watched(config, inputs, context) if module.objective.attacks else None
        rows = fit(module, training, watched, folder, label=stage.label, loggers=loggers, **arguments)
    free = {
        f"{index}/{name.removeprefix(PREFIX)}": view
        for index, point in enumerate(module.fitted()[1:-1], start=1)
        for name, view in layout.views(point.cpu()).items()
    }
    files.save(free, folder / CONTROL)
    if isinstance(module, FreeEndsModule):
        _write_ends(module, network, training, folder)
    write_csv(folder / HISTORY, rows)
    shutil.rmtree(folder / "checkpoints")


def _watched(config: Mapping[str, Any], inputs: dict[str, Path], context: Context) -> EvaluationBatches:
    """The images on which a robust path is watched; with the defender's own images where a path is fitted on these."""
    recipe, device = config["recipe"], context.training_data_device
    if "material" in config:
        part, _ = read_material(inputs, config["material"], device)
    else:
        part = read_split(inputs, "validation", device)
    images, labels = part.images[:WATCHED], part.labels[:WATCHED]
    return EvaluationBatches(images, labels, recipe["batch_size"], recipe["memory_format"])


def _write_ends(module: FreeEndsModule, network: Normalized, training: TrainingBatches, folder: Path) -> None:
    network.cpu()
    # The epoch at which a training ended, or was taken up again, must not change the statistics.
    training.set_epoch(0)
    for role, point in (("start", module.fitted()[0]), ("end", module.fitted()[-1])):
        network.load_state_dict(module.layout.views(point.cpu()), strict=False)
        batchnorm.refresh(network, (images.cpu() for images, _ in training))
        write_network(network, folder, f"{role}.safetensors")


def read_control(folder: Path, count: int, layout: Layout) -> list[Tensor]:
    """The free control points of a path with ``count`` control points, each (P,)."""
    free: dict[str, dict[str, Tensor]] = {str(index): {} for index in range(1, count - 1)}
    for name, tensor in files.load(folder / CONTROL).items():
        index, parameter = name.split("/", 1)
        free[index][PREFIX + parameter] = tensor
    return [layout.pack(named) for named in free.values()]
