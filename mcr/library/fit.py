"""Fitting a network or a subspace to a user's images."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, RepeatedBatches, TrainingBatches
from mcr.errors import InputError
from mcr.library.data import Data, LoaderBatches, check_labels, labelled
from mcr.library.recipe import FROM_CONFIG, Optimizer, recipe_of
from mcr.library.subspace import AS_THEY_ARE, Subspace
from mcr.objectives.objective import Objective
from mcr.penalties.penalty import Penalty
from mcr.sampling.sampler import Sampler
from mcr.schedules.schedule import Schedule
from mcr.stages.train import epochs, parts
from mcr.store.build import build_tree
from mcr.training.endpoint import EndpointModule
from mcr.training.fit import Fitted
from mcr.training.fit import fit as train
from mcr.training.subspace import SubspaceModule
from mcr.types import LabelledImages
from mcr.weightspace.subspace import inner_points


def fit(
    what: nn.Module | Subspace,
    data: Data,
    *,
    objective: str | Objective = FROM_CONFIG,
    optimizer: str | Optimizer = FROM_CONFIG,
    schedule: str | Schedule = FROM_CONFIG,
    sampling: str | Sampler = FROM_CONFIG,
    penalty: Penalty | None = None,
    validation: Data | None = None,
    augmentation: Augmentation = AS_THEY_ARE,
    suspects: Sequence[nn.Module] = (),
    seed: int | str = 0,
    **settings: Any,
) -> Fitted:
    """Train a network, or move the free control points of a subspace so that the objective is low all over it.

    An adversarially trained network and a robust path are one objective given to two things.

    Works in place: a network ends trained and in evaluation mode; of a subspace the free control points move from
    where they are, and a network that its ``at`` gave before is no longer the one at that place. After an error the
    weights may be anything.

    Args:
        what: A network that takes images in [0, 1], or a subspace.
        data: Training images. Tensors and data sets are shuffled and augmented here, the same for the same seed; a
            ``DataLoader`` keeps its own order, batch size and augmentation, and with them its own randomness.
        objective: Name of an option ("cross_entropy", "adversarial", "trades", ...) or an object. "default", here and
            below, is what the command line has: cross_entropy, sgd, flat_linear_flat, uniform.
        optimizer: Likewise ("sgd", "adamw"), or a function of the parameters.
        schedule: Likewise, of the learning rate.
        sampling: Likewise, of the places at which a subspace is fitted ("uniform", "sobol", "edges", ...).
        penalty: Of a subspace, on where its control points lie: ``mcr.option("penalty", "volume")``, ...
        validation: Images that are looked at after each epoch, needed to keep the best one (which is the default of a
            network that is trained under attack) or to stop early. A subspace is looked at under attack only, on the
            first ``watched_images`` of them.
        augmentation: Of the training images.
        suspects: Networks that ``module=`` is shown, where it trains a network away from them.
        seed: Of everything that is drawn.
        **settings: ``lr`` of a named optimizer; ``steps`` instead of ``epochs``; for a network the keys of the option
            ``endpoint=standard`` or, where the objective attacks, ``endpoint=adversarial`` (batch_size, keep, patience,
            precision, module, ...); for a subspace those of the section ``fit`` (weight_decay, ema_decay, ... as well).

    Returns:
        One row of metrics an epoch, and why it ended early, if it did.

    Raises:
        InputError: For a wrong setting, data that do not fit the network, or a training that diverged.
    """
    space = what if isinstance(what, Subspace) else None
    network = space.network if space else what
    if not isinstance(network, nn.Module):
        raise InputError(f"a network or a subspace is fitted, no {type(what).__name__}")
    if space is None and sampling != FROM_CONFIG:
        raise InputError("sampling= is of the places of a subspace: a network has none")
    if space is None and penalty is not None:
        raise InputError("penalty= is on the control points of a subspace: a network has none")
    recipe = recipe_of(space, objective, optimizer, schedule, settings, sampling)
    built = parts(recipe) | {
        name: given
        for name, given in (("objective", objective), ("optimizer", optimizer), ("schedule", schedule))
        if not isinstance(given, str)
    }
    loader = data if isinstance(data, DataLoader) else None
    with torch.random.fork_rng(devices=[]):  # a loader draws from the global generator when it begins
        part = LabelledImages(*next(iter(loader))) if loader is not None else labelled(data)
    device = next(network.parameters()).device
    _check_watching(space, validation, recipe, built["objective"])
    count = _count_classes(network, part, device)
    common = {"num_classes": count, "seed": str(seed), **built}
    network.train()  # counting left it in evaluation mode, and Lightning does not switch
    sampler = build_tree(recipe["sampling"]) if space and isinstance(sampling, str) else sampling
    shown: dict[str, Any] = {"suspects": list(suspects)} if suspects else {}
    shown |= {"penalty": penalty} if penalty else {}
    module = _module(what, recipe, common | shown, sampler)
    batches: LoaderBatches | TrainingBatches
    if loader is not None:
        own = {"steps", "batch_size"} & set(settings) | ({"augmentation"} if augmentation is not AS_THEY_ARE else set())
        if own:
            raise InputError(
                f"a DataLoader has its own {' and '.join(sorted(own))}: give epochs=, or images as tensors"
            )
        batches = LoaderBatches(loader, recipe["memory_format"], count)
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
    network.to(device)  # Lightning leaves it on the CPU
    if isinstance(module, SubspaceModule):
        points = module.final_points()
        assert space is not None
        space.set_inner_points([points[index] for index in module.fitted])
    else:
        network.load_state_dict(module.scored.state_dict())  # which may be an average over steps
        network.eval()
    return fitted


def _module(
    what: nn.Module | Subspace, recipe: Mapping[str, Any], common: Mapping[str, Any], sampler: Any
) -> EndpointModule:
    if not isinstance(what, Subspace):
        trained: EndpointModule = build_tree(recipe["module"], network=what, **common)
        return trained
    if not inner_points(what.curve):
        raise InputError(f"{type(what.curve).__name__} has no free control point: there is nothing to fit")
    _refuse_decay(common["optimizer"])
    return SubspaceModule(
        sampler=sampler,
        places=recipe["places"],
        curve=what.curve,
        layout=what.layout,
        points=what.points,  # where they are: blends of the ends, or what was fitted or set before
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


def _check_watching(
    space: Subspace | None, validation: Data | None, recipe: Mapping[str, Any], objective: Objective
) -> None:
    """Raises InputError where validation images are needed, or would not be looked at."""
    best = recipe["keep"] == "best" or recipe["patience"] > 0
    if space is not None and not objective.attacks and (validation is not None or best):
        raise InputError(
            "a subspace is looked at after each epoch only where the objective attacks: leave out validation=, keep= "
            "and patience="
        )
    if validation is None and best:
        raise InputError("the best epoch is told by validation images: give validation=, or keep='last', patience=0")


def _count_classes(network: nn.Module, part: LabelledImages, device: torch.device) -> int:
    """How many logits the network gives for an image; leaves it in evaluation mode.

    Raises:
        InputError: Where images or labels are not for it.
    """
    shape = "x".join(map(str, part.images.shape[1:]))
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(2, *part.images.shape[1:], device=device))
    except RuntimeError as error:
        raise InputError(f"the network cannot take images {shape}: {str(error).splitlines()[0]}") from None
    if logits.dim() != 2:
        raise InputError(f"the network gives {tuple(logits.shape)} for 2 images; (2, C) logits are needed")
    count = int(logits.shape[1])
    check_labels(part.labels, count)
    return count


def _runtime(device: torch.device) -> dict[str, Any]:
    """Lightning's words for a device."""
    if device.type == "cpu":
        return {"accelerator": "cpu", "devices": 1, "strategy": "auto"}
    return {"accelerator": "gpu", "devices": [device.index or 0], "strategy": "auto"}
