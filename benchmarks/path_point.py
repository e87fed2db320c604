"""A clean point of a path: this package's walk against the published procedure, at CIFAR-10's size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from benchmarks import subject
from benchmarks.paired import publish, ratio, timed
from benchmarks.reference import path_point as published
from benchmarks.reference.loading import loader
from mcr.curves.bezier import Bezier
from mcr.datasets.augment import Augmentation
from mcr.datasets.batches import EvaluationBatches, augmented_batches
from mcr.numerics.precision import Precision
from mcr.probes.risk import Risk
from mcr.weightspace.subspace import State, Subspace

TRAIN, TEST = 50_000, 10_000
FEW = 2048  # images for BatchNorm, and of the training set: evaluation=path
WORKERS = 4  # the published code's
REPEATS = {"small_vgg": 2, "preresnet26": 1}


class Path:
    """A path between two networks, ready to be walked by this package's code.

    Args:
        network: Moved along it.
        ends: State dicts.
        memory_format: Of network and images.
    """

    def __init__(self, network: nn.Module, ends: tuple[State, State], memory_format: str) -> None:
        order = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
        self.network, self.ends, self.memory_format = network.to(memory_format=order), ends, memory_format

    def metrics(
        self, grid: list[float], parts: Mapping[str, tuple[Tensor, Tensor]], precision: Precision
    ) -> list[dict[str, Tensor]]:
        """Per-image values at each t.

        Args:
            grid: Values of t.
            parts: uint8 images and labels of "batchnorm", "train" and "test".
            precision: Of all passes.
        """

        def calibration() -> Iterator[Tensor]:
            return augmented_batches(parts["batchnorm"][0], Augmentation(4, 0.5), 512, self.memory_format, 0)

        space = Subspace(self.network, Bezier(3), self.ends, calibration, self.memory_format, precision, [])
        probe, found = Risk(precision), []
        for t in grid:
            network = space.at(torch.tensor([t], dtype=torch.float64))
            values = {}
            for name in ("train", "test"):
                data = EvaluationBatches(*parts[name], subject.BATCH, self.memory_format)
                answers = probe(network, data, torch.Generator())
                values |= {f"{name}_{metric}": value for metric, value in answers.items()}
            found.append(values)
        return found


def forms(name: str) -> dict[str, Callable[[], object]]:
    """What one network's point costs, in each form."""
    train, test = subject.pixels(TRAIN), subject.pixels(TEST)
    network = subject.network(name)
    augmented = loader(*train, augmented=True, batch_size=subject.BATCH, workers=WORKERS)
    plain = [loader(*part, augmented=False, batch_size=subject.BATCH, workers=WORKERS) for part in (train, test)]

    def procedure() -> None:
        published.refresh(network, augmented)
        for part in plain:
            published.risk(network, part)

    path = Path(subject.network(name), (subject.network(name, 1).state_dict(), network.state_dict()), "channels_last")
    few = {"batchnorm": subject.pixels(FEW), "train": subject.pixels(FEW), "test": test}
    every = {"batchnorm": train, "train": train, "test": test}
    return {
        f"{name}, published": procedure,
        f"{name}, bf16": lambda: path.metrics([0.5], few, "bf16"),
        f"{name}, fp32": lambda: path.metrics([0.5], few, "fp32"),
        f"{name}, bf16, all images": lambda: path.metrics([0.5], every, "bf16"),
    }


def main() -> None:
    rows, times = [], {}
    for name, repeats in REPEATS.items():
        found = timed(forms(name), repeats, warmups=0)
        times |= found
        rows.append(ratio(found, f"{name}, bf16", f"{name}, published", 0.06, f"{repeats} repeats"))
        rows.append(ratio(found, f"{name}, fp32", f"{name}, published"))
        rows.append(ratio(found, f"{name}, bf16, all images", f"{name}, published"))
    what = (
        f"Clean losses at one point of a path, BatchNorm estimated anew. Published: {TRAIN} augmented images for "
        f"BatchNorm, then {TRAIN} training and {TEST} test images, through PIL with {WORKERS} workers. Ours: {FEW}, "
        f"{FEW} and {TEST} images; 'all images': as many as published."
    )
    publish("path_point", what, rows, {}, times)


if __name__ == "__main__":
    main()
