"""Train an endpoint."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mcr.backdoors.planting import Planting
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, RepeatedBatches, StampedBatches, TrainingBatches
from mcr.errors import InputError
from mcr.evaluation.table import write_csv
from mcr.loggers.training import training_loggers
from mcr.stages import model, session, trial
from mcr.stages.artifacts import (
    EDIT,
    HISTORY,
    TRAINING,
    read_edits,
    read_material,
    read_network,
    read_poison,
    read_spec,
    read_split,
    write_network,
)
from mcr.stages.context import Context
from mcr.store import jsonfile
from mcr.store.build import build, build_tree
from mcr.store.stage import Stage
from mcr.training.fit import fit
from mcr.types import LabelledImages
from mcr.weightspace.states import load_state


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The network's weights and its history: from fresh weights, or from those of another stage.

    An endpoint is trained on the train split, with its poison where the plan says so, and watched on the validation
    split; trusted images of the clean split are added to it, or shown to what trains. A defender's network is trained
    and watched on parts of the clean images.

    Raises:
        InputError: For a training that diverged or learned nothing.
    """
    config, recipe = stage.config, stage.config["recipe"]
    context.prepare()
    spec = read_spec(inputs["data"])
    network = model.make(config, spec, config["seed"])
    network.to(memory_format=context.memory_format(recipe["memory_format"]))
    if "init" in inputs:
        load_state(network, read_network(inputs["init"]))
    name = config["architecture"]["_target_"]
    trial.refuse_untrainable(network, spec, name)
    device = context.training_data_device
    train = session.images_to_fit_on(config, inputs, context, "all", device)
    if config["material"]["held_out"]:
        _, validation = read_material(inputs, config["material"], device)
    else:  # a defender who holds nothing out has no other images to be watched on
        validation = read_split(inputs, "validation", device) if config["material"]["split"] == "train" else train
    watched = EvaluationBatches(validation.images, validation.labels, recipe["batch_size"], recipe["memory_format"])
    trusted = read_material(inputs, config["trusted"], device)[0] if "trusted" in config else None
    if trusted and config["trusted"]["shown"] == "added":
        pairs = ((train.images, trusted.images), (train.labels, trusted.labels))
        train, trusted = LabelledImages(*map(torch.cat, pairs)), None
    module = build_tree(
        recipe["module"],
        network=network,
        num_classes=len(spec.classes),
        seed=config["seed"],
        **_suspects(network, inputs),
        **({"trusted": trusted} if trusted else {}),
        **parts(recipe),
    )
    shown = batches(config, train, inputs)
    steps = None if "init" in inputs else len(shown) * epochs(recipe)[0]
    warnings = trial.warned(network, spec, name, stage.label, steps)
    with training_loggers(stage, context.place) as loggers:
        fitted = fit(
            module,
            shown,
            watched,
            folder,
            label=stage.label,
            loggers=loggers,
            **fitting(recipe, context),
        )
    rows = fitted.rows
    kept = max(rows, key=lambda row: row[module.monitor]) if recipe["keep"] == "best" else rows[-1]
    accuracy, least = kept["validation/accuracy"], recipe["min_accuracy_over_chance"]
    if accuracy < least / len(spec.classes):
        raise InputError(
            f"{stage.label} learned nothing: validation accuracy {accuracy:.3f} is below {least} x chance; lower "
            "optimizer.lr or train longer; training.min_accuracy_over_chance=0 trains anew and accepts any network"
        )
    write_network(module.scored, folder)
    write_csv(folder / HISTORY, rows)
    for name, table in module.tables(shown).items():
        write_csv(folder / name, table)
    jsonfile.write(folder / TRAINING, {"stopped": fitted.stopped, "warnings": warnings})
    if "init" in inputs:
        jsonfile.write(folder / EDIT, read_edits(inputs["init"]))
    shutil.rmtree(folder / "checkpoints")


def _suspects(network: nn.Module, inputs: Mapping[str, Path]) -> dict[str, list[nn.Module]]:
    """The given networks, where the plan shows them to the training: what a repair has to get away from."""
    found = []
    for role in session.end_roles(inputs):
        suspect = copy.deepcopy(network)
        load_state(suspect, read_network(inputs[role]))
        found.append(suspect.eval())
    return {"suspects": found} if found else {}


def batches(config: Mapping[str, Any], part: LabelledImages, inputs: dict[str, Path]) -> TrainingBatches:
    """Training batches of a part, as a stage's configuration says; poisoned where the stage needs a poison."""
    recipe = config["recipe"]
    order = (recipe["batch_size"], Augmentation(**config["augmentation"]), recipe["memory_format"], config["seed"])
    if "poison" in inputs:
        return poisoned_batches(part, inputs["poison"], order)
    if "steps" in recipe:
        return RepeatedBatches(epochs(recipe)[1], part.images, part.labels, *order)
    return TrainingBatches(part.images, part.labels, *order)


def poisoned_batches(train: LabelledImages, folder: Path, order: tuple[Any, ...]) -> TrainingBatches:
    """Batches of the train split with the poison of a ``poison`` stage: triggers stamped, labels exchanged."""
    poison = read_poison(folder)
    labels = train.labels.clone()
    chosen = poison.indices.to(labels.device)
    labels[chosen] = poison.labels.to(labels.device)
    none = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    stamped, covers = none.index_fill(0, chosen, True), none.index_fill(0, chosen[len(chosen) - poison.covers :], True)
    pieces = poison.pieces
    if pieces is not None:
        pieces = pieces.new_zeros(len(labels), *pieces.shape[1:]).index_copy(0, poison.indices, pieces)
    plant = Planting(poison.backdoor, covers if poison.covers else None, pieces)
    if poison.stamp == "before":
        images = train.images.clone()
        images[chosen] = plant(images[chosen], chosen)
        return TrainingBatches(images, labels, *order)
    return StampedBatches(plant, stamped, train.images, labels, *order)


def epochs(recipe: Mapping[str, Any]) -> tuple[int, int]:
    """Epochs, and steps of each where the budget is given in steps (0 where it is given in epochs)."""
    if "epochs" in recipe:
        return recipe["epochs"], 0
    count = -(-recipe["steps"] // recipe["steps_per_epoch"])
    return count, -(-recipe["steps"] // count)


def parts(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Objective, optimizer and schedule of a recipe."""
    objective = dict(recipe["objective"])
    attack = {"attack": build(objective.pop("attack"))} if "attack" in objective else {}
    return {
        "objective": build(objective, **attack),
        "optimizer": build(recipe["optimizer"]),
        "schedule": build(recipe["schedule"]),
    }


def fitting(recipe: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """The arguments of ``fit`` that a recipe and its surroundings give."""
    length = epochs(recipe)[0]
    return {
        "epochs": length,
        "stop": recipe.get("stop", length),
        "precision": recipe["precision"],
        "keep": recipe["keep"],
        "patience": recipe["patience"],
        "watch": recipe["watch"],
        "backend": recipe["compile"],
        "runtime": context.trainer(),
    }
