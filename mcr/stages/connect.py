"""Fit the control points of a subspace through several networks."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mcr.architectures.normalization import Normalized
from mcr.curves.curve import Curve
from mcr.datasets.batches import EvaluationBatches, TrainingBatches
from mcr.evaluation.table import write_csv
from mcr.loggers.training import training_loggers
from mcr.stages import model, session, trial
from mcr.stages.artifacts import (
    CONTROL,
    HISTORY,
    TRAINING,
    read_spec,
    read_split,
    write_network,
)
from mcr.stages.context import Context
from mcr.stages.train import batches, fitting, parts
from mcr.starts.start import Material, Start
from mcr.store import jsonfile
from mcr.store.build import build, build_tree
from mcr.store.stage import Stage
from mcr.training.fit import fit
from mcr.training.subspace import SubspaceModule
from mcr.weightspace import batchnorm, files
from mcr.weightspace.layout import Layout
from mcr.weightspace.states import load_state
from mcr.weightspace.subspace import control_points


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Writes the fitted control points ("1/features.0.weight"), none where nothing is fitted, and how training went.

    Where the ends are free as well (an attacker's path), each is written as a network of its own too.
    """
    config = stage.config
    if "recipe" not in config:
        files.save({}, folder / CONTROL)
        jsonfile.write(folder / TRAINING, {"stopped": "", "warnings": []})
        return
    recipe = config["recipe"]
    context.prepare()
    spec = read_spec(inputs["data"])
    network = model.make(config, spec, config["seed"])
    warnings = trial.warned(network, spec, config["architecture"]["_target_"], stage.label)
    network.to(memory_format=context.memory_format(recipe["memory_format"]))
    layout = Layout.of(network, recipe["memory_format"])
    curve: Curve = build(config["curve"])
    clean = session.images_to_fit_on(config, inputs, context, "all", context.training_data_device)
    training = batches(config, clean, inputs)  # with the poison, where there is one
    ends = [layout.pack(state) for state in session.ends(inputs)]
    points: Iterable[Tensor] = control_points(curve, ends)
    if "start" in config:
        start: Start = build(config["start"])
        material = Material(layout, network, training, parts(recipe)["objective"], config["seed"])
        points = start.points(curve, ends, session.edges(inputs, curve, ends, layout), material)
    module = SubspaceModule(
        sampler=build_tree(recipe["sampling"]),
        places=recipe["places"],
        curve=curve,
        layout=layout,
        points=points,
        free=config["free"],
        transforms=[transform.joining(ends, layout) for transform in session.transforms(config)],
        weight_decay=recipe["weight_decay"],
        ema_decay=recipe["ema_decay"],
        network=network,
        num_classes=len(spec.classes),
        penalty=build(config["penalty"]) if "penalty" in config else None,
        seed=config["seed"],
        **parts(recipe),
    )
    with training_loggers(stage, context.place) as loggers:
        watched = _watched(config, inputs, context) if module.objective.attacks else None
        fitted = fit(module, training, watched, folder, label=stage.label, loggers=loggers, **fitting(recipe, context))
    session.write_control(module.final_points(), module.fitted, layout, folder)
    if config["free"] == "all":
        _write_ends(module, network, training, folder)
    write_csv(folder / HISTORY, fitted.rows)
    jsonfile.write(folder / TRAINING, {"stopped": fitted.stopped, "warnings": warnings})
    shutil.rmtree(folder / "checkpoints")  # kept until now, so that an interrupted stage goes on from them


def _watched(config: Mapping[str, Any], inputs: dict[str, Path], context: Context) -> EvaluationBatches:
    """The images on which a robust fit is watched: of the validation split where a whole split is fitted on.

    Who has only some images has no validation split: there they are the first of those that are fitted on.
    """
    recipe, device = config["recipe"], context.training_data_device
    if config["material"]["images"] == "all" and not config["material"]["held_out"]:
        part = read_split(inputs, "validation", device)
    else:
        part = session.images_to_fit_on(config, inputs, context, "all", device)
    images, labels = part.images[: recipe["watched_images"]], part.labels[: recipe["watched_images"]]
    return EvaluationBatches(images, labels, recipe["batch_size"], recipe["memory_format"])


def _write_ends(module: SubspaceModule, network: Normalized, training: TrainingBatches, folder: Path) -> None:
    """Each end with BatchNorm's statistics of the images that it was fitted on, augmented and stamped."""
    network.cpu()
    # The epoch at which a training ended, or was taken up again, must not change the statistics.
    training.set_epoch(0)
    points = module.final_points()
    for end, shares in enumerate(module.curve.initial().T.tolist()):
        point = points[shares.index(1)]  # the control point that is this end
        load_state(network, module.layout.views(point.cpu()), strict=False)
        batchnorm.refresh(network, (images.cpu() for images, _ in training))
        write_network(network, folder, f"end_{end}.safetensors")
