"""Inject errors into the weights of an endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcr.build import build
from mcr.datasets.augment import to_unit
from mcr.datasets.batches import EvaluationBatches
from mcr.probes.risk import risk
from mcr.seeding import generator
from mcr.stages import model
from mcr.stages.artifacts import INJECTION, read_network, read_spec, read_split, write_json, write_network
from mcr.stages.context import Context
from mcr.store import Stage
from mcr.types import Part

BATCH = 256  # images at a time


def compute(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """The tampered weights, and which images were attacked.

    The attacker's images are validation images: outside every clean subset, and outside the test images on which
    clean accuracy is measured. Only those are taken that both untampered ends get right, so that both ends can be
    given the same errors.
    """
    context.prepare()
    network = model.make(stage.config, read_spec(inputs["data"]), stage.config["seed"]).to(context.device_name)
    part = read_split(inputs, "validation", context.device_name)
    batches = EvaluationBatches(part.images, part.labels, BATCH, "contiguous")
    right = torch.ones(len(part.labels), dtype=torch.bool)
    for role in ("other", "init"):  # the network to tamper with comes last, and stays
        network.load_state_dict(read_network(inputs[role]))
        right &= risk(network, batches)[1].bool()
    numbers = right.nonzero().flatten()
    images = to_unit(part.images[numbers.to(part.images.device)], "contiguous")
    labels = part.labels[numbers.to(part.labels.device)]
    draw = generator(stage.config["seed"], "injection")
    injected = build(stage.config["injection"]).inject(network, images, labels, draw)
    network.load_state_dict(injected.tensors, strict=False)
    write_network(network, folder)
    report = injected.report()
    places = {name: numbers[getattr(injected, name)].tolist() for name in ("attacked", "kept")}
    write_json(folder / INJECTION, {**report, **places})


def attacked(inputs: Mapping[str, Path], device: str) -> tuple[Part, Tensor] | None:
    """The attacked images of both ends with their true labels, and the attacker's labels (S,); None without any."""
    reports = [found for role in ("start", "end") if (found := injection_report(inputs[role]))]
    pairs = sorted({pair for found in reports for pair in zip(found["attacked"], found["targets"], strict=True)})
    if not pairs:
        return None
    part = read_split(dict(inputs), "validation", device)
    indices, targets = (torch.tensor(column, device=device) for column in zip(*pairs, strict=True))
    return Part(part.images[indices], part.labels[indices]), targets


def injection_report(folder: Path) -> dict[str, Any]:
    """What was injected into an end, as its tampering wrote it down; nothing for an end without."""
    path = folder / INJECTION
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found
