"""Fitting a network or a subspace to a user's images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, RepeatedBatches, TrainingBatches
from mcr.errors import InputError
from mcr.library.data import Data, LoaderBatches, labelled
from mcr.library.options import composed, section, word
from mcr.library.subspace import AS_THEY_ARE, Subspace
from mcr.objectives.objective import Objective
from mcr.plans import recipes
from mcr.schedules.schedule import Schedule
from mcr.stages.declared import NetworkTraining, SubspaceTraining, validate
from mcr.stages.train import epochs, parts
from mcr.store.build import build, build_tree
from mcr.training.endpoint import EndpointModule
from mcr.training.fit import Fitted
from mcr.training.fit import fit as train
from mcr.training.subspace import SubspaceModule
from mcr.types import LabelledImages
from mcr.weightspace.subspace import free_points

Optimizer = Callable[..., torch.optim.Optimizer]
ROOT = "default"  # the option that conf/config.yaml chooses


def fit(
    what: nn.Module | Subspace,
    data: Data,
    *,
    objective: str | Objective = ROOT,
    optimizer: str | Optimizer = ROOT,
    schedule: str | Schedule = ROOT,
    validation: Data | None = None,
    augmentation: Augmentation = AS_THEY_ARE,
    seed: int | str = 0,
    **settings: Any,
) -> Fitted:
    """Train a network, or move the free control points of a subspace so that the objective is low all over it.

    Works in place. An adversarially trained network and a robust path are one objective given to two things.

    Args:
        what: A network that takes images in [0, 1], or a subspace.
        data: Training images. Tensors and data sets are shuffled and augmented here, the same for the same seed; a
            ``DataLoader`` keeps its own order, batch size and augmentation, and with them its own randomness.
        objective: Name of an option ("cross_entropy", "adversarial", "trades", ...) or an object.
        optimizer: Likewise ("sgd", "adamw"), or a function of the parameters.
        schedule: Likewise, of the learning rate.
        validation: Images that are looked at after each epoch; needed where the best epoch is kept, as under an attack.
        augmentation: Of the training images.
        seed: Of everything that is drawn.
        **settings: ``lr`` of a named optimizer; ``steps`` instead of ``epochs``; and those of the section ``training``
            or, for a subspace, ``fit``: epochs, batch_size, weight_decay, keep, patience, precision, ...

    Returns:
        One row of metrics an epoch, and why it ended early, if it did.

    Raises:
        InputError: For a wrong setting, data that do not fit the network, or a training that diverged.
    """
    space = what if isinstance(what, Subspace) else None
    network = space.network if space else what
    if not isinstance(network, nn.Module):
        raise InputError(f"a network or a subspace is fitted, no {type(what).__name__}")
    recipe = _recipe(space, objective, optimizer, schedule, settings)
    made = parts(recipe) | {
        name: given
        for name, given in (("objective", objective), ("optimizer", optimizer), ("schedule", schedule))
        if not isinstance(given, str)
    }
    loader = data if isinstance(data, DataLoader) else None
    with torch.random.fork_rng(devices=[]):  # a loader draws from the global generator when it begins
        part = LabelledImages(*next(iter(loader))) if loader is not None else labelled(data)
    device = next(network.parameters()).device
    count = _classes(network, part, device)
    common = {"num_classes": count, "seed": str(seed), **made}
    network.train()  # Lightning leaves a network as it finds it, and one that was measured is in evaluation mode
    module = _module(what, recipe, common)
    if module.monitor.endswith("robust_accuracy") and validation is None and recipe["keep"] == "best":
        raise InputError("the epoch with the best robust validation accuracy is kept: give validation=, or keep='last'")
    batches: LoaderBatches | TrainingBatches
    if loader is not None:
        batches = LoaderBatches(loader, recipe["memory_format"])
    else:
        batches = _batches(recipe, part.images.to(device), part.labels.to(device), augmentation, seed)
    watched = None if validation is None else _watched(recipe, labelled(validation), device)
    length = epochs(recipe)[0]
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        fitted = train(
            module,
            batches,
            watched,
            Path(folder),
            label="subspace" if space else "network",
            epochs=length,
            stop=length,
            precision=recipe["precision"],
            keep=recipe["keep"],
            patience=recipe["patience"],
            watch=recipe["watch"],
            backend="none",
            runtime=_runtime(device),
            loggers=[],
        )
    network.to(device)
    if isinstance(module, SubspaceModule):
        points = module.final_points()
        assert space is not None
        space.take([points[index] for index in module.free])
    else:
        network.load_state_dict(module.scored.state_dict())
        network.eval()
    return fitted


def _recipe(
    space: Subspace | None, objective: str | Objective, optimizer: object, schedule: object, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """All that a training needs, in the form of the command line's recipes."""
    named = {"objective": objective, "optimizer": optimizer, "schedule": schedule}
    words = [word(group, name) for group, name in named.items() if isinstance(name, str) and name != ROOT]
    settings = dict(settings)
    if "lr" in settings:
        if not isinstance(optimizer, str):
            raise InputError("lr= is for a named optimizer: an object has its own")
        words.append(word("optimizer.lr", settings.pop("lr")))
    config = composed(*words)
    if space is not None:
        # Its points lie in memory in an order that is settled.
        known = recipes.without(config["fit"], "split", "images", "memory_format")
    else:
        made = build_tree(recipes.attacked(config, config["objective"])) if isinstance(objective, str) else objective
        kind = "adversarial" if made.attacks else "standard"
        end = composed(*words, f"endpoint@endpoints.start={kind}")["endpoints"]["start"]
        known = {"steps": 0} | recipes.without(
            end, "source", "label", "images", "edits", "objective", "min_accuracy_over_chance"
        )
    known = section(known, settings)
    if "steps" in settings and "epochs" in settings:
        raise InputError("the budget is given in epochs= or in steps=, not in both")
    if space is None:
        known["min_accuracy_over_chance"] = 0.0  # who calls looks at the accuracy
    else:
        known["memory_format"] = "channels_last" if space.layout.channels_last else "contiguous"
    recipe = recipes.training(config, known, config["objective"])
    kind_of = NetworkTraining if space is None else SubspaceTraining
    validate(kind_of, "fit", recipe)
    if recipe["optimizer"]["lr"] <= 0:
        raise InputError(f"the learning rate {recipe['optimizer']['lr']} must be above 0")
    return recipe


