"""Measure a path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcr.backdoors.poisoning import attackable
from mcr.build import build
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, augmented_batches
from mcr.errors import InputError
from mcr.evaluation.locus import grid
from mcr.evaluation.path import Point, Questions, walk
from mcr.evaluation.summary import as_costs, summarize
from mcr.evaluation.table import PathTable, write_csv
from mcr.progress import bar
from mcr.stages import model
from mcr.stages.artifacts import (
    ENDS,
    PER_IMAGE,
    SUMMARY,
    TABLE,
    read_material,
    read_network,
    read_spec,
    read_split,
    write_json,
)
from mcr.stages.connect import read_control
from mcr.stages.context import Context
from mcr.stages.loggers import path_logger
from mcr.stages.tamper import attacked
from mcr.store import Stage
from mcr.types import Part
from mcr.weightspace import files
from mcr.weightspace.layout import Layout

CALIBRATION_BATCH = 512  # images at a time, at most


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The table along t, the ends with their stored BatchNorm statistics, per-image values, the summary; in fp32."""
    config, part = stage.config, stage.config["evaluation"]
    context.prepare()
    curve = build(config["curve"])
    network = model.make(config, read_spec(inputs["data"]), "evaluation").to(context.device_name)
    network.to(memory_format=context.memory_format(part))
    ends = (read_network(inputs["start"]), read_network(inputs["end"]))
    layout = Layout.of(network, part["memory_format"])
    free = read_control(inputs["path"], curve.points, layout)
    points = [point.to(context.device_name) for point in (layout.pack(ends[0]), *free, layout.pack(ends[1]))]
    questions = _questions(stage, inputs, context)
    calibration = _calibration(stage, inputs, context)

    stored = []
    for state in ends:
        network.load_state_dict(state)
        stored.append(_means(questions.ask(network)))

    values = grid(part["grid"])
    found: list[Point] = []
    with bar(stage.label, len(values), "points") as progress, path_logger(stage, context) as logger:
        for point in walk(network, layout, curve, points, ends, values, questions, calibration):
            found.append(point)
            row = point.row()
            logger.point(row)
            robust = f"  robust {row['robust_loss']:.3f}" if "robust_loss" in row else ""
            progress.reach(len(found), f"t {point.t:.2f}  test loss {row['test_loss']:.3f}{robust}")
        table = PathTable(tuple(point.row() for point in found))
        per_image = {name: torch.stack([point.values[name] for point in found]) for name in found[0].values}
        summary = summarize(values, table.column("arc_length"), as_costs(per_image))
        logger.finish(table, summary)
    rows = [
        {"end": role, "batchnorm": kind, **means}
        for role, kept, refreshed in (("start", stored[0], found[0]), ("end", stored[1], found[-1]))
        for kind, means in (("stored", kept), ("refreshed", _means(refreshed.values)))
    ]
    table.write_csv(folder / TABLE)
    write_csv(folder / ENDS, rows)
    files.save(per_image, folder / PER_IMAGE)
    write_json(folder / SUMMARY, {"path_length": table.rows[-1]["arc_length"], "metrics": summary})


def _questions(stage: Stage, inputs: dict[str, Path], context: Context) -> Questions:
    config, part = stage.config, stage.config["evaluation"]

    def batches(images: Part) -> EvaluationBatches:
        return EvaluationBatches(images.images, images.labels, part["batch_size"], part["memory_format"])

    def split(name: str, limit: int | str) -> EvaluationBatches:
        return batches(read_split(inputs, name, context.device_name, limit))

    test = read_split(inputs, "test", context.device_name, part["test_images"])
    return Questions(
        train=batches(_fitted(config, inputs, context, part["train_images"])),
        test=batches(test),
        robust=split("test", part["robust_images"]),
        attack=build(part["attack"]),
        seed=part["seed"],
        hits={name: batches(images) for name, images in hits(config, inputs, test, context.device_name).items()},
    )


def hits(config: Mapping[str, Any], inputs: dict[str, Path], test: Part, device: str) -> dict[str, Part]:
    """Metric to images with the labels that would be a hit for it, as far as the tampering is known.

    Args:
        config: ``backdoor`` and ``sources`` where a trigger is known.
        inputs: Folders of the two ends, which hold what was injected, and of ``data``.
        test: Test images; those whose label is the attacker's aim already are left out.
        device: Where the images lie.
    """
    found = {}
    if "backdoor" in config:
        classes = len(read_spec(inputs["data"]).classes)
        found["attack_success"] = triggered(config, test, classes)
        # How often the attacker's label is given without any trigger: what a trigger has to beat.
        found["without_trigger"] = triggered(config, test, classes, stamped=False)
        if not len(found["attack_success"].labels):
            raise InputError("no test image is left for the attack's success: all are of the class that is aimed at")
    injected = attacked(inputs, device)
    if injected is not None:
        part, targets = injected
        found |= {"injection_success": Part(part.images, targets), "restored_accuracy": part}
    return found


def triggered(config: Mapping[str, Any], part: Part, classes: int, stamped: bool = True) -> Part:
    """The attackable images of a part, with the trigger or as they are, and the attacker's labels."""
    backdoor = build(config["backdoor"])
    aimed = backdoor.aim(part.labels, classes)
    chosen = attackable(part.labels, aimed, config["sources"])
    images = part.images[chosen]
    return Part(backdoor.stamp(images) if stamped else images, aimed[chosen])


def _fitted(config: Mapping[str, Any], inputs: dict[str, Path], context: Context, limit: int | str) -> Part:
    """The first images of those that the path was fitted on."""
    if "material" not in config:
        return read_split(inputs, config["split"], context.device_name, limit)
    part, _ = read_material(inputs, config["material"], context.device_name)
    most = None if limit == "all" else int(limit)
    return Part(part.images[:most], part.labels[:most])


def _calibration(stage: Stage, inputs: dict[str, Path], context: Context) -> Callable[[], Iterator[Tensor]]:
    """The images that re-estimate BatchNorm: the defender's own training data, augmented as in training."""
    part = stage.config["evaluation"]
    images = _fitted(stage.config, inputs, context, part["batchnorm_images"]).images
    augmentation = Augmentation(**stage.config["augmentation"])
    return partial(augmented_batches, images, augmentation, CALIBRATION_BATCH, part["memory_format"], part["seed"])


def _means(values: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(value.double().mean()) for name, value in values.items()}
