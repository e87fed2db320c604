"""Ask the networks before anything is trained with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mcr.datasets import classes
from mcr.datasets.batches import EvaluationBatches
from mcr.errors import InputError
from mcr.evaluation.class_order import ClassOrder, more_often_right
from mcr.probes.risk import predictions
from mcr.stages import session
from mcr.stages.artifacts import PRECHECK, read_material, read_spec
from mcr.stages.context import Context
from mcr.store import jsonfile
from mcr.store.stage import Stage
from mcr.types import LabelledImages
from mcr.weightspace.states import load_state

log = logging.getLogger("mcr")


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Accuracies on the held-out images, and what is to be said of those on all of them.

    Raises:
        InputError: Where no network does better than guessing.
    """
    config = stage.config
    context.prepare()
    spec = read_spec(inputs["data"])
    network = session.network(config, inputs, context, config["seed"], config["memory_format"])
    parts = [part for part in read_material(inputs, config["material"], context.device_name) if len(part.labels)]
    labels = np.concatenate([part.labels.cpu().numpy() for part in parts])
    held = len(parts[-1].labels)
    answers = {}
    for name, state in zip(config["ends"], session.ends(inputs), strict=True):
        load_state(network, state)
        answers[name] = _predictions(network, parts, config)
    right = {name: float((found == labels)[-held:].mean()) for name, found in answers.items()}
    orders = {name: ClassOrder.of(found, labels, len(spec.classes)) for name, found in answers.items()}
    explained = {name: order for name, order in orders.items() if order.explains(config["level"], config["far"])}
    which = f"{len(labels)} {config['material']['split']} images"
    lines = _reordered(stage, explained, spec.classes, labels, which)
    floor = config["min_accuracy_over_chance"]
    if max(right.values()) < floor / len(spec.classes):
        advice = "; ".join(lines) or (
            f"is their class order {', '.join(spec.classes)}, and normalization= the one that they were trained with?"
        )
        raise InputError(
            f"the networks are right on {' and '.join(map(_percent, right.values()))} % of the held-out clean images, "
            f"hardly more than by guessing: {advice}; training.min_accuracy_over_chance=0 repairs them all the same"
        )
    others = {name: found == labels for name, found in answers.items() if name not in explained}
    lines += _lower(others, len(spec.classes), which, config)
    for line in lines:
        log.warning("  %-22s %s", stage.label, line)
    jsonfile.write(folder / PRECHECK, {"accuracy": right, "warnings": lines})


def _reordered(
    stage: Stage, explained: Mapping[str, ClassOrder], names: Sequence[str], labels: NDArray[np.int64], which: str
) -> list[str]:
    """A line for each order of the classes that explains what networks answer far better than the given one."""
    networks: dict[str, list[str]] = {}
    for network, order in explained.items():
        outputs = [classes.NOBODY] * len(names)  # an output that no image asks for stands for no class
        for label in np.unique(labels):
            outputs[order.outputs[label]] = names[label]
        if isinstance(stage.needs["data"].config["dataset"].get("classes"), str | list):
            advice = f"try {classes.option(outputs)}"
        else:
            advice = f"they seem to be {', '.join(outputs)}"
        networks.setdefault(advice, []).append(network)
    lines = []
    for advice, members in networks.items():
        given, found = (
            " and ".join(_percent(value) for value in shares)
            for shares in zip(*((explained[name].given, explained[name].found) for name in members), strict=True)
        )
        lines.append(
            f"{' and '.join(members)} {'is' if len(members) == 1 else 'are'} right on {given} % of the {which}, and "
            f"would be on {found} % with the classes in another order: {advice}"
        )
    return lines


def _lower(hits: Mapping[str, NDArray[np.bool_]], classes: int, which: str, config: Mapping[str, Any]) -> list[str]:
    """Networks that are far below another one, or right on few images, for another reason than the classes' order.

    Args:
        hits: Which images each network is right on (N,).
        classes: C.
        which: What the images are.
        config: ``level``, ``far`` and ``low``.
    """
    right = {name: float(found.mean()) for name, found in hits.items()}
    best = max(right, key=lambda name: right[name], default="")
    lines = []
    for name, share in right.items():
        apart = right[best] - share >= config["far"] and more_often_right(hits[best], hits[name]) < config["level"]
        if not apart and share >= 1 / classes + config["low"] * (1 - 1 / classes):
            continue
        than = f", {best} on {_percent(right[best])} %" if apart else ", few for a trained network"
        lines.append(
            f"{name} is right on {_percent(share)} % of the {which}{than}: compare the classes and their order, "
            "normalization=, and the size and colours of the images with those that it was trained with"
        )
    return lines


def _predictions(network: nn.Module, parts: Sequence[LabelledImages], config: Mapping[str, Any]) -> NDArray[np.int64]:
    """The answers to all images of the parts (N,)."""
    batches = [EvaluationBatches(p.images, p.labels, config["batch_size"], config["memory_format"]) for p in parts]
    return np.concatenate([predictions(network, found).numpy() for found in batches])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