def _module(what: nn.Module | Subspace, recipe: Mapping[str, Any], common: Mapping[str, Any]) -> EndpointModule:
    if not isinstance(what, Subspace):
        made: EndpointModule = build(recipe["module"], network=what, **common)
        return made
    if not free_points(what.curve):
        raise InputError(f"{type(what.curve).__name__} has no free control point: there is nothing to fit")
    _refuse_decay(common["optimizer"])
    return SubspaceModule(
        curve=what.curve,
        layout=what.layout,
        ends=[what.layout.pack(state) for state in what.ends],
        free="inner",
        transforms=what.transforms,
        weight_decay=recipe["weight_decay"],
        ema_decay=recipe["ema_decay"],
        network=what.network,
        **common,
    )


def _refuse_decay(optimizer: Optimizer) -> None:
    """Raises InputError for an optimizer that decays control points, beside the decay of the weights at u."""
    decay = optimizer([nn.Parameter(torch.zeros(1))]).defaults.get("weight_decay", 0)
    if decay:
        raise InputError(
            f"the optimizer's weight_decay={decay} would act on control points: give it 0, and weight_decay= of the "
            "fit, which acts on the weights at each point of the subspace"
        )


def _batches(
    recipe: Mapping[str, Any], images: torch.Tensor, labels: torch.Tensor, augmentation: Augmentation, seed: int | str
) -> TrainingBatches:
    order = (recipe["batch_size"], augmentation, recipe["memory_format"], seed)
    if "steps" in recipe:
        return RepeatedBatches(epochs(recipe)[1], images, labels, *order)
    return TrainingBatches(images, labels, *order)


def _watched(recipe: Mapping[str, Any], part: LabelledImages, device: torch.device) -> EvaluationBatches:
    most = recipe.get("watched_images")
    images, labels = part.images[:most].to(device), part.labels[:most].to(device)
    return EvaluationBatches(images, labels, recipe["batch_size"], recipe["memory_format"])


def _classes(network: nn.Module, part: LabelledImages, device: torch.device) -> int:
    """How many logits the network gives for an image. Raises InputError where images or labels are not for it."""
    shape = "x".join(map(str, part.images.shape[1:]))
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(2, *part.images.shape[1:], device=device))
    except RuntimeError as error:
        raise InputError(f"the network cannot take images {shape}: {str(error).splitlines()[0]}") from None
    if logits.dim() != 2:
        raise InputError(f"the network gives {tuple(logits.shape)} for 2 images; (2, C) logits are needed")
    count = int(logits.shape[1])
    lowest, highest = int(part.labels.min()), int(part.labels.max())
    if lowest < 0 or highest >= count:
        wrong = highest if highest >= count else lowest
        raise InputError(f"label {wrong} is none of the network's {count} classes, which are counted from 0")
    return count


def _runtime(device: torch.device) -> dict[str, Any]:
    """Lightning's words for a device."""
    if device.type == "cpu":
        return {"accelerator": "cpu", "devices": 1, "strategy": "auto"}
    return {"accelerator": "gpu", "devices": [device.index or 0], "strategy": "auto"}
