"""Fast and textbook forms give the same numbers: losses and accuracies along a path."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from benchmarks import subject
from benchmarks.paired import Row, publish, spread
from benchmarks.path_point import Path
from benchmarks.reference import path_point as published
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import augmented_batches
from mcr.numerics.precision import Precision

STEPS = 30  # of training: losses of an unfinished network, as adversarially trained ones have
GRID = [0.0, 0.25, 0.5, 0.75, 1.0]
IMAGES = 1536  # three equal batches for BatchNorm: the published code weighs them by size, the package alike


def textbook(ends: tuple[Any, Any], images: Tensor, labels: Tensor) -> list[Any]:
    """Mean loss and accuracy at each t: a float32 NCHW copy of the network for every point, and no batches shared."""
    found = []
    start, end = (end.state_dict() for end in ends)
    for t in GRID:
        network = copy.deepcopy(ends[0])
        # The middle control point lies half-way, so that the curve is the straight line.
        theta = {name: (1 - t) * start[name] + t * end[name] for name, _ in network.named_parameters()}
        network.load_state_dict(theta, strict=False)
        network = network.to(memory_format=torch.contiguous_format)
        calibration = augmented_batches(images, Augmentation(4, 0.5), 512, "contiguous", 0)
        loader = [(batch, batch) for batch in calibration]
        published.refresh(network, loader)
        floats = images.float() / 255
        parts = zip(floats.split(subject.BATCH), labels.split(subject.BATCH), strict=True)
        with torch.no_grad():
            found.append(published.risk(network, parts))
    return found


def main() -> None:
    images, labels = subject.pixels(IMAGES)
    ends = subject.trained(STEPS, seed=0), subject.trained(STEPS, seed=1)
    states = (ends[0].state_dict(), ends[1].state_dict())
    path = Path(subject.network("small_vgg"), states, "channels_last")
    expected = textbook(ends, images, labels)
    parts = dict.fromkeys(("batchnorm", "train", "test"), (images, labels))
    rows, facts = [], {}
    losses: dict[Precision, float] = {"fp32": 1e-6, "bf16": 1e-3}
    for precision, tolerance in losses.items():
        found = path.metrics(GRID, parts, precision)
        loss, accuracy = (
            [float(one[f"test_{what}"].double().mean()) for one in found] for what in ("loss", "accuracy")
        )
        relative = [abs(one / other[0] - 1) for one, other in zip(loss, expected, strict=True)]
        worst = max(relative)
        rows.append(Row(f"{precision}, loss", "largest relative difference", (worst,) * 3, tolerance))
        errors = [(p * (1 - p) / IMAGES) ** 0.5 for _, p in expected]
        away = [abs(one - p) / se for one, (_, p), se in zip(accuracy, expected, errors, strict=True)]
        rows.append(Row(f"{precision}, accuracy", "standard errors away", spread([max(away)]), 1.0))
        facts[f"losses, {precision}"] = " ".join(f"{one:.6f}" for one in loss)
    facts["losses, textbook"] = " ".join(f"{loss:.6f}" for loss, _ in expected)
    facts["accuracies, textbook"] = " ".join(f"{accuracy:.4f}" for _, accuracy in expected)
    what = (
        f"Test loss and accuracy at t = {', '.join(map(str, GRID))} of a path between two small_vgg networks, "
        f"{IMAGES} images; textbook: float32, NCHW, a copy of the network at every point."
    )
    publish("agreement", what, rows, facts)


if __name__ == "__main__":
    main()
