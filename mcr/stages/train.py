"""Train an endpoint."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcr.build import build
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, TrainingBatches
from mcr.errors import InputError
from mcr.evaluation.table import write_csv
from mcr.stages import model
from mcr.stages.artifacts import HISTORY, read_spec, read_split, write_network
from mcr.stages.context import Context
from mcr.stages.loggers import training_loggers
from mcr.store import Stage
from mcr.training.fit import fit
from mcr.types import Part

PARTS = ("objective", "optimizer", "schedule")
# The recipe's keys that are no argument of the module.
FITTING = ("epochs", "batch_size", "precision", "memory_format", "floor", "keep", "processes", *PARTS)


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The endpoint's weights and its history. Raises InputError for a training that diverged or learned nothing."""
    config, recipe = stage.config, stage.config["recipe"]
    context.prepare()
    spec = read_spec(inputs["data"])
    network = model.make(config, spec, config["seed"])
    network.to(memory_format=context.memory_format(recipe))
    train = read_split(inputs, "train", context.training_data_device)
    validation = read_split(inputs, "validation", context.training_data_device)
    module = build(
        {name: value for name, value in recipe.items() if name not in FITTING},
        network=network,
        num_classes=len(spec.classes),
        seed=config["seed"],
        **parts(recipe),
    )
    watched = EvaluationBatches(validation.images, validation.labels, recipe["batch_size"], recipe["memory_format"])
    with training_loggers(stage, context) as loggers:
        rows = fit(
            module,
            batches(config, train),
            watched,
            folder,
            label=stage.label,
            loggers=loggers,
            **fitting(recipe, context),
        )
    kept = max(rows, key=lambda row: row[module.monitor]) if recipe["keep"] == "best" else rows[-1]
    accuracy, chance = kept["validation/accuracy"], 1 / len(spec.classes)
    if accuracy < recipe["floor"] * chance:
        raise InputError(
            f"{stage.label} learned nothing: validation accuracy {accuracy:.3f} is below {recipe['floor']} x chance; "
            "lower optimizer.lr or train longer; training.floor=0 trains anew and accepts any network"
        )
    write_network(module.scored, folder)
    write_csv(folder / HISTORY, rows)
    shutil.rmtree(folder / "checkpoints")


def batches(config: Mapping[str, Any], part: Part) -> TrainingBatches:
    """Training batches of a split, as a stage's configuration says."""
    recipe = config["recipe"]
    augmentation = Augmentation(**config["augmentation"])
    layout = (recipe["batch_size"], augmentation, recipe["memory_format"], config["seed"])
    return TrainingBatches(part.images, part.labels, *layout)


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
    return {
        "epochs": recipe["epochs"],
        "precision": recipe["precision"],
        "keep": recipe["keep"],
        "runtime": context.runtime,
    }
